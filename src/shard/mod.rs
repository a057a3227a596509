//! A shard: the connections, rooms and topics of one core, as a state machine that never makes a system
//! call.
//!
//! Completions of the ring, messages of other shards and the time go in; submissions to the ring and
//! messages to other shards come out. So the event loop drives it from io_uring, and a simulation from any
//! interleaving that it can think of.
//!
//! - [`handshake`](crate::handshake) is where clients come from: accept, HTTP, upgrade.
//! - [`turn`] is the order in which a [`Shard`] is driven, [`stage`] how all of them shut down together.
//! - [`event_loop`] drives it over a ring and a mesh.
//! - The rest is the state machine. `client` is one client, with its
//!   [`Connection`](uproar_protocol::connection::Connection) and the `gates` ahead of it; `clients` is their slab.
//!   `arrival` takes clients in; `input` reads their messages, within what `work` allows in a turn; `user_messages`,
//!   `sign_in`, `moderation`, `chat` and `hub_user` carry them out; `deliveries` handles mail for members, and `audience`
//!   is the fan-out; `acknowledgement` tells senders what became of their messages; `ending` lets clients go.

mod acknowledgement;
mod arrival;
mod audience;
mod chat;
mod client;
mod clients;
mod deliveries;
mod drain;
mod ending;
pub mod event_loop;
mod gates;
mod hub_user;
mod input;
mod moderation;
mod names_pace;
mod rate;
mod settings;
mod sign_in;
pub mod stage;
mod timers;
pub mod turn;
mod user;
mod user_messages;
mod work;

use std::collections::{HashMap, VecDeque};
use std::mem;
use std::sync::Arc;

use bytes::Bytes;
use uproar_protocol::frames;
use uproar_ring::ConnectionId;
use uproar_ring::SharedBytes;
use uproar_ring::{Completion, Submission};

use crate::accounts::Attempt;
use crate::clock::Now;
use crate::mail::{Delivery, Request};
use crate::metrics::ShardMetrics;
use crate::rooms::{
    Directory, Homes, Origin, Receipt, Restored, RoomIndex, ShardIndex, WRITES_UNANSWERED_MAX, Write,
};
use audience::{LocalRoom, Members};
use client::{Client, connection_config};
use clients::Clients;
use drain::Drain;
pub use gates::GATED_LIMITS_MAX;
pub use rate::Rate;
pub use settings::{Deadlines, Limits, Settings};
use timers::Timers;

/// Requests that may wait for one other shard before reading from clients is paused.
pub const REQUESTS_WAITING_MAX: usize = 256;

/// Deliveries that may wait for one other shard before requests of other shards are left where they are.
/// What this shard has asked of itself by then, at most [`REQUESTS_WAITING_MAX`], is still dealt with.
pub const DELIVERIES_WAITING_MAX: usize = 512;

/// The state machine of one shard.
///
/// Drain rule: after each call of a `handle_*` or of [`Shard::admit`], poll attempts and submissions until `None`, and
/// requests and deliveries as far as their receivers have room. [`Shard::handle_turn_end`] is called when
/// a batch of completions and messages has been handled. [`turn::run`] keeps this rule.
pub struct Shard {
    settings: Settings,
    /// What the connections of all clients have in common.
    connection_config: Arc<uproar_protocol::connection::Config>,
    directory: Directory,
    clients: Clients,
    /// By room.
    rooms: Vec<LocalRoom>,
    topics: HashMap<Arc<str>, Members>,
    homes: Homes,
    timers: Timers,
    /// Connections that may have something to submit.
    dirty: VecDeque<ConnectionId>,
    /// Connections whose input, or its end, waits for its turn.
    readable: VecDeque<ConnectionId>,
    /// Connections that have begun to close. What was pending no longer has to wait: a close frame may be in it.
    closing: VecDeque<ConnectionId>,
    /// What has been done so far; see [`work`].
    work: u64,
    /// What reading may still do in this turn.
    reading_left: u64,
    /// True when a send was submitted whose end leads to more, or is timed: see [`Shard::take_is_send_awaited`].
    is_send_awaited: bool,
    /// Attempts to sign in, at most one of each connection, on their way to the verifier.
    attempts: VecDeque<Attempt<Origin>>,
    /// True when messages are acknowledged only once they are on the disk.
    is_durable: bool,
    /// What this shard says to itself.
    own_requests: VecDeque<Request>,
    own_deliveries: VecDeque<Delivery>,
    /// What it says to others, by shard.
    requests: Vec<VecDeque<Request>>,
    deliveries: Vec<VecDeque<Delivery>>,
    /// True once input of clients is no longer read, because the server shuts down.
    is_hushed: bool,
    drain: Option<Drain>,
    ping: SharedBytes,
    /// Plaintext on its way through TLS, for as long as a call takes. Its capacity follows the longest, which
    /// is bounded by what a connection may hold back of a record, and by what is encrypted at a time.
    scratch: Vec<u8>,
    metrics: Arc<ShardMetrics>,
}

