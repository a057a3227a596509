//! The results of each stage: a run whose rate changes has no single latency.
//!
//! A delivery belongs to the stage in which its broadcast was due. A run of one rate keeps nothing here.

use std::ops::Range;

use crate::dialect::Dialect;
use crate::measure::broadcast::Broadcast;
use crate::timings::Timings;
use crate::timings::quantiles::Undelivered;

/// What one thread records of a stage.
#[derive(Clone, Debug, Default)]
pub struct StageTimings {
    /// Intended → received.
    pub latency: Timings,
    /// Intended → actual send; as many as were sent.
    pub send_lag: Timings,
}

impl StageTimings {
    /// Adds what another thread has recorded.
    pub fn merge(&mut self, other: &Self) {
        self.latency.merge(&other.latency);
        self.send_lag.merge(&other.send_lag);
    }
}

/// What all threads have measured of a stage.
#[derive(Clone, Debug)]
pub struct MergedStage {
    /// Broadcasts planned.
    pub planned: u64,
    /// Deliveries that what was sent comes to.
    pub expected: u64,
    /// Those that arrived.
    pub received: u64,
    /// Intended → received, the undelivered included.
    pub latency: Timings,
    /// What of it is a lower bound.
    pub undelivered: Undelivered,
    /// The largest latency of each broadcast.
    pub worst: Timings,
    /// Intended → actual send.
    pub send_lag: Timings,
}

/// The broadcasts of a run, for its stages.
#[derive(Clone, Copy, Debug)]
pub struct Broadcasts<'a> {
    /// What is known of each; none for echo.
    pub known: &'a [Broadcast],
    /// How many deliveries each is expected to come to.
    pub each: &'a [u64],
}

impl MergedStage {
    /// Puts a stage together. `due_ns` tells when a measured broadcast was due, and `waited_ns` how long was
    /// waited for what is missing.
    #[must_use]
    pub fn of(
        dialect: Dialect,
        span: &Range<usize>,
        timings: StageTimings,
        broadcasts: Broadcasts<'_>,
        due_ns: impl Fn(usize) -> u64,
        waited_ns: u64,
    ) -> Self {
        let StageTimings { mut latency, send_lag } = timings;
        let received = latency.histogram.len();
        let (mut expected, mut worst) = (0, Timings::default());
        for index in span.clone().take_while(|&index| index < broadcasts.known.len()) {
            let (broadcast, each) = (&broadcasts.known[index], broadcasts.each[index]);
            expected += if broadcast.sent_ns == 0 { 0 } else { each };
            let is_whole = u64::from(broadcast.received_count) >= each;
            let last_ns = broadcast.last_ns.saturating_sub(due_ns(index));
            match broadcast.received_count {
                0 => worst.record_many(waited_ns, u64::from(broadcast.sent_ns != 0 && each > 0)),
                _ => worst.record(if is_whole { last_ns } else { last_ns.max(waited_ns) }),
            }
        }
        if dialect == Dialect::Echo {
            expected = send_lag.histogram.len();
        }
        let undelivered = Undelivered { count: expected.saturating_sub(received), at_least_ns: waited_ns };
        latency.record_many(undelivered.at_least_ns, undelivered.count);
        if dialect == Dialect::Echo {
            worst = latency.clone();
        }
        let planned = span.len() as u64;
        Self { planned, expected, received, latency, undelivered, worst, send_lag }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    #[test]
    fn a_stage_counts_its_own_broadcasts_and_what_is_missing_of_them() {
        let heard = |count, last_ns| Broadcast {
            received_count: count,
            first_ns: last_ns,
            last_ns,
            sent_ns: 1,
            ..Broadcast::default()
        };
        let unsent = Broadcast::default();
        let known = [heard(3, 9 * MS), heard(3, 12 * MS), heard(2, 23 * MS), heard(0, 0), unsent];
        let broadcasts = Broadcasts { known: &known, each: &[3; 5] };
        let mut timings = StageTimings::default();
        timings.latency.record_many(2 * MS, 5);
        timings.send_lag.record_many(1_000, 3);
        let due_ns = |index: usize| index as u64 * 10 * MS;
        let stage = MergedStage::of(Dialect::Raw, &(1..5), timings, broadcasts, due_ns, 500 * MS);
        assert_eq!((stage.planned, stage.expected, stage.received), (4, 9, 5));
        assert_eq!((stage.undelivered.count, stage.latency.histogram.len()), (4, 9));
        // One whole after 2 ms; one with a delivery missing, and one that nobody heard.
        assert_eq!(stage.worst.histogram.len(), 3);
        assert_eq!(stage.worst.histogram.count_between(499 * MS, 501 * MS), 2);
    }

    #[test]
    fn an_echo_is_one_delivery() {
        let mut timings = StageTimings::default();
        timings.latency.record_many(MS, 7);
        timings.send_lag.record_many(1_000, 8);
        let none = Broadcasts { known: &[], each: &[] };
        let stage = MergedStage::of(Dialect::Echo, &(0..10), timings, none, |_| 0, 500 * MS);
        assert_eq!((stage.planned, stage.expected, stage.received), (10, 8, 7));
        assert_eq!(stage.worst.histogram.len(), 8);
    }
}
