//! A histogram of durations.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Durations, counted by their length. Any thread may record.
#[derive(Debug, Default)]
pub struct DurationHistogram {
    /// One for each bound, and the last for what is above all of them.
    counts: [AtomicU64; Self::BOUNDS_NS.len() + 1],
    sum_ns: AtomicU64,
}

impl DurationHistogram {
    /// The inclusive upper bounds in nanoseconds, each about twice the one before.
    ///
    /// A delivery costs some microseconds: the first bounds tell small rooms apart, the last ones are a
    /// room of 10,000 members on a busy core. Commits of a fast and of a slow disk are within them, too.
    pub const BOUNDS_NS: [u64; 15] = [
        50_000,
        100_000,
        250_000,
        500_000,
        1_000_000,
        2_500_000,
        5_000_000,
        10_000_000,
        25_000_000,
        50_000_000,
        100_000_000,
        250_000_000,
        500_000_000,
        1_000_000_000,
        2_500_000_000,
    ];

    /// Counts one.
    pub fn record(&self, took: Duration) {
        let took_ns = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let bucket = Self::BOUNDS_NS.partition_point(|bound| *bound < took_ns);
        self.counts[bucket].fetch_add(1, Relaxed);
        self.sum_ns.fetch_add(took_ns, Relaxed);
    }

    /// How many fell between each bound and the one before it, and at last above all of them.
    pub(super) fn counts(&self) -> [u64; Self::BOUNDS_NS.len() + 1] {
        std::array::from_fn(|bucket| self.counts[bucket].load(Relaxed))
    }

    pub(super) fn sum_seconds(&self) -> f64 {
        self.sum_ns.load(Relaxed) as f64 / 1e9
    }
}
