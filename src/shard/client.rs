//! One client of a shard: its connection, without the socket, and what it is to the server.

use std::net::SocketAddr;
use std::sync::Arc;

use uproar_protocol::connection::{
    self, Action, BATCH_ENTRIES_MAX, Batch, ClosingTimes, Config, Connection, ControlOrder, Entries,
    KeepAlive, QueueLimits,
};
use uproar_protocol::tls::{self, TlsStream};
use uproar_ring::{BATCH_FRAMES_MAX, CloseMode, ConnectionId, Frames, SendBatch, SharedBytes, Submission};

use super::gates::{GATED_LIMITS_MAX, Gates};
use super::settings::Limits;
use super::user::{RoomMembership, User};
use crate::dialect::UserDialect;
use crate::metrics::Dialect;
use crate::permit::ClientPermit;
use crate::rooms::Place;

// A batch of the protocol is one of the ring.
const _: () = assert!(BATCH_ENTRIES_MAX <= BATCH_FRAMES_MAX);

/// Why a frame does not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Overflow {
    /// The peer does not read fast enough.
    SlowReceiver,
    /// The storage has not spoken for too long: [`GATED_LIMITS_MAX`] is reached.
    SlowStorage,
}

/// What a client is to the server.
#[derive(Debug)]
pub(super) enum Session {
    /// A user, with a name and in a room.
    User(Box<User>),
    /// On a topic.
    Raw { topic: Arc<str>, membership: TopicMembership },
    /// Talks to itself.
    Echo,
}

impl Session {
    pub(super) fn dialect(&self) -> Dialect {
        match self {
            Self::User(user) => match user.dialect {
                UserDialect::Chat => Dialect::Chat,
                UserDialect::Hub => Dialect::Hub,
            },
            Self::Raw { .. } => Dialect::Raw,
            Self::Echo => Dialect::Echo,
        }
    }
}

impl Session {
    /// True while a home counts it as a member, or was asked to.
    pub(super) fn is_member(&self) -> bool {
        match self {
            Self::User(user) => user.membership != RoomMembership::None,
            Self::Raw { membership, .. } => *membership != TopicMembership::None,
            Self::Echo => false,
        }
    }
}

/// Whether a raw connection is on its topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TopicMembership {
    None,
    Joining,
    In { place: u32 },
}

/// One client: its connection, and what it is to the server.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) connection: Connection<SharedBytes>,
    /// What waits for the storage. Present exactly while something does; none once the connection is closing.
    gates: Option<Box<Gates>>,
    /// What joins have added to the limits, until what waits is within them again.
    join_bytes: usize,
    /// True while it is in the shard's list of clients whose connection may have an action.
    pub(super) is_dirty: bool,
    /// True while it is in the shard's list of clients whose input waits for its turn.
    pub(super) is_readable: bool,
    /// When the timers look at this client next; entries of another time are stale.
    pub(super) timer_ms: u64,
    pub(super) session: Session,
    /// The address and port at the other end.
    pub(super) peer: SocketAddr,
    /// The answer to the upgrade, until the client is what it asked to be.
    pub(super) greeting: Option<SharedBytes>,
    _permit: ClientPermit,
}

impl Client {
    pub(super) fn new(
        session: Session,
        peer: SocketAddr,
        greeting: SharedBytes,
        tls: Option<Box<TlsStream>>,
        permit: ClientPermit,
        config: &Arc<Config>,
        now_ms: u64,
    ) -> Self {
        Self {
            connection: Connection::new(config, tls, now_ms),
            gates: None,
            join_bytes: 0,
            is_dirty: false,
            is_readable: false,
            timer_ms: 0,
            session,
            peer,
            greeting: Some(greeting),
            _permit: permit,
        }
    }

    /// Queues a frame that waits for no gate.
    ///
    /// # Errors
    ///
    /// [`Overflow::SlowReceiver`] when more than the limit would wait; nothing was queued then.
    #[inline]
    pub(super) fn push(&mut self, frame: SharedBytes) -> Result<(), Overflow> {
        self.connection.push(frame).map_err(|_| Overflow::SlowReceiver)
    }

    /// Queues a frame that has its place in the room's order.
    ///
    /// # Errors
    ///
    /// As for [`Client::push`]; and [`Overflow::SlowStorage`] when too much waits behind gates.
    #[inline]
    pub(super) fn push_in_order(&mut self, frame: SharedBytes) -> Result<(), Overflow> {
        match &mut self.gates {
            None => self.push(frame),
            Some(_) => self.push_behind_gates(frame),
        }
    }

