//! Time for the state machines: a value that is passed in. (The only one that reads a clock is a measurement, on
//! which no decision depends: [`crate::rooms::FanOutTimer`].)

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// One moment, on three clocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Milliseconds since the server started, without those in which the thread could not run (see [`RunningClock`]); never
    /// goes back. For every deadline of one thread.
    pub monotonic_ms: u64,
    /// All milliseconds since the server started; never goes back. For times that threads share.
    pub uptime_ms: u64,
    /// Whole seconds since 1970, UTC. For every timestamp that a client sees.
    pub unix_seconds: u64,
}

/// The source of [`Now`] in a running server.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    started: Instant,
}

impl Clock {
    /// A clock that starts now.
    #[must_use]
    pub fn start() -> Self {
        Self { started: Instant::now() }
    }

    /// The present moment.
    #[must_use]
    pub fn now(&self) -> Now {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        let uptime_ms = self.started.elapsed().as_millis() as u64;
        Now { monotonic_ms: uptime_ms, uptime_ms, unix_seconds: unix.as_secs() }
    }
}

/// Whole seconds since 1970, UTC, for threads that only note when something happened.
#[must_use]
pub fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs()
}

/// A reading that is later than this stops the clock for the delay: more than a busy turn takes, and less than any
/// deadline that matters.
const LATE_MS: u64 = 1_000;

/// A clock for the deadlines of one thread, which stops while the thread cannot run.
///
/// While a process is stopped, a virtual machine frozen or a write blocked, the thread receives nothing, so it must
/// not call its clients silent. So the thread says when it will read the clock again, and if a reading is late, the
/// delay is left out of the time. A pause within a sleep that ends before that time cannot be noticed; no deadline
/// has passed in it.
#[derive(Debug)]
pub struct RunningClock {
    clock: Clock,
    /// The total time in which the thread could not run.
    lost_ms: u64,
    /// When the next reading is due.
    expected_ms: u64,
}

impl RunningClock {
    /// A clock that has not stopped yet.
    #[must_use]
    pub fn new(clock: Clock) -> Self {
        Self { clock, lost_ms: 0, expected_ms: u64::MAX }
    }

    /// The present moment.
    pub fn now(&mut self) -> Now {
        let mut now = self.clock.now();
        now.monotonic_ms = self.elapse(now.uptime_ms);
        now
    }

    /// The thread goes to sleep, at most until this moment, or without a limit.
    pub fn sleep_until(&mut self, due_ms: Option<u64>) {
        self.expected_ms = due_ms.unwrap_or(u64::MAX);
    }

    /// The time at a reading of the clock. Until the next one the thread works, unless it says that it sleeps.
    fn elapse(&mut self, monotonic_ms: u64) -> u64 {
        let mut now_ms = monotonic_ms - self.lost_ms;
        let late_ms = now_ms.saturating_sub(self.expected_ms);
        if late_ms > LATE_MS {
            self.lost_ms += late_ms;
            now_ms = self.expected_ms;
        }
        self.expected_ms = now_ms;
        now_ms
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clock() -> RunningClock {
        RunningClock::new(Clock::start())
    }

    #[test]
    fn time_passes_while_the_thread_is_at_work_or_asleep() {
        let mut clock = clock();
        assert_eq!(clock.elapse(100), 100);
        assert_eq!(clock.elapse(100 + LATE_MS), 100 + LATE_MS);
        clock.sleep_until(None);
        assert_eq!(clock.elapse(1_000_000), 1_000_000);
        clock.sleep_until(Some(1_030_000));
        assert_eq!(clock.elapse(1_020_000), 1_020_000, "woken before its time");
    }

    #[test]
    fn time_stands_still_while_the_thread_cannot_run() {
        let mut clock = clock();
        assert_eq!(clock.elapse(100), 100);
        assert_eq!(clock.elapse(5_100), 100, "five seconds within a turn");
        assert_eq!(clock.elapse(5_200), 200);
        clock.sleep_until(Some(1_200));
        assert_eq!(clock.elapse(60_000), 1_200, "it was to be back long ago");
        assert_eq!(clock.elapse(60_300), 1_500);
    }
}
