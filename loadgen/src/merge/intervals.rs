//! The latencies of each second: merged over the threads, logged as soon as all have reported, and added to
//! the whole and to its half, to see a run drift.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::time::Duration;

use crate::measure::INTERVAL_NS;
use crate::results::hlog::Log;
use crate::timings::Timings;

/// The latencies of each second, merged over the threads.
///
/// A histogram takes 216 KiB, so none is kept for a second that is complete: it goes into the log, into the
/// total and into its half. What is held does not grow with the length of a run.
#[derive(Debug)]
pub struct Intervals {
    threads: u32,
    /// Intervals that some threads have not reported yet, with the number that have.
    pending: BTreeMap<usize, (Timings, u32)>,
    /// How many are complete, in order from the first.
    pub complete_count: usize,
    /// All that are complete.
    pub total: Timings,
    /// How many intervals make a half.
    half_count: usize,
    halves: [Timings; 2],
}

impl Intervals {
    /// For so many threads, and the halves of the whole seconds of so long a time.
    #[must_use]
    pub fn new(threads: u32, duration: Duration) -> Self {
        Self {
            threads,
            pending: BTreeMap::new(),
            complete_count: 0,
            total: Timings::default(),
            half_count: (duration.as_secs() / 2) as usize,
            halves: Default::default(),
        }
    }

    /// Adds what one thread has recorded in one interval, and logs what is complete.
    ///
    /// # Errors
    ///
    /// When the log cannot be written.
    pub fn add<W: Write>(
        &mut self,
        index: usize,
        latency: &Timings,
        log: &mut Option<Log<'_, W>>,
    ) -> io::Result<()> {
        let (merged, reported) = self.pending.entry(index).or_default();
        merged.merge(latency);
        *reported += 1;
        // In order, since every thread reports its intervals in order.
        while let Some(first) = self.pending.first_entry().filter(|entry| entry.get().1 == self.threads) {
            let (index, (merged, _)) = first.remove_entry();
            self.complete(index, &merged, log)?;
        }
        Ok(())
    }

    /// Logs what is left: some threads may have drained an interval earlier than others.
    ///
    /// # Errors
    ///
    /// When the log cannot be written.
    pub fn finish<W: Write>(&mut self, log: &mut Option<Log<'_, W>>) -> io::Result<()> {
        let mut result = Ok(());
        for (index, (merged, _)) in std::mem::take(&mut self.pending) {
            result = result.and(self.complete(index, &merged, log));
        }
        result
    }

    fn complete<W: Write>(
        &mut self,
        index: usize,
        merged: &Timings,
        log: &mut Option<Log<'_, W>>,
    ) -> io::Result<()> {
        // Kept first: a log that cannot be written must not cost what was measured.
        self.complete_count += 1;
        self.total.merge(merged);
        if let Some(half) = index.checked_div(self.half_count).and_then(|half| self.halves.get_mut(half)) {
            half.merge(merged);
        }
        let Some(log) = log else { return Ok(()) };
        let length = Duration::from_nanos(INTERVAL_NS);
        log.interval(&merged.histogram, length * index as u32, length)
    }

    /// The two halves, of a run that has `measured` for the whole time that it was to.
    #[must_use]
    pub fn halves(&self, measured: Duration) -> Option<&[Timings; 2]> {
        let both = 2 * self.half_count;
        let is_whole = both > 0 && self.complete_count >= both && measured.as_secs() >= both as u64;
        is_whole.then_some(&self.halves)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::process::ServerProcess;

    fn latency(value_ns: u64) -> Timings {
        let mut timings = Timings::default();
        timings.record(value_ns);
        timings
    }

    #[test]
    fn intervals_are_complete_in_order_once_all_threads_have_reported() {
        let mut intervals = Intervals::new(2, Duration::from_secs(3));
        let mut log: Option<Log<'_, Vec<u8>>> = None;
        intervals.add(0, &latency(10), &mut log).expect("no log");
        intervals.add(1, &latency(20), &mut log).expect("no log");
        assert_eq!(intervals.complete_count, 0);
        intervals.add(0, &latency(30), &mut log).expect("no log");
        assert_eq!((intervals.complete_count, intervals.total.histogram.len()), (1, 2));
        assert!(intervals.halves(Duration::from_secs(3)).is_none(), "the second half is not there");
        intervals.finish(&mut log).expect("no log");
        assert_eq!((intervals.complete_count, intervals.total.histogram.len()), (2, 3));
        // Of three seconds the first two have a half each.
        let halves = intervals.halves(Duration::from_secs(3)).expect("two halves");
        assert_eq!(halves.each_ref().map(|half| half.histogram.len()), [2, 1]);
        assert!(intervals.halves(Duration::from_secs(1)).is_none(), "it ended early");
    }

    #[test]
    fn a_long_run_holds_no_more_than_a_short_one() {
        const SECONDS: u64 = 400;
        let resident = || ServerProcess::open(std::process::id()).ok()?.resident_bytes();
        let mut intervals = Intervals::new(1, Duration::from_secs(SECONDS));
        let mut log: Option<Log<'_, Vec<u8>>> = None;
        intervals.add(0, &latency(1), &mut log).expect("no log");
        let before = resident().expect("Linux says");
        for second in 1..SECONDS {
            intervals.add(second as usize, &latency(second), &mut log).expect("no log");
        }
        let grown = resident().expect("Linux says").saturating_sub(before);
        // A histogram for each would be 86 MB. Other tests in this process may need some memory, too.
        assert!(grown < 32 << 20, "{grown} bytes");
        let halves = intervals.halves(Duration::from_secs(SECONDS)).expect("two halves");
        assert_eq!(halves.each_ref().map(|half| half.histogram.len()), [200, 200]);
        assert_eq!(intervals.total.histogram.len(), SECONDS);
    }
}
