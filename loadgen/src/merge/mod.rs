//! What all threads have measured together, and what never arrived.

pub mod assembly;
pub mod intervals;
pub mod pairs;

use std::io::{self, Write};
use std::ops::Range;
use std::time::Duration;

use crate::clients::report::{Connected, Finished};
use crate::dialect::Dialect;
use crate::measure::INTERVAL_NS;
use crate::measure::broadcast::Broadcast;
use crate::measure::counts::{ChurnCounts, Counts};
use crate::measure::openings::Openings;
use crate::measure::pairs::Pairs;
use crate::measure::presence::expected_counts;
use crate::measure::stages::{Broadcasts, MergedStage};
use crate::merge::intervals::Intervals;
use crate::merge::pairs::MergedPair;
use crate::plan::Plan;
use crate::results::hlog::Log;
use crate::timings::Timings;
use crate::timings::quantiles::Undelivered;

/// What the threads have reported about a run that is over.
#[derive(Clone, Debug)]
pub struct Record<'a> {
    /// The run.
    pub plan: &'a Plan,
    /// When every client was ready or had failed, since connecting began.
    pub connected_ns: u64,
    /// When its warm-up began.
    pub start_ns: u64,
    /// When measuring began and ended.
    pub window_ns: Range<u64>,
    /// How connecting went, one for each thread.
    pub connected: &'a [Connected],
    /// What was measured, one for each thread.
    pub finished: &'a [Finished],
    /// The latencies.
    pub intervals: &'a Intervals,
}

/// What all threads have measured together.
#[derive(Debug)]
pub struct Merged {
    /// Clients that were ready and read.
    pub readers: u64,
    /// Deliveries that what was sent comes to.
    pub expected: u64,
    /// Those that never arrived.
    pub undelivered: u64,
    /// Intended → received, the undelivered included.
    pub latency: Timings,
    /// What of it is a lower bound.
    pub latency_undelivered: Undelivered,
    /// Actual send → received, the undelivered included.
    pub service: Timings,
    /// What of it is a lower bound.
    pub service_undelivered: Undelivered,
    /// The worst service time of each broadcast.
    pub service_worst: Timings,
    /// Intended → actual send.
    pub send_lag: Timings,
    /// Intended → first receiver.
    pub first: Timings,
    /// Intended → last receiver; at least the drain where one is missing.
    pub complete: Timings,
    /// What of it is a lower bound.
    pub complete_undelivered: Undelivered,
    /// First → last receiver, where all have received.
    pub spread: Timings,
    /// Each stage by itself, when there are several.
    pub stages: Vec<MergedStage>,
    /// Each pair of servers by itself, when there are several.
    pub pairs: Vec<MergedPair>,
    /// How often what happened.
    pub counts: Counts,
    /// Expected and received in each room; nothing for echo.
    pub rooms: Vec<RoomDeliveries>,
    /// How often clients left and rejoined.
    pub churn: ChurnCounts,
    /// How long the beginnings took.
    pub openings: Openings,
}

/// The deliveries of one room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RoomDeliveries {
    /// Clients that were ready and read.
    pub readers: u64,
    /// Deliveries that what was sent comes to.
    pub expected: u64,
    /// Deliveries received.
    pub received: u64,
}

