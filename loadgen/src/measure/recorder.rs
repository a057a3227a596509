//! What one thread records: histograms with fixed bounds, one entry for each broadcast, and counts.
//!
//! Nothing here is shared, and a receipt allocates nothing: the tables are made before the first
//! broadcast. Threads' records are merged by the main thread.

use std::sync::Arc;

use crate::dialect::Dialect;
use crate::dialect::payload::Stamp;
use crate::measure::broadcast::Broadcast;
use crate::measure::counts::Counts;
use crate::measure::pairs::Pairs;
use crate::measure::stages::StageTimings;
use crate::measure::truth::{Sequences, Verdict};
use crate::plan::Plan;
use crate::plan::rooms::Rooms;
use crate::timings::Timings;

/// One thread's record.
#[derive(Debug)]
pub struct Recorder {
    plan: Arc<Plan>,
    /// Intended → received, since the last [`Recorder::take_interval`].
    interval: Timings,
    /// Actual send → received.
    pub service: Timings,
    /// Intended → actual send.
    pub send_lag: Timings,
    /// One for each measured broadcast; none in the echo dialect, where a broadcast is one delivery.
    pub broadcasts: Vec<Broadcast>,
    /// Each stage by itself, when there are several.
    pub stages: Vec<StageTimings>,
    /// Each pair of servers by itself, when there are several.
    pub pairs: Pairs,
    /// How often what happened.
    pub counts: Counts,
    /// When the last broadcast was handed to the kernel.
    pub last_sent_ns: u64,
    sequences: Sequences,
    window_ns: std::ops::Range<u64>,
}

impl Recorder {
    /// A record for the clients of `thread`.
    #[must_use]
    pub fn new(plan: Arc<Plan>, thread: u32) -> Self {
        let echo = plan.dialect == Dialect::Echo;
        let table_len = if echo { 0 } else { plan.schedule.measured_count() as usize };
        let stage_count = plan.schedule.stages().len();
        let speakers_heard = if echo { 1 } else { plan.rooms.tracks_max() as usize };
        Self {
            interval: Timings::default(),
            service: Timings::default(),
            send_lag: Timings::default(),
            broadcasts: vec![Broadcast::default(); table_len],
            stages: vec![StageTimings::default(); if stage_count > 1 { stage_count } else { 0 }],
            pairs: Pairs::new(plan.servers.len()),
            counts: Counts::default(),
            last_sent_ns: 0,
            sequences: Sequences::new(plan.clients_of(thread), speakers_heard),
            window_ns: 0..0,
            plan,
        }
    }

    /// Tells when measuring begins and ends.
    pub fn set_window(&mut self, window_ns: std::ops::Range<u64>) {
        self.window_ns = window_ns;
    }

    /// Notes a broadcast that is handed to the kernel.
    pub fn sent(&mut self, stamp: Stamp) {
        self.last_sent_ns = self.last_sent_ns.max(stamp.sent_ns);
        if let Some(index) = self.plan.schedule.measured_index(stamp.sequence) {
            self.counts.sent += 1;
            let lag_ns = stamp.sent_ns.saturating_sub(stamp.intended_ns);
            self.send_lag.record(lag_ns);
            if !self.stages.is_empty() {
                self.stages[self.plan.schedule.stage_of(index)].send_lag.record(lag_ns);
            }
            if let Some(broadcast) = self.broadcasts.get_mut(index) {
                broadcast.sent_ns = stamp.sent_ns;
            }
        }
    }

    /// Notes that `client` rejoined, and is to receive from broadcast `first` on.
    pub fn rejoined(&mut self, client: u32, first: u64) {
        let Rooms { senders, .. } = self.plan.rooms;
        let room = self.plan.rooms.of(client);
        for track in 0..self.plan.rooms.members(room, senders) {
            let ordinal = self.plan.rooms.ordinal_before(room, track, first);
            self.sequences.restart(self.plan.local_index(client), track as usize, ordinal);
        }
    }