    /// Queues an answer that leaves, and lets leave what has its place behind it, when [`Client::open_gate`] is called for
    /// its place.
    ///
    /// # Errors
    ///
    /// [`Overflow::SlowStorage`] when too much waits behind gates.
    pub(super) fn push_gate(&mut self, place: Place, answer: SharedBytes) -> Result<(), Overflow> {
        if self.connection.is_open() {
            self.find_room_behind_gates(&answer)?;
            self.gates.get_or_insert_default().push_gate(place, answer);
        }
        Ok(())
    }

    /// Opens the gate of a place; another answer, if there is one, takes the place of the one in it. What it lets go may
    /// exceed the limit: the peer had no chance to read it. False when there is no such gate any more.
    pub(super) fn open_gate(&mut self, place: Place, other: Option<SharedBytes>) -> bool {
        let Some(gates) = &mut self.gates else { return false };
        let Some(released) = gates.open(place, other) else { return false };
        if gates.is_empty() {
            self.gates = None;
        }
        for frame in released {
            self.connection.push_beyond_limit(frame);
        }
        self.end_join();
        true
    }

    /// Queues what a join sends, in order, whatever its length: it is not the receiver's fault that a room has a long
    /// history. Nothing more is read from the peer until that has left (see [`Client::is_over_limit`]), so a receiver that
    /// does not read cannot collect joins.
    pub(super) fn push_join(&mut self, frames: Vec<SharedBytes>) {
        if !self.connection.is_open() {
            return;
        }
        self.join_bytes += frames.iter().map(SharedBytes::charged_bytes).sum::<usize>();
        for frame in frames {
            match &mut self.gates {
                None => self.connection.push_beyond_limit(frame),
                Some(gates) => gates.push(frame),
            }
        }
        self.end_join();
    }

    /// Queues the answer to the upgrade, if that has not been done.
    pub(super) fn greet(&mut self) {
        if let Some(greeting) = self.greeting.take() {
            self.push_join(vec![greeting]);
        }
    }

    /// True while a join, or a late disk, has left more waiting than the limit, or more than that behind gates. Meanwhile
    /// nothing is to be read from the peer, so that it does not add to it.
    #[must_use]
    pub(super) fn is_over_limit(&self) -> bool {
        self.connection.is_over_limit() || self.gated_bytes() > self.connection.queue_bytes_max()
    }

    /// Takes back a batch of which `sent_bytes` have left.
    pub(super) fn handle_sent(&mut self, batch: SendBatch, sent_bytes: usize, now_ms: u64) {
        self.connection.handle_sent(from_ring(batch), sent_bytes, now_ms);
        self.end_join();
    }

    /// Drops what is behind gates, of a connection that is no longer open: its last frame does not wait for the disk.
    pub(super) fn drop_gates(&mut self) {
        debug_assert!(!self.connection.is_open());
        self.gates = None;
    }

    /// What is charged for all that waits, be it behind a gate, or is under way.
    #[must_use]
    pub(super) fn queued_bytes(&self) -> usize {
        self.connection.queued_bytes() + self.gated_bytes()
    }

    /// How many frames wait, be it behind a gate, or are under way.
    pub(super) fn queued_frames(&self) -> usize {
        self.connection.queued_entries() + self.gates.as_ref().map_or(0, |gates| gates.len())
    }

    /// What the ring is to be asked for this client now, if anything. `scratch` is used while it is called.
    ///
    /// # Errors
    ///
    /// When TLS cannot go on.
    pub(super) fn next_submission(
        &mut self,
        id: ConnectionId,
        scratch: &mut Vec<u8>,
    ) -> Result<Option<Submission>, tls::Error> {
        let action = self.connection.poll_action(scratch)?;
        Ok(action.map(|action| match action {
            Action::PauseReceive => Submission::PauseReceive(id),
            Action::ResumeReceive => Submission::ResumeReceive(id),
            Action::Send(batch) => Submission::Send(id, to_ring(batch)),
            Action::ShutdownWrite => Submission::ShutdownWrite(id),
            Action::Close(connection::CloseMode::Graceful) => Submission::Close(id, CloseMode::Graceful),
            Action::Close(connection::CloseMode::Abort) => Submission::Close(id, CloseMode::Abort),
        }))
    }

    /// True when something is to be done once the send under way has ended.
    pub(super) fn awaits_send(&self) -> bool {
        self.connection.awaits_send() || self.gates.is_some()
    }