impl Merged {
    /// Merges what the threads have reported.
    #[must_use]
    pub fn of(record: &Record<'_>) -> Self {
        let plan = record.plan;
        let (mut counts, mut churn) = (Counts::default(), ChurnCounts::default());
        let (mut service, mut send_lag) = (Timings::default(), Timings::default());
        let (mut drained_ns, mut last_sent_ns) = (0, 0);
        let mut openings = Openings::default();
        let mut pairs = Pairs::new(plan.servers.len());
        record.connected.iter().for_each(|connected| openings.merge(&connected.openings));
        let mut broadcasts: Vec<Broadcast> = Vec::new();
        for finished in record.finished {
            counts.merge(&finished.counts);
            churn.merge(&finished.churn);
            service.merge(&finished.service);
            send_lag.merge(&finished.send_lag);
            pairs.merge(&finished.pairs);
            drained_ns = finished.drained_ns.max(drained_ns);
            last_sent_ns = finished.last_sent_ns.max(last_sent_ns);
            broadcasts.resize(broadcasts.len().max(finished.broadcasts.len()), Broadcast::default());
            for (merged, broadcast) in broadcasts.iter_mut().zip(&finished.broadcasts) {
                let seen_on = merged.id_server;
                if !merged.merge(broadcast) {
                    counts.id_conflicts += 1;
                    if let Some(pair) = pairs.at(seen_on.into(), broadcast.id_server.into()) {
                        pair.violations.ids_differing += 1;
                    }
                }
            }
        }
        let mut rooms = vec![RoomDeliveries::default(); plan.rooms.count as usize];
        let (each, pairs_expected) = expected(record, &broadcasts, &mut rooms);
        for (index, (broadcast, each)) in broadcasts.iter().zip(&each).enumerate() {
            let room = &mut rooms[plan.rooms.origin(plan.schedule.sequence_of(index)).room as usize];
            room.expected += if broadcast.sent_ns == 0 { 0 } else { *each };
            room.received += u64::from(broadcast.received_count);
        }
        let readers = rooms.iter().map(|room| room.readers).sum();
        if broadcasts.is_empty() {
            rooms.clear();
        }
        let expected = match plan.dialect {
            Dialect::Echo => counts.sent,
            Dialect::Chat | Dialect::Private | Dialect::Raw => rooms.iter().map(|room| room.expected).sum(),
        };
        let undelivered = expected.saturating_sub(counts.received);

        // Each of the undelivered has been waited for at least this long.
        let waited = |bound_ns| Undelivered { count: undelivered, at_least_ns: bound_ns };
        let latency_undelivered = waited(plan.drain_ns);
        let service_undelivered =
            waited(plan.drain_ns.min(drained_ns.saturating_sub(last_sent_ns.min(drained_ns))));
        let mut latency = record.intervals.total.clone();
        for (timings, undelivered) in
            [(&mut latency, latency_undelivered), (&mut service, service_undelivered)]
        {
            timings.record_many(undelivered.at_least_ns, undelivered.count);
        }

        let mut merged = Self {
            readers,
            expected,
            undelivered,
            latency,
            latency_undelivered,
            service,
            service_undelivered,
            service_worst: Timings::default(),
            send_lag,
            first: Timings::default(),
            complete: Timings::default(),
            complete_undelivered: Undelivered { count: 0, at_least_ns: plan.drain_ns },
            spread: Timings::default(),
            stages: Vec::new(),
            pairs: MergedPair::all(&pairs, &pairs_expected, plan.drain_ns),
            counts,
            rooms,
            churn,
            openings,
        };
        merged.add_broadcasts(record, &broadcasts, &each);
        merged.add_stages(record, Broadcasts { known: &broadcasts, each: &each });
        merged
    }

    fn add_broadcasts(&mut self, record: &Record<'_>, broadcasts: &[Broadcast], each: &[u64]) {
        let schedule = &record.plan.schedule;
        let mut unheard = 0;
        for (index, (broadcast, &each)) in broadcasts.iter().zip(each).enumerate() {
            if broadcast.received_count == 0 {
                // What was never sent, or to nobody, is no broadcast that nobody heard.
                unheard += u64::from(broadcast.sent_ns != 0 && each > 0);
                continue;
            }
            let intended_ns = schedule.due_ns(record.start_ns, schedule.sequence_of(index));
            let last_ns = broadcast.last_ns - intended_ns.min(broadcast.last_ns);
            let service_ns = broadcast.last_ns - broadcast.sent_ns.min(broadcast.last_ns);
            self.first.record(broadcast.first_ns - intended_ns.min(broadcast.first_ns));
            if u64::from(broadcast.received_count) >= each {
                self.complete.record(last_ns);
                self.service_worst.record(service_ns);
                self.spread.record(broadcast.last_ns - broadcast.first_ns);
            } else {
                self.complete_undelivered.count += 1;
                self.complete.record(last_ns.max(self.latency_undelivered.at_least_ns));
                self.service_worst.record(service_ns.max(self.service_undelivered.at_least_ns));
            }
        }
        self.complete_undelivered.count += unheard;
        self.complete.record_many(self.latency_undelivered.at_least_ns, unheard);
        self.service_worst.record_many(self.service_undelivered.at_least_ns, unheard);
    }

