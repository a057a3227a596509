//! The rooms and topics whose home is one shard.

mod closing;
mod lease;
mod log_end;
mod on_demand;
mod shared;
mod sharing;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use uproar_protocol::frames::MessageKind;

use self::lease::Lease;
use self::sharing::Sharing;
use crate::clock::Now;
use crate::metrics::ShardMetrics;
use crate::rooms::log::{Change, Proposal};
use crate::rooms::outbox::Outbox;
use crate::rooms::room::{Home, Room};
use crate::rooms::room_slots::RoomSlots;
use crate::rooms::topic::Topic;
use crate::rooms::{
    ClientRef, Delivery, Directory, ListedRoom, Member, ObservedEvent, PROPOSALS_WAITING_MAX, Receipt,
    Request, RestoredRoom, RoomIndex, RoomReceipt, RoomRefusal, RoomSettings, SHARED_PROPOSALS_MAX,
    ShardIndex, WRITES_UNANSWERED_MAX, Write,
};

/// Rooms that one tick forgets at most; the rest follow in the next turn. Each costs a few microseconds.
const FORGOTTEN_A_TICK: usize = 256;

/// A shard's rooms and topics.
///
/// Drain rule: after every `handle_*`, poll deliveries, requests and writes until `None`.
#[derive(Debug)]
pub struct Homes {
    index: ShardIndex,
    home: Arc<Home>,
    rooms: RoomSlots<RoomState>,
    /// How many configured rooms have their home here.
    configured_count: usize,
    /// The rooms that clients have created, without those that are being forgotten.
    on_demand: HashMap<Arc<str>, RoomIndex>,
    /// When presence reports are due.
    reports: BTreeSet<(u64, RoomIndex)>,
    /// When empty rooms are forgotten.
    expiries: BTreeSet<(u64, RoomIndex)>,
    /// The rooms with proposals that wait for the storage.
    waiting: BTreeSet<RoomIndex>,
    /// A topic exists while a connection is subscribed to it.
    topics: HashMap<Arc<str>, Topic>,
    is_durable: bool,
    /// What is known of the cluster; `None` for a server that is alone.
    sharing: Option<Box<Sharing>>,
    outbox: Outbox,
}

/// A room at its home.
#[expect(clippy::large_enum_variant, reason = "a slot boxes it, and few rooms are being opened at a time")]
#[derive(Debug)]
enum RoomState {
    /// The storage reads its history, and these clients wait.
    Opening {
        name: Arc<str>,
        waiting: Vec<ClientRef>,
    },
    Open(OpenRoom),
}

#[derive(Debug)]
struct OpenRoom {
    room: Room,
    /// Its entry in `Homes::reports`.
    report_ms: Option<u64>,
    /// Whether it has an entry in `Homes::waiting`.
    is_waiting: bool,
    /// `None` for a configured room, which is never forgotten.
    lease: Option<Lease>,
    /// True when it is left only until the storage has answered its last writes.
    is_forgotten: bool,
}

impl OpenRoom {
    fn new(room: Room, lease: Option<Lease>) -> Self {
        Self { room, report_ms: None, is_waiting: false, lease, is_forgotten: false }
    }
}

impl Homes {
    /// The configured rooms of `directory` whose home is `shard`.
    #[must_use]
    pub fn new(
        shard: ShardIndex,
        settings: &RoomSettings,
        directory: &Directory,
        metrics: Arc<ShardMetrics>,
    ) -> Self {
        let home = Arc::new(Home { settings: *settings, directory: directory.clone() });
        let is_own = |room: &&Arc<ListedRoom>| room.index().home() == shard;
        let configured = directory.rooms().iter().map(|listed| {
            let room = is_own(&listed).then(|| Room::new(Arc::clone(listed), Arc::clone(&home)))?;
            Some(RoomState::Open(OpenRoom::new(room, None)))
        });
        Self {
            index: shard,
            rooms: RoomSlots::new(shard, configured),
            configured_count: directory.rooms().iter().filter(is_own).count(),
            on_demand: HashMap::new(),
            reports: BTreeSet::new(),
            expiries: BTreeSet::new(),
            waiting: BTreeSet::new(),
            topics: HashMap::new(),
            is_durable: false,
            sharing: None,
            outbox: Outbox::new(metrics, directory.recent_fan_outs().clone()),
            home,
        }
    }

