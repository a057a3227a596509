//! The one clock of a run: nanoseconds of `CLOCK_MONOTONIC` since the process began to measure.

use std::time::{Duration, Instant};

/// A copyable clock. All threads hold the same epoch, so their times can be compared.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    epoch: Instant,
}

impl Clock {
    /// A clock that starts now.
    #[must_use]
    pub fn start() -> Self {
        Self { epoch: Instant::now() }
    }

    /// Nanoseconds since the epoch.
    #[must_use]
    pub fn now_ns(&self) -> u64 {
        nanoseconds(self.epoch.elapsed())
    }
}

/// A duration in whole nanoseconds; saturates after 584 years.
#[must_use]
pub fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
