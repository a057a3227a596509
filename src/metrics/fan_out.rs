//! How long fan-outs take, by the size of the room.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use super::{Labelled, RoomSizeClass};

/// How long it takes to deliver an event, by the size of the room.
#[derive(Debug, Default)]
pub struct FanOutHistogram {
    pub(super) series: Labelled<FanOutSeries, RoomSizeClass, { RoomSizeClass::ALL.len() }>,
}

#[derive(Debug, Default)]
pub(super) struct FanOutSeries {
    /// One for each bound, and the last for what is above all of them.
    pub(super) counts: [AtomicU64; FanOutHistogram::BOUNDS_NS.len() + 1],
    pub(super) sum_ns: AtomicU64,
}

impl FanOutHistogram {
    /// The inclusive upper bounds in nanoseconds, each about twice the one before.
    ///
    /// A delivery costs some microseconds: the first bounds tell small rooms apart, the last ones are a
    /// room of 10,000 members on a busy core.
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

    /// Counts one delivery that took this long.
    pub fn record(&self, class: RoomSizeClass, took: Duration) {
        let took_ns = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let series = self.series.with(class);
        let bucket = Self::BOUNDS_NS.partition_point(|bound| *bound < took_ns);
        // The thread that sends the last byte records, and that may be another shard's.
        series.counts[bucket].fetch_add(1, Relaxed);
        series.sum_ns.fetch_add(took_ns, Relaxed);
    }
}
