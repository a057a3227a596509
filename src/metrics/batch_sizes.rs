//! A histogram of how many proposals batches have.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Batches, counted by the number of their proposals. Any thread may record.
#[derive(Debug, Default)]
pub struct BatchSizeHistogram {
    /// One for each bound, and the last for what is above all of them.
    counts: [AtomicU64; Self::BOUNDS.len() + 1],
    sum: AtomicU64,
}

impl BatchSizeHistogram {
    /// The inclusive upper bounds. Canaries, and batches without load, have one proposal; 512 are the most.
    pub const BOUNDS: [u64; 10] = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512];

    /// Counts a batch of so many proposals.
    pub fn record(&self, proposals: usize) {
        let bucket = Self::BOUNDS.partition_point(|bound| *bound < proposals as u64);
        self.counts[bucket].fetch_add(1, Relaxed);
        self.sum.fetch_add(proposals as u64, Relaxed);
    }

    /// How many fell between each bound and the one before it, and at last above all of them.
    pub(super) fn counts(&self) -> [u64; Self::BOUNDS.len() + 1] {
        std::array::from_fn(|bucket| self.counts[bucket].load(Relaxed))
    }

    pub(super) fn sum(&self) -> u64 {
        self.sum.load(Relaxed)
    }
}