impl Shard {
    /// A shard without connections.
    #[must_use]
    pub fn new(settings: Settings, directory: &Directory, metrics: Arc<ShardMetrics>) -> Self {
        let shards = usize::from(directory.shards());
        assert!(usize::from(settings.index.0) < shards);
        Self {
            homes: Homes::new(settings.index, &settings.rooms, directory, Arc::clone(&metrics)),
            connection_config: connection_config(&settings.limits),
            settings,
            directory: directory.clone(),
            clients: Clients::default(),
            rooms: std::iter::repeat_with(LocalRoom::default).take(directory.room_count()).collect(),
            topics: HashMap::new(),
            timers: Timers::default(),
            dirty: VecDeque::new(),
            readable: VecDeque::new(),
            closing: VecDeque::new(),
            work: 0,
            reading_left: work::READING_MAX,
            is_send_awaited: false,
            attempts: VecDeque::new(),
            is_durable: false,
            own_requests: VecDeque::new(),
            own_deliveries: VecDeque::new(),
            requests: std::iter::repeat_with(VecDeque::new).take(shards).collect(),
            deliveries: std::iter::repeat_with(VecDeque::new).take(shards).collect(),
            is_hushed: false,
            drain: None,
            ping: SharedBytes::new(frames::ping()),
            scratch: Vec::new(),
            metrics,
        }
    }

    /// Goes on where an earlier life of the server has ended. From now on, what [`Shard::poll_write`] yields
    /// is to be written, and answered with [`Shard::handle_receipt`].
    ///
    /// # Panics
    ///
    /// When somebody is here already.
    pub fn restore(&mut self, restored: &Restored) {
        assert_eq!(self.clients.len(), 0, "Bug: somebody came before the history");
        self.is_durable = true;
        self.homes.restore(&restored.rooms);
        if let Some(last_author) = restored.last_author {
            self.directory.users().continue_after(last_author);
        }
    }

    /// Takes what the ring reports.
    pub fn handle_completion(&mut self, completion: Completion<'_>, now: Now) {
        match completion {
            Completion::Received(id, bytes) => self.handle_received(id, bytes, now),
            Completion::EndOfStream(id) => self.handle_end_of_stream(id, now),
            Completion::ReceiveFailed(id, error) => self.handle_lost(id, &error),
            Completion::Sent(id, batch, result) => self.handle_sent(id, batch, result, now),
            Completion::Closed(id) => self.handle_closed(id),
        }
        self.settle(now);
    }

    /// Takes a request of another shard.
    pub fn handle_request(&mut self, request: Request, now: Now) {
        self.own_requests.push_back(request);
        self.settle(now);
    }

    /// Takes a delivery of another shard.
    pub fn handle_delivery(&mut self, delivery: Delivery, now: Now) {
        self.own_deliveries.push_back(delivery);
        self.settle(now);
    }

    /// Takes what the storage says of this shard's writes.
    pub fn handle_receipt(&mut self, receipt: Receipt, now: Now) {
        self.homes.handle_receipt(receipt);
        self.settle(now);
    }

    /// Lets time pass.
    pub fn handle_tick(&mut self, now: Now) {
        while let Some((due_ms, id)) = self.timers.poll(now.monotonic_ms) {
            self.handle_timer(id, due_ms, now);
        }
        self.homes.handle_tick(now);
        self.announce_with_names(now);
        self.handle_drain_tick(now);
        self.settle(now);
    }

    /// Goes on with input that has waited for its turn or for room in the mesh. What is left has its turn next.
    pub fn handle_turn_end(&mut self, now: Now) {
        self.read_in_turn(now);
    }

    /// The next submission for the ring. Connections have their turn in the order in which something came up for
    /// them.
    #[must_use]
    pub fn poll_submission(&mut self) -> Option<Submission> {
        while let Some(&id) = self.dirty.front() {
            let Some(client) = self.clients.get_mut(id) else {
                self.dirty.pop_front();
                continue;
            };
            match client.next_submission(id, &mut self.scratch) {
                // A send may follow.
                Ok(Some(submission @ (Submission::PauseReceive(_) | Submission::ResumeReceive(_)))) => {
                    return Some(submission);
                }
                Ok(submission) => {
                    client.is_dirty = false;
                    self.is_send_awaited |=
                        matches!(submission, Some(Submission::Send(..))) && client.awaits_send();
                    self.dirty.pop_front();
                    if submission.is_some() {
                        return submission;
                    }
                }
                // Its close is what comes next.
                Err(error) => self.handle_exhausted_tls(id, &error),
            }
        }
        None
    }

