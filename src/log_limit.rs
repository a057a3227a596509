//! Limits log lines that clients can cause: at most one a second of each kind, with the number of lines left out.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

/// The least time between two lines of a kind: short enough to follow what happens, and too long to fill a disk.
pub const LOG_INTERVAL_MS: u64 = 1_000;

/// When this process first used a limit.
static BEGIN: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Limits the lines of one kind. Threads may share it, for example in a `static`.
///
/// ```
/// use uproar::log_limit::LogLimit;
///
/// static REFUSED: LogLimit = LogLimit::new();
///
/// if let Some(left_out) = REFUSED.allow() {
///     tracing::info!(left_out, "upgrade refused");
/// }
/// ```
#[derive(Debug, Default)]
pub struct LogLimit {
    /// When the next line may be written.
    next_ms: AtomicU64,
    /// Lines that were left out since the last one.
    left_out: AtomicU64,
}

impl LogLimit {
    /// A limit for a kind without lines so far.
    #[must_use]
    pub const fn new() -> Self {
        Self { next_ms: AtomicU64::new(0), left_out: AtomicU64::new(0) }
    }

    /// `Some` when a line may be written now, with the number of lines left out since the last one; `None` when it
    /// may not, which counts it as left out.
    #[must_use]
    pub fn allow(&self) -> Option<u64> {
        let since_begin = BEGIN.elapsed().as_millis();
        self.allow_at(u64::try_from(since_begin).unwrap_or(u64::MAX))
    }

    /// As [`Self::allow`], for callers with a monotonic clock of their own, in milliseconds. All calls of a limit
    /// must use the same clock.
    #[must_use]
    pub fn allow_at(&self, now_ms: u64) -> Option<u64> {
        // Relaxed: the two values guard nothing, and a line that is counted late is reported with the next one.
        let next_ms = self.next_ms.load(Relaxed);
        let later_ms = now_ms.saturating_add(LOG_INTERVAL_MS);
        if now_ms >= next_ms && self.next_ms.compare_exchange(next_ms, later_ms, Relaxed, Relaxed).is_ok() {
            return Some(self.left_out.swap(0, Relaxed));
        }
        self.left_out.fetch_add(1, Relaxed);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_has_one_line_that_counts_those_left_out_before() {
        let limit = LogLimit::new();
        let lines: Vec<_> = (0..41).filter_map(|n| limit.allow_at(n * 50)).collect();
        assert_eq!(lines, [0, 19, 19]);
    }

    #[test]
    fn a_pause_leaves_nothing_out() {
        let limit = LogLimit::new();
        assert_eq!([7, 1_007, 60_000].map(|now_ms| limit.allow_at(now_ms)), [Some(0); 3]);
    }

    #[test]
    fn threads_write_one_line_together() {
        let limit = LogLimit::new();
        let written: usize = std::thread::scope(|scope| {
            let threads: Vec<_> =
                (0..4).map(|_| scope.spawn(|| (0..100).filter_map(|_| limit.allow_at(0)).count())).collect();
            threads.into_iter().map(|thread| thread.join().expect("no panic")).sum()
        });
        assert_eq!(written, 1);
        assert_eq!(limit.allow_at(LOG_INTERVAL_MS), Some(399));
    }

    #[test]
    fn a_limit_without_a_given_clock_uses_that_of_the_process() {
        let limit = LogLimit::new();
        assert_eq!((limit.allow(), limit.allow()), (Some(0), None));
    }
}