    /// Takes a request for one of these rooms or topics.
    pub fn handle_request(&mut self, request: Request, now: Now) {
        match request {
            Request::Room { room, proposal } => self.propose(room, proposal, now),
            Request::Open { name, origin, is_owed } => self.open(name, origin, is_owed, now),
            Request::Release { room } => self.release(room, now),
            Request::Forget { room } => self.forget(room),
            Request::Subscribe { topic, origin } => {
                let shards = self.home.directory.shards();
                self.topics.entry(topic).or_insert_with(|| Topic::new(shards)).subscribe(origin.shard);
                self.outbox.send(origin.shard, Delivery::Subscribed { to: origin });
            }
            Request::Unsubscribe { topic, shard } => {
                let entry = self.topics.get_mut(&topic).expect("Bug: a connection left an unknown topic");
                entry.unsubscribe(shard);
                if entry.is_empty() {
                    self.topics.remove(&topic);
                }
            }
            Request::Relay { topic, kind, payload, origin } if self.are_shared() => {
                self.propose_relay(topic, kind, payload, origin);
            }
            Request::Relay { topic, kind, payload, origin } => {
                self.relay(&topic, kind, payload, origin, now);
            }
        }
    }

    /// Passes a message on to a topic's listeners.
    fn relay(
        &mut self,
        topic: &Arc<str>,
        kind: MessageKind,
        payload: Bytes,
        origin: Option<ClientRef>,
        now: Now,
    ) {
        match (self.topics.get(topic), origin) {
            (Some(entry), _) => entry.relay(topic, kind, payload, origin, now, &mut self.outbox),
            (None, Some(to)) => self.outbox.send(to.shard, Delivery::Relayed { to, shards: 0 }),
            // The sender may have been evicted, and the topic with it, while this was on its way.
            (None, None) => {}
        }
    }

    fn propose(&mut self, index: RoomIndex, proposal: Proposal, now: Now) {
        // Mail for a room that was forgotten is dropped: what its members have sent came before they left.
        let is_possible = |open: &&mut OpenRoom| open.lease.is_some() || !proposal.is_close();
        let Some(open) = self.open_room(index).filter(is_possible) else {
            if let Some(to) = proposal.of_api() {
                self.outbox.send(to.shard, Delivery::Refused { to, refusal: RoomRefusal::NoRoom });
            } else if let Proposal::Change(Change::Join { member: Member { origin: to, .. }, after }) =
                proposal
            {
                self.outbox.send(to.shard, Delivery::RoomGone { to, after });
            }
            return;
        };
        if let Some(lease) = &mut open.lease {
            match &proposal {
                Proposal::Change(Change::Join { .. }) => lease.join(),
                // A room that a backend has sent a message to is kept as if somebody had left it.
                Proposal::Change(Change::Message { origin, .. }) if origin.shard == ShardIndex::API => {
                    lease.was_used = true;
                }
                Proposal::Change(_) | Proposal::Unlogged(_) => {}
            }
        }
        self.with_room(index, now, |room, outbox| room.propose(proposal, now, outbox));
    }

    /// Restores the configured rooms from the storage. From now on messages are written to the disk, and a
    /// message is acknowledged only when it is durable.
    pub fn restore(&mut self, rooms: &[RestoredRoom]) {
        self.is_durable = true;
        for (listed, restored) in self.home.directory.rooms().iter().zip(rooms) {
            if listed.index().home() == self.index
                && let Some(RoomState::Open(open)) = self.rooms.get_mut(listed.index())
            {
                open.room.restore(restored.clone());
            }
        }
    }