    /// Notes that `client` received a broadcast. True when it is a delivery that was still to come.
    pub fn received(&mut self, client: u32, stamp: Stamp, now_ns: u64) -> bool {
        let plan = &*self.plan;
        let origin = plan.rooms.origin(stamp.sequence);
        let in_room = plan.rooms.of(client) == origin.room;
        let (may_hear, track) = match plan.dialect {
            Dialect::Chat | Dialect::Private => (in_room && client != origin.speaker, origin.track),
            Dialect::Raw => (in_room, origin.track),
            Dialect::Echo => (client == origin.speaker, 0),
        };
        if !may_hear || stamp.sequence >= plan.schedule.total_count() {
            self.counts.misdelivered += 1;
            if let Some(pair) = self.pairs.between(plan, origin.speaker, client) {
                pair.violations.misdelivered += 1;
            }
            return false;
        }
        let mut pair = self.pairs.between(plan, origin.speaker, client);
        match self.sequences.note(plan.local_index(client), track as usize, origin.ordinal) {
            Verdict::InOrder => {}
            Verdict::Disorder => {
                self.counts.disorder += 1;
                if let Some(pair) = &mut pair {
                    pair.violations.disorder += 1;
                }
            }
            Verdict::Duplicate => {
                self.counts.duplicates += 1;
                if let Some(pair) = &mut pair {
                    pair.violations.duplicates += 1;
                }
                return false;
            }
        }
        self.counts.received_in_window += u64::from(self.window_ns.contains(&now_ns));
        let Some(index) = plan.schedule.measured_index(stamp.sequence) else {
            return true;
        };
        self.counts.received += 1;
        let latency_ns = now_ns.saturating_sub(stamp.intended_ns);
        self.interval.record(latency_ns);
        if let Some(pair) = pair {
            pair.latency.record(latency_ns);
        }
        if !self.stages.is_empty() {
            self.stages[plan.schedule.stage_of(index)].latency.record(latency_ns);
        }
        self.service.record(now_ns.saturating_sub(stamp.sent_ns));
        if let Some(broadcast) = self.broadcasts.get_mut(index) {
            if broadcast.received_count == 0 {
                broadcast.first_ns = now_ns;
                broadcast.sent_ns = stamp.sent_ns;
            }
            broadcast.received_count += 1;
            broadcast.last_ns = now_ns;
        }
        true
    }

    /// Notes the id that a chat server gave to a broadcast: `client` was told it, and all others must be told the same.
    pub fn message_id(&mut self, client: u32, sequence: u64, message_id: u64) {
        let index = self.plan.schedule.measured_index(sequence);
        let Some(broadcast) = index.and_then(|index| self.broadcasts.get_mut(index)) else { return };
        if broadcast.message_id == 0 {
            (broadcast.message_id, broadcast.id_server) = (message_id, self.plan.server_index(client) as u8);
        } else if broadcast.message_id != message_id {
            self.counts.id_conflicts += 1;
            if let Some(pair) = self.pairs.at(broadcast.id_server.into(), self.plan.server_index(client)) {
                pair.violations.ids_differing += 1;
            }
        }
    }

    /// Notes that the id of a broadcast was not above that of the message which `client` had received before.
    pub fn id_not_growing(&mut self, client: u32, sequence: u64) {
        self.counts.id_conflicts += 1;
        let speaker = self.plan.speaker_of(sequence);
        if let Some(pair) = self.pairs.between(&self.plan, speaker, client) {
            pair.violations.ids_not_growing += 1;
        }
    }