    fn add_stages(&mut self, record: &Record<'_>, broadcasts: Broadcasts<'_>) {
        let schedule = &record.plan.schedule;
        let due_ns = |index| schedule.due_ns(record.start_ns, schedule.sequence_of(index));
        for (stage, span) in schedule.stages().iter().enumerate() {
            let mut recorded = record.finished.iter().filter_map(|finished| finished.stages.get(stage));
            let Some(mut timings) = recorded.next().cloned() else { continue };
            recorded.for_each(|other| timings.merge(other));
            let waited_ns = self.latency_undelivered.at_least_ns;
            let dialect = record.plan.dialect;
            self.stages.push(MergedStage::of(dialect, span, timings, broadcasts, due_ns, waited_ns));
        }
    }

    /// Logs the undelivered, and the histograms of the whole run.
    ///
    /// # Errors
    ///
    /// When the log cannot be written.
    pub fn log<W: Write>(&self, log: &mut Log<'_, W>, window_ns: u64) -> io::Result<()> {
        let window = Duration::from_nanos(window_ns);
        if self.undelivered > 0 {
            let (count, waited) =
                (self.undelivered, Duration::from_nanos(self.latency_undelivered.at_least_ns));
            log.remark(&format!("the next interval stands for {count} undelivered, waited for {waited:?}"))?;
            let mut undelivered = Timings::default();
            undelivered.record_many(self.latency_undelivered.at_least_ns, count);
            log.interval(&undelivered.histogram, window + waited, Duration::from_nanos(INTERVAL_NS))?;
        }
        let mut named = vec![("service", &self.service), ("send-lag", &self.send_lag)];
        if !self.complete.histogram.is_empty() {
            named.extend([("first", &self.first), ("complete", &self.complete), ("spread", &self.spread)]);
        }
        named.into_iter().try_for_each(|(name, timings)| log.tagged(name, &timings.histogram, window))?;
        (1..).zip(&self.stages).try_for_each(|(number, stage)| {
            log.tagged(&format!("stage-{number}"), &stage.latency.histogram, window)
        })?;
        self.pairs.iter().try_for_each(|pair| {
            log.tagged(&format!("pair-{}-{}", pair.from + 1, pair.to + 1), &pair.latency.histogram, window)
        })
    }
}