    /// Handles a receipt of the storage. Proposals that waited for it become entries.
    pub fn handle_receipt(&mut self, receipt: Receipt, now: Now) {
        match receipt {
            Receipt::Room(room, receipt) => self.handle_room_receipt(room, receipt, now),
            Receipt::Shared(receipt) => self.handle_shared(receipt, now),
            Receipt::Recovered => self.outbox.is_storage_failing = false,
            Receipt::Withdrawn => {
                self.outbox.is_storage_failing = true;
                for room in std::mem::take(&mut self.waiting) {
                    self.with_room(room, now, |room, outbox| room.apply_outcomes(now, outbox));
                }
            }
        }
    }

    fn handle_room_receipt(&mut self, index: RoomIndex, receipt: RoomReceipt, now: Now) {
        match receipt {
            RoomReceipt::Kept(through) => {
                self.with_room(index, now, |room, outbox| room.handle_kept(through, outbox));
            }
            RoomReceipt::Lost(through, epoch) => {
                self.with_room(index, now, |room, outbox| room.handle_lost(through, epoch, outbox));
            }
            RoomReceipt::Reserved(through) => {
                self.with_room(index, now, |room, outbox| room.handle_reserved(through, now, outbox));
            }
            RoomReceipt::Opened(restored) => {
                self.outbox.note_answered();
                self.finish_opening(index, Some(*restored), now);
            }
            RoomReceipt::NotOpened => {
                self.outbox.note_answered();
                self.fail_opening(index);
            }
            RoomReceipt::Closed => self.finish_closing(index, true),
            RoomReceipt::NotClosed => self.finish_closing(index, false),
            RoomReceipt::Forgotten => {
                self.outbox.note_answered();
                let forgotten = self.rooms.remove(index);
                assert!(
                    matches!(forgotten, Some(RoomState::Open(OpenRoom { is_forgotten: true, .. }))),
                    "Bug: the storage forgets a room that its home has not forgotten"
                );
            }
        }
    }

    /// Sends the presence reports that are due, and forgets rooms that have been empty for long.
    pub fn handle_tick(&mut self, now: Now) {
        while let Some(&(due_ms, room)) = self.reports.first()
            && due_ms <= now.monotonic_ms
        {
            self.reports.pop_first();
            if let Some(open) = self.open_room(room) {
                open.report_ms = None;
            }
            self.with_room(room, now, |room, outbox| room.handle_tick(now, outbox));
        }
        for _ in 0..FORGOTTEN_A_TICK {
            let Some(&(due_ms, room)) = self.expiries.first() else { break };
            if due_ms > now.monotonic_ms || !self.has_room_for_writes() {
                break;
            }
            self.forget(room);
        }
    }

    /// When [`Homes::handle_tick`] has something to do.
    #[must_use]
    pub fn next_due_ms(&self) -> Option<u64> {
        let report = self.reports.first();
        // Where it has to wait for the storage, it goes on after a receipt.
        let expiry = self.expiries.first().filter(|_| self.has_room_for_writes());
        report.into_iter().chain(expiry).map(|(due_ms, _)| *due_ms).min()
    }

    /// The next delivery, and the shard that it is for.
    #[must_use]
    pub fn poll_delivery(&mut self) -> Option<(ShardIndex, Delivery)> {
        self.outbox.deliveries.pop_front()
    }

    /// The next request to another home, or to this one.
    #[must_use]
    pub fn poll_request(&mut self) -> Option<(ShardIndex, Request)> {
        self.outbox.requests.pop_front()
    }

    /// Keeps the events of all rooms for [`Homes::poll_observed`] from now on.
    pub fn observe(&mut self) {
        self.outbox.observed = Some(VecDeque::new());
    }

    /// The next event of a room, for those who watch the server.
    #[must_use]
    pub fn poll_observed(&mut self) -> Option<ObservedEvent> {
        self.outbox.observed.as_mut()?.pop_front()
    }

