//! How long a thread has work to do, which is what limits it, whether or not it polls in between.

use rustix::time::{ClockId, clock_gettime};

/// The total time of a thread's turns since it began.
///
/// A turn reaches from the end of the one before it, so that looking at the clock and at the schedule between
/// two polls that find nothing is idle time, too: only a sleep is no part of any turn.
#[derive(Clone, Copy, Debug, Default)]
pub struct Turns {
    /// True exactly when the last turn sent or handled something.
    pub was_busy: bool,
    /// When the last turn ended, or the sleep within this one.
    pub since_ns: u64,
    /// Wall time of turns with something to do.
    busy_ns: u64,
    /// Wall time of turns without.
    idle_ns: u64,
}

impl Turns {
    /// Notes that the turn under way has slept until `now_ns`.
    pub fn note_slept(&mut self, now_ns: u64) {
        self.since_ns = now_ns;
    }

    /// Notes that a turn ended at `now_ns`.
    pub fn note(&mut self, was_busy: bool, now_ns: u64) {
        let duration_ns = now_ns - self.since_ns;
        self.since_ns = now_ns;
        self.was_busy = was_busy;
        if was_busy {
            self.busy_ns += duration_ns;
        } else {
            self.idle_ns += duration_ns;
        }
    }
}

/// How long a thread was busy while measuring.
///
/// The wall time of its turns misses what the kernel does for a sleeping thread as it wakes up; its CPU
/// time misses what it was kept waiting for by others, and holds the polls that found nothing. The larger
/// of the two is taken.
#[derive(Debug, Default)]
pub struct Busy {
    begun: Option<(Turns, u64)>,
    total_ns: Option<u64>,
}

impl Busy {
    /// Notes what the thread has done when measuring begins, and what since then when it ends. To be called
    /// every turn.
    pub fn mark(&mut self, now_ns: u64, window_ns: &std::ops::Range<u64>, turns: &Turns) {
        if now_ns >= window_ns.start && self.begun.is_none() {
            self.begun = Some((*turns, thread_cpu_ns()));
        }
        if let (true, None, Some((before, cpu_before_ns))) =
            (now_ns >= window_ns.end, self.total_ns, self.begun)
        {
            let busy_ns = turns.busy_ns - before.busy_ns;
            let idle_ns = turns.idle_ns - before.idle_ns;
            let working_ns = (thread_cpu_ns() - cpu_before_ns).saturating_sub(idle_ns);
            self.total_ns = Some(busy_ns.max(working_ns));
        }
    }

    /// How long it was busy while measuring.
    ///
    /// # Panics
    ///
    /// Before the end of measuring was marked.
    #[must_use]
    pub fn total_ns(&self) -> u64 {
        self.total_ns.expect("Bug: measuring ended without having been marked")
    }
}

fn thread_cpu_ns() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000_000;

    #[test]
    fn only_turns_with_something_to_do_count_and_only_while_measuring() {
        let (mut turns, mut busy) = (Turns::default(), Busy::default());
        let window_ns = 100 * S..200 * S;
        turns.note(true, 99 * S);
        busy.mark(99 * S, &window_ns, &turns);
        busy.mark(100 * S, &window_ns, &turns);
        turns.note(true, 129 * S);
        // More than the CPU time of this test, so that only the wall time of its turns is left.
        turns.note(false, 200 * S);
        busy.mark(200 * S, &window_ns, &turns);
        turns.note(true, 205 * S);
        busy.mark(205 * S, &window_ns, &turns);
        assert_eq!(busy.total_ns(), 30 * S);
    }

    #[test]
    fn time_belongs_to_the_turn_that_it_ends_in_unless_it_was_slept() {
        let mut turns = Turns::default();
        turns.note(false, 10);
        turns.note(true, 17);
        turns.note_slept(100);
        turns.note(true, 103);
        turns.note(false, 104);
        assert_eq!((turns.busy_ns, turns.idle_ns), (10, 11));
    }
}