    /// True when, since the last call, a send was submitted whose end leads to more: then it should be known soon, and
    /// else may be told of with whatever comes next.
    #[must_use]
    pub fn take_is_send_awaited(&mut self) -> bool {
        mem::take(&mut self.is_send_awaited)
    }

    /// True while [`Shard::poll_submission`] may have something.
    #[must_use]
    pub fn has_submissions(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// How much has been done since the shard was made, in frames pushed, so that a turn can be bounded.
    #[must_use]
    pub fn work(&self) -> u64 {
        self.work
    }

    /// The next message for the storage. Writes are to be on their way before anything else leaves the
    /// shard: what somebody has seen must not be forgotten while the server stops.
    #[must_use]
    pub fn poll_write(&mut self) -> Option<Write> {
        self.homes.poll_write()
    }

    /// How many writes have not been answered with a receipt.
    #[must_use]
    pub fn writes_unanswered(&self) -> usize {
        self.homes.writes_unanswered()
    }

    /// The next request for another shard.
    #[must_use]
    pub fn poll_request(&mut self, to: ShardIndex) -> Option<Request> {
        self.requests[usize::from(to.0)].pop_front()
    }

    /// The next delivery for another shard.
    #[must_use]
    pub fn poll_delivery(&mut self, to: ShardIndex) -> Option<Delivery> {
        self.deliveries[usize::from(to.0)].pop_front()
    }

    /// All shards, this one included, for which nothing ever waits.
    pub fn shards(&self) -> impl Iterator<Item = ShardIndex> + use<> {
        (0..self.directory.shards()).map(ShardIndex)
    }

    /// How many requests and deliveries wait for another shard.
    #[must_use]
    pub fn waiting_for(&self, to: ShardIndex) -> (usize, usize) {
        (self.requests[usize::from(to.0)].len(), self.deliveries[usize::from(to.0)].len())
    }

    /// False while requests of other shards should be left in the mailbox, because what they lead to has
    /// no room, with other shards or with the storage. Deliveries and receipts are always welcome.
    #[must_use]
    pub fn accepts_requests(&self) -> bool {
        self.homes.writes_unanswered() < WRITES_UNANSWERED_MAX
            && self.deliveries.iter().all(|waiting| waiting.len() < DELIVERIES_WAITING_MAX)
    }

    /// True while input of clients is held back.
    #[must_use]
    pub fn is_congested(&self) -> bool {
        // What this shard asks of itself becomes deliveries for others just as well.
        self.is_hushed
            || self.own_requests.len() >= REQUESTS_WAITING_MAX
            || self.requests.iter().any(|waiting| waiting.len() >= REQUESTS_WAITING_MAX)
            || !self.accepts_requests()
    }

    /// True while input that has waited can be read: the next turn is due at once.
    #[must_use]
    pub fn has_readable_input(&self) -> bool {
        !self.readable.is_empty() && !self.is_congested()
    }

    /// Stops reading what clients send, ahead of a shutdown.
    pub fn hush(&mut self) {
        self.is_hushed = true;
    }

    /// When [`Shard::handle_tick`] has something to do.
    #[must_use]
    pub fn next_due_ms(&self) -> Option<u64> {
        let drain = self.drain.as_ref().and_then(Drain::next_due_ms);
        let names = self.rooms[RoomIndex::GENERAL.get()].pace.next_due_ms();
        [self.timers.next_due_ms(), self.homes.next_due_ms(), names, drain].into_iter().flatten().min()
    }

    /// What is charged for all that waits in out-queues or is under way, added up over all connections: see
    /// [`SharedBytes::charged_bytes`].
    #[must_use]
    pub fn queued_bytes(&self) -> usize {
        self.clients.iter().map(Client::queued_bytes).sum()
    }

    /// The most that one connection's out-queue is charged. It looks at every
    /// connection, and is there for whoever checks the invariant *everything bounded* from outside.
    #[must_use]
    pub fn longest_queue_bytes(&self) -> usize {
        self.clients.iter().map(Client::queued_bytes).max().unwrap_or(0)
    }

    /// The most bytes of one connection that wait to be read; see [`Shard::longest_queue_bytes`].
    #[must_use]
    pub fn most_pending_bytes(&self) -> usize {
        self.clients.iter().map(|client| client.connection.pending_bytes()).max().unwrap_or(0)
    }

    /// How many connections there are, those at their end included.
    #[must_use]
    pub fn connection_count(&self) -> usize {
        self.clients.len()
    }

    /// How many rooms and topics are at home here.
    #[must_use]
    pub fn room_count(&self) -> usize {
        self.homes.room_count()
    }

    /// Handles what this shard has said to itself until nothing is left.
    ///
    /// Deliveries come first, so that each room's members hear of one change before the home is told the
    /// next.
    #[inline]
    fn settle(&mut self, now: Now) {
        // After most completions, the ends of sends, there is nothing to do.
        if self.homes.has_deliveries()
            || !self.own_deliveries.is_empty()
            || !self.own_requests.is_empty()
            || !self.closing.is_empty()
        {
            self.settle_all(now);
        }
    }

    fn settle_all(&mut self, now: Now) {
        loop {
            while let Some((to, delivery)) = self.homes.poll_delivery() {
                if to == self.settings.index {
                    self.own_deliveries.push_back(delivery.into());
                } else {
                    self.deliveries[usize::from(to.0)].push_back(delivery.into());
                }
            }
            if let Some(delivery) = self.own_deliveries.pop_front() {
                self.deliver(delivery, now);
            } else if let Some(request) = self.own_requests.pop_front() {
                match request {
                    Request::Private(private) => self.receive_private(private, now),
                    Request::Moderate(order) => self.moderate(order, now),
                    Request::Room(request) => self.homes.handle_request(request, now),
                }
            } else if let Some(id) = self.closing.pop_front() {
                self.read_pending(id, now);
            } else {
                return;
            }
        }
    }

    fn request(&mut self, to: ShardIndex, request: impl Into<Request>) {
        let request = request.into();
        if to == self.settings.index {
            self.own_requests.push_back(request);
        } else {
            self.requests[usize::from(to.0)].push_back(request);
        }
    }

    fn reply(&mut self, to: ShardIndex, delivery: Delivery) {
        if to == self.settings.index {
            self.own_deliveries.push_back(delivery);
        } else {
            self.deliveries[usize::from(to.0)].push_back(delivery);
        }
    }

    fn origin(&self, connection: ConnectionId) -> Origin {
        Origin { shard: self.settings.index, connection }
    }

    /// Queues a message for one connection, past what waits for the disk; the connection is evicted when it
    /// does not fit.
    fn push(&mut self, id: ConnectionId, bytes: Bytes, now: Now) {
        if self.clients.get_mut(id).is_some_and(|client| client.connection.is_open()) {
            self.metrics.messages_delivered.add(1);
            self.push_frame(id, SharedBytes::new(bytes), now);
        }
    }

    fn push_frame(&mut self, id: ConnectionId, frame: SharedBytes, now: Now) {
        let Some(client) = self.clients.get_mut(id) else { return };
        self.work += work::frames(1, frame.len());
        match client.push(frame) {
            Ok(()) => self.mark_dirty(id),
            Err(overflow) => self.evict(id, overflow, now),
        }
    }

    /// As [`Shard::push`], for what has its place in the room's order.
    fn push_in_order(&mut self, id: ConnectionId, bytes: Bytes, now: Now) {
        let Some(client) = self.clients.get_mut(id) else { return };
        if !client.connection.is_open() {
            return;
        }
        self.metrics.messages_delivered.add(1);
        self.work += work::frames(1, bytes.len());
        match client.push_in_order(SharedBytes::new(bytes)) {
            Ok(()) => self.mark_dirty(id),
            Err(overflow) => self.evict(id, overflow, now),
        }
    }

    /// Queues what a join sends.
    fn push_join(&mut self, id: ConnectionId, frames: Vec<SharedBytes>) {
        if let Some(client) = self.clients.get_mut(id) {
            self.work += frames.iter().map(|frame| work::frames(1, frame.len())).sum::<u64>();
            client.push_join(frames);
            self.mark_dirty(id);
        }
    }

    fn mark_dirty(&mut self, id: ConnectionId) {
        if let Some(client) = self.clients.get_mut(id)
            && !client.is_dirty
        {
            client.is_dirty = true;
            self.dirty.push_back(id);
        }
    }

    /// Sees to it that the timers look at a connection in time.
    fn schedule(&mut self, id: ConnectionId) {
        let Some(client) = self.clients.get_mut(id) else { return };
        let due_ms = client.due_ms(&self.settings.deadlines.keep_alive);
        // An entry that comes earlier finds out by itself that it is too early.
        if due_ms != u64::MAX && (client.timer_ms == 0 || due_ms < client.timer_ms) {
            client.timer_ms = due_ms;
            self.timers.schedule(due_ms, id);
            let clients = &mut self.clients;
            self.timers.shrink(2 * clients.len(), |due_ms, id| {
                clients.get_mut(id).is_some_and(|client| client.timer_ms == due_ms)
            });
        }
    }
}