    /// True while its input must wait: for an answer from a home, or until a long answer has left.
    pub(super) fn is_awaiting(&self) -> bool {
        if self.is_over_limit() {
            return true;
        }
        match &self.session {
            Session::User(user) => user.is_awaiting(),
            Session::Raw { membership, .. } => *membership == TopicMembership::Joining,
            Session::Echo => false,
        }
    }

    /// True while the server, and not the peer, is why nothing is heard of it: its input waits for its turn, or its
    /// upgrade for an answer. A peer that does not read what it was sent has itself to thank.
    pub(super) fn is_kept_waiting(&self) -> bool {
        self.greeting.is_some() || self.is_input_waiting()
    }

    /// True while its input waits to be read, and not because it does not read itself.
    fn is_input_waiting(&self) -> bool {
        self.connection.has_pending() && !self.is_over_limit()
    }

    /// When the connection is closed as idle, unless it is heard of. A hub client must also say something: for it only
    /// messages end a silence.
    pub(super) fn idle_due_ms(&self, keep_alive: &KeepAlive) -> u64 {
        let unanswered_ms = self.connection.idle_due_ms(keep_alive);
        match &self.session {
            // Pending input counts as said, though nobody has read it; and nothing can be said ahead of the answer to the
            // upgrade.
            Session::User(user)
                if user.dialect == UserDialect::Hub
                    && !self.connection.has_pending()
                    && self.greeting.is_none() =>
            {
                unanswered_ms.min(user.last_message_ms + keep_alive.idle_timeout_ms)
            }
            _ => unanswered_ms,
        }
    }

    /// When the timers should look at this client.
    pub(super) fn due_ms(&self, keep_alive: &KeepAlive) -> u64 {
        let due_ms = self.connection.next_due_ms(keep_alive);
        match self.connection.is_open() {
            true => due_ms.min(self.idle_due_ms(keep_alive)).min(self.sign_in_due_ms()),
            false => due_ms,
        }
    }

    /// When its time to sign in is over. It stands still while the verifier is at it, and while its input waits to be
    /// read.
    pub(super) fn sign_in_due_ms(&self) -> u64 {
        match &self.session {
            Session::User(user) if !self.is_input_waiting() => user.sign_in_due_ms(),
            Session::User(_) | Session::Raw { .. } | Session::Echo => u64::MAX,
        }
    }

    fn gated_bytes(&self) -> usize {
        self.gates.as_ref().map_or(0, |gates| gates.charged_bytes())
    }

    fn push_behind_gates(&mut self, frame: SharedBytes) -> Result<(), Overflow> {
        self.find_room_behind_gates(&frame)?;
        self.gates.get_or_insert_default().push(frame);
        Ok(())
    }

    /// What gates have let go still counts: a peer that does not read it cannot fill the room behind the next gates again
    /// and again.
    fn find_room_behind_gates(&self, frame: &SharedBytes) -> Result<(), Overflow> {
        let gated_bytes = self.gated_bytes() + frame.charged_bytes();
        let queue_bytes_max = self.connection.queue_bytes_max();
        let gated_bytes_max = GATED_LIMITS_MAX * queue_bytes_max + self.join_bytes;
        let is_within = gated_bytes <= gated_bytes_max
            && self.connection.queued_bytes() + gated_bytes <= queue_bytes_max + gated_bytes_max;
        is_within.then_some(()).ok_or(Overflow::SlowStorage)
    }

    fn end_join(&mut self) {
        if !self.is_over_limit() {
            self.join_bytes = 0;
        }
    }
}

/// What the connections of all clients have in common.
pub(super) fn connection_config(limits: &Limits) -> Arc<Config> {
    Arc::new(Config {
        new_mask: None,
        message_bytes_max: limits.frame_bytes_max,
        queue: QueueLimits {
            charged_bytes_max: limits.queue_bytes_max,
            overhead_bytes: SharedBytes::OVERHEAD_BYTES,
            control: ControlOrder::Queued,
        },
        closing: ClosingTimes::default(),
    })
}

/// A batch of the protocol as the ring takes it.
fn to_ring(batch: Batch<SharedBytes>) -> SendBatch {
    match batch.into_parts() {
        (Entries::One(frame), head_offset) => SendBatch::one(frame, head_offset),
        (Entries::Many(frames), head_offset) => SendBatch::many(frames, head_offset),
    }
}

