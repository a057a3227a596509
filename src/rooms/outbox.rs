//! The deliveries, requests and writes of a shard's homes, in order.

use std::collections::VecDeque;
use std::sync::Arc;

use super::fan_out_timer::{FanOutTimer, FanOutTimers};
use super::shared::MESSAGE_TIMEOUT_MS;
use super::{
    ClientRef, Delivery, ListedRoom, LogEnd, NodeLife, ObservedEvent, RecentFanOuts, Request, RoomCursor,
    RoomIndex, RoomNotice, ShardIndex, SharedProposal, SharedProposalKind, Ticket, Write,
};
use crate::clock::Now;
use crate::metrics::ShardMetrics;

/// The deliveries, requests and writes of a shard's homes until they are polled, in order.
#[derive(Debug)]
pub(super) struct Outbox {
    pub(super) deliveries: VecDeque<(ShardIndex, Delivery)>,
    /// To other homes.
    pub(super) requests: VecDeque<(ShardIndex, Request)>,
    pub(super) writes: VecDeque<Write>,
    /// To the log that several servers share.
    pub(super) proposals: VecDeque<SharedProposal>,
    /// The last ticket that was given to one of these.
    last_ticket: u64,
    /// For those who watch the server; `None` where nobody does.
    pub(super) observed: Option<VecDeque<ObservedEvent>>,
    /// Proposals without an outcome, of all rooms, and clients that wait for a room to be opened.
    pub(super) proposals_waiting: usize,
    /// Writes without a receipt, those that are still in here included.
    pub(super) writes_unanswered: usize,
    /// True while nothing can be written: messages and deletions are rejected, and no room is opened.
    pub(super) is_storage_failing: bool,
    /// Changes by the entry that is being applied that are acknowledged once replicas have them, and who has caused them.
    pub(super) unreplicated: VecDeque<(RoomCursor, ClientRef)>,
    /// True while the shared log cannot be reached: what changes nothing is answered at once.
    pub(super) is_log_out_of_reach: bool,
    /// Once the shared log is at its end for this server: why. Proposals are dropped.
    pub(super) log_end: Option<LogEnd>,
    fan_out_timers: FanOutTimers,
}

impl Outbox {
    pub(super) fn new(metrics: Arc<ShardMetrics>, recent_fan_outs: RecentFanOuts) -> Self {
        Self {
            deliveries: VecDeque::new(),
            requests: VecDeque::new(),
            writes: VecDeque::new(),
            proposals: VecDeque::new(),
            last_ticket: 0,
            observed: None,
            proposals_waiting: 0,
            writes_unanswered: 0,
            is_storage_failing: false,
            unreplicated: VecDeque::new(),
            is_log_out_of_reach: false,
            log_end: None,
            fan_out_timers: FanOutTimers::new(metrics, recent_fan_outs),
        }
    }

    pub(super) fn send(&mut self, to: ShardIndex, delivery: Delivery) {
        if to.elsewhere().is_none() {
            self.deliveries.push_back((to, delivery));
        }
    }

    /// Has something told to other servers of the cluster, or to one, that no room waits for. Returns its ticket.
    pub(super) fn tell(
        &mut self,
        home: ShardIndex,
        only: Option<Arc<NodeLife>>,
        notice: RoomNotice,
    ) -> Option<Ticket> {
        if self.has_log_ended() {
            return None;
        }
        let ticket = Ticket { room: RoomIndex::none_at(home), number: self.next_ticket() };
        let room = Arc::clone(notice.name());
        let kind = SharedProposalKind::Tell(only, notice);
        self.proposals.push_back(SharedProposal { ticket, room, kind, timeout_ms: Some(MESSAGE_TIMEOUT_MS) });
        self.proposals_waiting += 1;
        Some(ticket)
    }

    /// True once the shared log is at its end for this server.
    pub(super) fn has_log_ended(&self) -> bool {
        self.log_end.is_some()
    }

    /// A name for a proposal to the shared log.
    pub(super) fn next_ticket(&mut self) -> u64 {
        self.last_ticket += 1;
        self.last_ticket
    }

    pub(super) fn write(&mut self, write: Write) {
        self.writes.push_back(write);
        self.writes_unanswered += 1;
    }

    /// Tells of an event those who watch the server, if there are any.
    pub(super) fn observe(&mut self, event: impl FnOnce() -> ObservedEvent) {
        if let Some(observed) = &mut self.observed {
            observed.push_back(event());
        }
    }

    pub(super) fn note_answered(&mut self) {
        self.writes_unanswered =
            self.writes_unanswered.checked_sub(1).expect("Bug: more receipts than writes");
    }

    /// Starts to time a fan-out to this many members of a room or topic, if it is in the sample.
    pub(super) fn time_fan_out(
        &mut self,
        room: Option<&Arc<ListedRoom>>,
        members: usize,
        now: Now,
    ) -> Option<Arc<FanOutTimer>> {
        self.fan_out_timers.start(room, members, now)
    }
}
