//! How long a shard's thread has worked, to tell how near it is to its limit.
//!
//! The kernel counts that for each thread, and a scrape reads it, so a turn reads no clock for it. The time between the end
//! of the wait and the beginning of the next one would leave out the sends that the call which waits makes first.

use std::sync::atomic::{AtomicI32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use procfs::process::Process;

use super::Counter;

/// Written by the shard's thread, read by any thread.
#[derive(Debug, Default)]
pub struct BusyTime {
    /// The kernel's id of the thread; 0 until it runs.
    thread: AtomicI32,
    /// Nanoseconds in which the thread has only looked for something to do, with `--busy-poll`.
    polled_ns: Counter,
    /// The total that was told last. Both parts are read one after the other, and rounded; the total must not shrink.
    told_ns: AtomicU64,
}

impl BusyTime {
    /// From now on the calling thread is measured.
    pub fn measure_this_thread(&self) {
        self.thread.store(rustix::thread::gettid().as_raw_nonzero().get(), Relaxed);
    }

    /// Adds time in which the thread has only looked for something to do.
    pub fn add_polled(&self, time: Duration) {
        self.polled_ns.add(time.as_nanos() as u64);
    }

    /// How long the thread has worked so far, or waited for a core that others used; `None` where the kernel does not tell.
    #[must_use]
    pub fn total(&self) -> Option<Duration> {
        let thread = self.thread.load(Relaxed);
        if thread == 0 {
            // It has not begun.
            return Some(Duration::ZERO);
        }
        let task = Process::myself().ok()?.task_from_tid(thread).ok()?;
        let ran_ns = match task.schedstat() {
            Ok(stat) => stat.sum_exec_runtime + stat.run_delay,
            // A kernel without CONFIG_SCHED_INFO: in steps of 10 ms, and without the time of waiting for a core.
            Err(_) => {
                let stat = task.stat().ok()?;
                (stat.utime + stat.stime) * (1_000_000_000 / procfs::ticks_per_second())
            }
        };
        Some(self.tell(ran_ns))
    }

    fn tell(&self, ran_ns: u64) -> Duration {
        let busy_ns = ran_ns.saturating_sub(self.polled_ns.get());
        Duration::from_nanos(self.told_ns.fetch_max(busy_ns, Relaxed).max(busy_ns))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looking_for_something_to_do_is_no_work_and_the_total_never_shrinks() {
        let busy = BusyTime::default();
        assert_eq!(busy.tell(30_000_000), Duration::from_millis(30));
        busy.add_polled(Duration::from_millis(20));
        assert_eq!(busy.tell(40_000_000), Duration::from_millis(30), "the kernel's count is late");
        assert_eq!(busy.tell(60_000_000), Duration::from_millis(40));
    }

    #[test]
    fn a_thread_that_works_is_busy() {
        let busy = BusyTime::default();
        assert_eq!(busy.total(), Some(Duration::ZERO), "no thread yet");
        busy.measure_this_thread();
        // Bounded: 20 ms of work pass.
        let is_seen = (0..10_000_000).any(|_| busy.total() >= Some(Duration::from_millis(20)));
        assert!(is_seen);
    }
}
