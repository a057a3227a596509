//! The one clock of a run: nanoseconds of `CLOCK_MONOTONIC` since the process began to measure.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// A copyable clock. All threads hold the same epoch, so their times can be compared.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    epoch_ns: u64,
}

impl Clock {
    /// A clock that starts now.
    #[must_use]
    pub fn start() -> Self {
        Self { epoch_ns: monotonic_ns() }
    }

    /// Nanoseconds since the epoch.
    #[must_use]
    pub fn now_ns(&self) -> u64 {
        monotonic_ns() - self.epoch_ns
    }
}

/// Read several times a turn, hence without the checks of `Instant`, which take as long as the reading.
fn monotonic_ns() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// A duration in whole nanoseconds; saturates after 584 years.
#[must_use]
pub fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