    /// What was recorded since the last call.
    #[must_use]
    pub fn take_interval(&mut self) -> Timings {
        std::mem::take(&mut self.interval)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::pairs::Violations;
    use crate::plan::tests::plan;

    fn stamp(sequence: u64) -> Stamp {
        Stamp { sequence, intended_ns: 1_000, sent_ns: 1_400 }
    }

    #[test]
    fn latency_runs_from_the_intended_time() {
        let mut recorder = Recorder::new(plan(&["--dialect", "raw", "--clients", "2"]), 0);
        let first = recorder.plan.schedule.sequence_of(0);
        for sequence in 0..first {
            assert!(recorder.received(0, stamp(sequence), 5_000));
        }
        recorder.sent(stamp(first));
        assert!(recorder.received(0, stamp(first), 2_000));
        assert!(recorder.received(1, stamp(first), 3_000));
        assert!(!recorder.received(1, stamp(first), 4_000));
        assert_eq!(recorder.counts.received, 2, "the warm-up and the duplicate do not count");
        assert_eq!(recorder.counts.duplicates, 1);
        assert_eq!(
            recorder.broadcasts[0],
            Broadcast {
                received_count: 2,
                first_ns: 2_000,
                last_ns: 3_000,
                sent_ns: 1_400,
                ..Broadcast::default()
            }
        );
        assert_eq!((recorder.send_lag.histogram.min(), recorder.service.histogram.min()), (400, 600));
        let interval = recorder.take_interval().histogram;
        assert_eq!((interval.min(), interval.len()), (1_000, 2));
        assert!(recorder.take_interval().histogram.is_empty());
    }

    #[test]
    fn a_chat_speaker_must_not_receive_its_message_and_an_echo_goes_only_to_its_sender() {
        let mut chat = Recorder::new(plan(&["--dialect", "chat", "--clients", "2"]), 0);
        chat.received(0, stamp(0), 2_000);
        assert_eq!(chat.counts.misdelivered, 1);
        let mut echo = Recorder::new(plan(&["--dialect", "echo", "--clients", "2"]), 0);
        echo.received(0, stamp(1), 2_000);
        echo.received(1, stamp(1), 2_000);
        assert_eq!(echo.counts.misdelivered, 1);
        let mut rooms = Recorder::new(plan(&["--dialect", "raw", "--clients", "4", "--rooms", "2"]), 0);
        assert!(rooms.received(3, stamp(1), 2_000));
        assert!(!rooms.received(2, stamp(1), 2_000), "the other topic's");
        assert_eq!(rooms.counts.misdelivered, 1);
    }

    #[test]
    fn what_is_wrong_is_counted_for_the_servers_of_speaker_and_receiver() {
        let servers = ["--url", "ws://a", "--url", "ws://b", "--clients", "4", "--senders", "1"];
        let mut recorder = Recorder::new(plan(&[&servers[..], &["--warmup", "0s"]].concat()), 0);
        // Client 0 speaks, on the first server. Client 2 is there, too, and 1 and 3 are on the second.
        for (client, sequence) in [(1, 1), (1, 0), (1, 0), (2, 0), (0, 0)] {
            recorder.received(client, stamp(sequence), 2_000);
        }
        recorder.message_id(2, 0, 7);
        recorder.message_id(3, 0, 8);
        recorder.id_not_growing(2, 0);
        let told: Vec<_> = recorder
            .pairs
            .iter()
            .map(|(place, pair)| (place, pair.latency.histogram.len(), pair.violations))
            .collect();
        let none = Violations::default();
        let near = Violations { misdelivered: 1, ids_not_growing: 1, ..none };
        let far = Violations { duplicates: 1, disorder: 1, ids_differing: 1, ..none };
        assert_eq!(told, [((0, 0), 1, near), ((0, 1), 2, far), ((1, 0), 0, none), ((1, 1), 0, none)]);
    }

    #[test]
    fn what_is_sent_and_reaches_nobody_is_known_to_be_sent() {
        let mut recorder = Recorder::new(plan(&["--dialect", "raw", "--warmup", "0s"]), 0);
        recorder.sent(stamp(2));
        assert_eq!(recorder.broadcasts[2], Broadcast { sent_ns: 1_400, ..Broadcast::default() });
    }
}