/// How many are to receive each broadcast, and how many deliveries each pair of servers is to make, by the first server
/// and then by the second. Counts the readers of each room.
fn expected(
    record: &Record<'_>,
    broadcasts: &[Broadcast],
    rooms: &mut [RoomDeliveries],
) -> (Vec<u64>, Vec<u64>) {
    let (plan, servers) = (record.plan, record.plan.servers.len());
    let mut each = vec![0; broadcasts.len()];
    let mut pairs = vec![0; servers * servers];
    for server in 0..servers {
        let mut readers = vec![0; rooms.len()];
        for connected in record.connected {
            readers.iter_mut().zip(&connected.readers[server]).for_each(|(sum, count)| *sum += count);
        }
        rooms.iter_mut().zip(&readers).for_each(|(room, count)| room.readers += count);
        if broadcasts.is_empty() {
            continue;
        }
        let absences = record.finished.iter().flat_map(|finished| &finished.absences);
        let here = expected_counts(plan, server, &readers, absences);
        for (index, (broadcast, here)) in broadcasts.iter().zip(here).enumerate() {
            each[index] += here;
            if broadcast.sent_ns != 0 {
                let speaker = plan.speaker_of(plan.schedule.sequence_of(index));
                pairs[plan.server_index(speaker) * servers + server] += here;
            }
        }
    }
    (each, pairs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::tests::plan;

    const MS: u64 = 1_000_000;

    #[test]
    fn threads_that_were_told_different_ids_name_the_servers_of_both() {
        let servers = ["--url", "ws://a", "--url", "ws://b", "--clients", "4", "--rate", "1"];
        let plan = plan(&[&servers[..], &["--warmup", "0s", "--duration", "2s"]].concat());
        let told = |message_id, id_server| Finished {
            broadcasts: vec![
                Broadcast::default(),
                Broadcast { message_id, id_server, ..Broadcast::default() },
            ],
            pairs: Pairs::new(2),
            ..Finished::default()
        };
        let connected = [Connected { readers: vec![vec![2], vec![2]], ..Connected::default() }];
        let merged = Merged::of(&Record {
            plan: &plan,
            connected_ns: MS,
            start_ns: MS,
            window_ns: MS..2_001 * MS,
            connected: &connected,
            finished: &[told(0, 0), told(7, 1), told(8, 0)],
            intervals: &Intervals::new(3, Duration::ZERO),
        });
        assert_eq!(merged.counts.id_conflicts, 1);
        let differing = merged.pairs.iter().filter(|pair| pair.violations.ids_differing > 0);
        assert_eq!(differing.map(|pair| (pair.from, pair.to)).collect::<Vec<_>>(), [(1, 0)]);
    }

    /// Three clients, three broadcasts a second apart; one delivery of the second is missing, the third
    /// reached nobody.
    #[test]
    fn what_is_missing_counts_as_the_drain_everywhere() {
        let arguments = ["--dialect", "raw", "--clients", "3", "--rate", "1", "--duration", "3s"];
        let plan = plan(&[&arguments[..], &["--warmup", "0s", "--drain", "5s"]].concat());
        let start_ns = 1_000 * MS;
        let heard = |received_count, begin_ns| Broadcast {
            received_count,
            first_ns: begin_ns + MS,
            last_ns: begin_ns + 2 * MS,
            sent_ns: begin_ns,
            ..Broadcast::default()
        };
        let unheard = Broadcast { sent_ns: start_ns + 2_000 * MS, ..Broadcast::default() };
        let mut finished = Finished {
            broadcasts: vec![heard(3, start_ns), heard(2, start_ns + 1_000 * MS), unheard],
            drained_ns: start_ns + 8_000 * MS,
            last_sent_ns: start_ns + 2_000 * MS,
            ..Finished::default()
        };
        (finished.counts.sent, finished.counts.received) = (3, 5);
        let mut latency = Timings::default();
        latency.record_many(2 * MS, 5);
        let mut intervals = Intervals::new(1, Duration::from_secs(3));
        intervals.add(0, &latency, &mut None::<Log<'_, Vec<u8>>>).expect("no log");
        let connected = [Connected { readers: vec![vec![3]], ..Connected::default() }];
        let finished = [finished];
        let merged = Merged::of(&Record {
            plan: &plan,
            connected_ns: MS,
            start_ns,
            window_ns: start_ns..start_ns + 3_000 * MS,
            connected: &connected,
            finished: &finished,
            intervals: &intervals,
        });
        assert_eq!((merged.expected, merged.undelivered), (9, 4));
        assert_eq!(merged.rooms, [RoomDeliveries { readers: 3, expected: 9, received: 5 }]);
        assert_eq!(merged.latency_undelivered, Undelivered { count: 4, at_least_ns: 5_000 * MS });
        assert_eq!(merged.latency.histogram.len(), 9);
        assert_eq!(merged.latency.histogram.count_between(4_990 * MS, 5_010 * MS), 4);
        assert_eq!(merged.complete_undelivered.count, 2);
        assert_eq!(merged.complete.histogram.len(), 3);
        assert_eq!((merged.first.histogram.len(), merged.spread.histogram.len()), (2, 1));
    }
}