    /// The next order for the storage. It must be handed over before the deliveries of the same message are posted.
    #[must_use]
    pub fn poll_write(&mut self) -> Option<Write> {
        self.outbox.writes.pop_front()
    }

    /// The number of orders to the storage without a receipt.
    #[must_use]
    pub fn writes_unanswered(&self) -> usize {
        self.outbox.writes_unanswered
    }

    /// How many proposals, and clients that wait for a room to be opened, wait for the storage.
    #[must_use]
    pub fn proposals_waiting(&self) -> usize {
        self.outbox.proposals_waiting
    }

    /// True while no proposal or write waits for the storage.
    #[must_use]
    pub fn are_settled(&self) -> bool {
        self.outbox.proposals_waiting == 0 && self.outbox.writes_unanswered == 0
    }

    /// False while too many writes or proposals wait for the storage.
    #[must_use]
    pub fn accept_requests(&self) -> bool {
        let waiting_max = if self.are_shared() { SHARED_PROPOSALS_MAX } else { PROPOSALS_WAITING_MAX };
        self.outbox.proposals_waiting < waiting_max && self.has_room_for_writes()
    }

    fn has_room_for_writes(&self) -> bool {
        self.outbox.writes_unanswered < WRITES_UNANSWERED_MAX
    }

    /// True when [`Homes::poll_delivery`], [`Homes::poll_request`] or [`Homes::poll_observed`] has something.
    #[must_use]
    pub fn has_mail(&self) -> bool {
        let has_observed = self.outbox.observed.as_ref().is_some_and(|observed| !observed.is_empty());
        !self.outbox.deliveries.is_empty() || !self.outbox.requests.is_empty() || has_observed
    }

    /// The number of rooms and topics whose home is this shard.
    #[must_use]
    pub fn room_count(&self) -> usize {
        self.configured_count + self.on_demand.len() + self.topics.len()
    }

    /// Lets a room change, then brings everything up to date that depends on its state.
    fn with_room(&mut self, index: RoomIndex, now: Now, change: impl FnOnce(&mut Room, &mut Outbox)) {
        if let Some(RoomState::Open(open)) = self.rooms.get_mut(index) {
            change(&mut open.room, &mut self.outbox);
            self.follow(index, now);
        }
    }

    /// A room, unless it is forgotten or not open yet.
    fn open_room(&mut self, index: RoomIndex) -> Option<&mut OpenRoom> {
        match self.rooms.get_mut(index) {
            Some(RoomState::Open(open)) if !open.is_forgotten => Some(open),
            Some(RoomState::Open(_) | RoomState::Opening { .. }) | None => None,
        }
    }

    /// Brings everything up to date that depends on the state of a room.
    fn follow(&mut self, index: RoomIndex, now: Now) {
        let Some(RoomState::Open(open)) = self.rooms.get_mut(index) else { return };
        if open.is_forgotten {
            return;
        }
        let is_waiting = open.room.has_waiting();
        if open.is_waiting != is_waiting {
            open.is_waiting = is_waiting;
            if is_waiting {
                self.waiting.insert(index);
            } else {
                self.waiting.remove(&index);
            }
        }
        reschedule(&mut self.reports, index, &mut open.report_ms, open.room.next_due_ms());
        if let Some(origin) = open.room.take_closing() {
            self.begin_closing(index, origin);
        }
        let Some(open) = self.open_room(index) else { return };
        if open.lease.is_some() {
            self.follow_lease(index, now);
        }
    }
}

/// Moves the entry of a room from one time to another one.
fn reschedule(
    entries: &mut BTreeSet<(u64, RoomIndex)>,
    index: RoomIndex,
    entry_ms: &mut Option<u64>,
    due_ms: Option<u64>,
) {
    if *entry_ms == due_ms {
        return;
    }
    if let Some(before_ms) = std::mem::replace(entry_ms, due_ms) {
        entries.remove(&(before_ms, index));
    }
    if let Some(due_ms) = due_ms {
        entries.insert((due_ms, index));
    }
}
