//! The latencies of each second: merged over the threads, logged as soon as all have reported, and kept to
//! see a run drift.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::time::Duration;

use crate::measure::Timings;
use crate::results::hlog::Log;
use crate::worker::INTERVAL_NS;

/// The latencies of each second, merged over the threads.
#[derive(Debug)]
pub struct Intervals {
    threads: u32,
    /// Intervals that some threads have not reported yet, with the number that have.
    pending: BTreeMap<usize, (Timings, u32)>,
    /// One for each interval, in order.
    pub complete: Vec<Timings>,
}

impl Intervals {
    /// For so many threads.
    #[must_use]
    pub fn new(threads: u32) -> Self {
        Self { threads, pending: BTreeMap::new(), complete: Vec::new() }
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
            Self::complete(&mut self.complete, index, merged, log)?;
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
            result = result.and(Self::complete(&mut self.complete, index, merged, log));
        }
        result
    }

    fn complete<W: Write>(
        complete: &mut Vec<Timings>,
        index: usize,
        merged: Timings,
        log: &mut Option<Log<'_, W>>,
    ) -> io::Result<()> {
        // Kept first: a log that cannot be written must not cost what was measured.
        complete.push(merged);
        let (Some(log), Some(merged)) = (log, complete.last()) else { return Ok(()) };
        let length = Duration::from_nanos(INTERVAL_NS);
        log.interval(&merged.histogram, length * index as u32, length)
    }

    /// The two halves of the whole seconds of the measuring time.
    #[must_use]
    pub fn halves(&self, duration: Duration) -> Option<[Timings; 2]> {
        let half = (duration.as_secs() / 2) as usize;
        if half == 0 || self.complete.len() < 2 * half {
            return None;
        }
        let merge = |intervals: &[Timings]| {
            let mut merged = Timings::default();
            intervals.iter().for_each(|interval| merged.merge(interval));
            merged
        };
        Some([merge(&self.complete[..half]), merge(&self.complete[half..2 * half])])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_complete_in_order_once_all_threads_have_reported() {
        let mut intervals = Intervals::new(2);
        let mut log: Option<Log<'_, Vec<u8>>> = None;
        let latency = |value| {
            let mut timings = Timings::default();
            timings.record(value);
            timings
        };
        intervals.add(0, &latency(10), &mut log).expect("no log");
        intervals.add(1, &latency(20), &mut log).expect("no log");
        assert!(intervals.complete.is_empty());
        intervals.add(0, &latency(30), &mut log).expect("no log");
        assert_eq!(intervals.complete.len(), 1);
        intervals.finish(&mut log).expect("no log");
        let counts: Vec<_> = intervals.complete.iter().map(|timings| timings.histogram.len()).collect();
        assert_eq!(counts, [2, 1]);
        let [first, second] = intervals.halves(Duration::from_secs(2)).expect("two halves");
        assert_eq!((first.histogram.len(), second.histogram.len()), (2, 1));
        assert!(intervals.halves(Duration::from_secs(1)).is_none());
    }
}