/// The inverse of [`to_ring`].
fn from_ring(batch: SendBatch) -> Batch<SharedBytes> {
    let (frames, head_offset) = batch.into_parts();
    match frames {
        Frames::One(frame) => Batch::new(Entries::One(frame), head_offset),
        Frames::Many(frames) => Batch::new(Entries::Many(frames), head_offset),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::permit::ClientPlaces;
    use crate::rooms::{MessageId, RoomIndex};
    use crate::shard::Rate;

    const OVERHEAD: usize = SharedBytes::OVERHEAD_BYTES;

    fn frame(len: usize) -> SharedBytes {
        SharedBytes::from(vec![b'x'; len])
    }

    /// A frame of this length in the queue's count.
    fn charged(bytes: usize) -> SharedBytes {
        frame(bytes - OVERHEAD)
    }

    fn place(id: u64) -> Place {
        Place { room: RoomIndex::GENERAL, id: MessageId(id) }
    }

    /// A client with nothing in its queue, which holds so many bytes.
    fn client(queue_bytes_max: usize) -> Client {
        let rate = Rate { per_second: 1, burst: 1 };
        let limits = Limits { message_bytes_max: 1, frame_bytes_max: 1, queue_bytes_max, rate };
        let peer = SocketAddr::from(([127, 0, 0, 1], 1));
        let permit = ClientPlaces::new(1).acquire().unwrap();
        let mut client =
            Client::new(Session::Echo, peer, frame(0), None, permit, &connection_config(&limits), 0);
        client.greet();
        client
    }

    /// The lengths of what leaves now, in order.
    fn leaving(client: &mut Client) -> Vec<usize> {
        let id = ConnectionId { index: 0, generation: 0 };
        let Some(Submission::Send(_, batch)) = client.next_submission(id, &mut Vec::new()).unwrap() else {
            return Vec::new();
        };
        let lengths = (0..batch.frame_count()).map(|index| batch.slice(index).len()).collect();
        let bytes = batch.remaining_bytes();
        client.handle_sent(batch, bytes, 0);
        lengths
    }

    #[test]
    fn only_what_has_its_place_in_the_order_waits_for_gates() {
        let mut client = client(10 * OVERHEAD + 100);
        client.push_in_order(frame(1)).unwrap();
        client.push_gate(place(1), frame(2)).unwrap();
        client.push_in_order(frame(3)).unwrap();
        client.push_gate(place(2), frame(4)).unwrap();
        client.push_join(vec![frame(5), frame(6)]);
        client.push(frame(7)).unwrap();
        assert_eq!(leaving(&mut client), [1, 7]);
        assert!(client.open_gate(place(2), None));
        assert_eq!(leaving(&mut client), [0; 0]);
        assert!(client.open_gate(place(1), Some(frame(8))));
        assert!(!client.open_gate(place(1), None));
        assert_eq!(leaving(&mut client), [8, 3, 4, 5, 6]);
        assert!(client.connection.is_flushed());
    }

    #[test]
    fn a_late_disk_does_not_count_against_the_receiver() {
        let mut client = client(1_000);
        client.push_gate(place(1), charged(200)).unwrap();
        for _ in 0..GATED_LIMITS_MAX - 1 {
            client.push_in_order(charged(1_000)).unwrap();
        }
        assert!(client.is_over_limit(), "nothing is read meanwhile");
        client.push(charged(1_000)).unwrap();
        assert_eq!(client.push(frame(1)), Err(Overflow::SlowReceiver));
        assert_eq!(leaving(&mut client), [1_000 - OVERHEAD]);
        client.push_in_order(charged(800)).unwrap();
        assert_eq!(client.push_in_order(frame(1)), Err(Overflow::SlowStorage));
        assert_eq!(client.push_gate(place(2), frame(1)), Err(Overflow::SlowStorage));
        assert!(client.open_gate(place(1), None));
        client.push_in_order(frame(1)).unwrap();
        assert!(client.is_over_limit());
        assert_eq!(client.queued_bytes(), GATED_LIMITS_MAX * 1_000 + OVERHEAD + 1);
        assert_eq!(leaving(&mut client).len(), GATED_LIMITS_MAX + 2);
        assert_eq!(client.push(charged(1_001)), Err(Overflow::SlowReceiver), "the allowance has ended");
    }

    #[test]
    fn the_last_frame_waits_for_no_gate() {
        let mut client = client(4 * OVERHEAD + 100);
        client.push(frame(1)).unwrap();
        client.push_gate(place(1), frame(2)).unwrap();
        client.push_in_order(frame(3)).unwrap();
        client.connection.close(1000, "", 0);
        client.drop_gates();
        assert!(!client.open_gate(place(1), None));
        assert_eq!(leaving(&mut client), [1, 4]);
        assert!(client.connection.is_flushed());
    }
}
