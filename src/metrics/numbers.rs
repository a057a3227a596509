//! A counter and a gauge, which one thread writes and any thread reads.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A number that only grows. Only one thread writes it.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `count`. With one writer a load and a store do, and cost a tenth of a locked addition.
    pub fn add(&self, count: u64) {
        self.0.store(self.0.load(Relaxed) + count, Relaxed);
    }

    /// The sum so far.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// A number that grows and shrinks, and is never below zero. Only one thread writes it.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU64);

impl Gauge {
    /// Sets the number.
    pub fn set(&self, value: usize) {
        self.0.store(value as u64, Relaxed);
    }

    /// Adds `count`.
    pub fn add(&self, count: usize) {
        self.0.store(self.0.load(Relaxed) + count as u64, Relaxed);
    }

    /// Takes away `count`, which has been added before.
    pub fn sub(&self, count: usize) {
        let before = self.0.load(Relaxed);
        debug_assert!(before >= count as u64, "what is taken from a gauge was added before");
        self.0.store(before.saturating_sub(count as u64), Relaxed);
    }

    /// The number now.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}
