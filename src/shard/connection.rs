//! One established connection, without its socket: the WebSocket state, the out-queue, and how far its
//! life has come.

use std::mem;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::{Buf, Bytes, BytesMut};
use uproar_protocol::frames::{self, Event, MessageKind, Opcode, Reader, Role};
use uproar_protocol::tls::{self, TlsStream};
use uproar_ring::ConnectionId;
use uproar_ring::Frame;
use uproar_ring::{CloseMode, SendBatch, Submission};

use super::encryption::Encryption;
use super::out_queue::OutQueue;
use super::user::{RoomMembership, User};
use super::{Deadlines, Limits};
use crate::dialect::UserDialect;
use crate::metrics::Dialect;
use crate::permit::ClientPermit;

/// Received bytes that may wait to be read before receiving is paused.
const PENDING_BYTES_MAX: usize = 64 * 1024;

/// Receiving goes on when so few are left. Pausing and resuming cost a submission each, so there is room between
/// the two.
const PENDING_BYTES_LOW: usize = PENDING_BYTES_MAX / 2;

/// Where a connection is in its life. It only moves forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Messages are handled.
    Open,
    /// We have queued a close frame and wait for the peer's.
    Closing(Ending),
    /// Nothing more is read. What is queued is sent, then a FIN, and then the peer's FIN is awaited, so
    /// that no reset overtakes our last words.
    Lingering(Ending),
    /// Nothing is left but to close it; only `Closed` follows. The mode is there until the ring has been asked.
    Ended(Option<CloseMode>),
}

/// The deadlines of a connection that is being closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ending {
    /// When to cut it off, unless it makes progress.
    pub(super) patience_ms: u64,
    /// When to cut it off in any case.
    pub(super) last_ms: u64,
    /// True once the FIN was sent.
    pub(super) fin_sent: bool,
}

/// What a connection is to the hub.
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

/// What was read from a connection.
#[derive(Debug)]
pub(super) enum Input {
    /// A whole message.
    Message(MessageKind, Bytes),
    /// A ping or pong; a ping's answer is queued.
    Control,
    /// The peer's close frame; the answer to one that came first is among the replies.
    Close,
    /// The peer broke the protocol: this is the close code to say so with (RFC 6455, section 7.4.1).
    Violation { code: u16, reason: &'static str },
}

/// One connection.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) phase: Phase,
    /// True while it is in the shard's list of connections that may have something to submit.
    pub(super) is_dirty: bool,
    /// True when the ring was asked to stop receiving.
    is_paused: bool,
    /// True when our FIN is to be submitted.
    is_fin_due: bool,
    /// True while it is in the shard's list of connections whose input waits for its turn.
    pub(super) is_readable: bool,
    /// True once the peer's FIN has come. Its end is handled when what it said before has been read.
    pub(super) is_at_end_of_stream: bool,
    /// When it was pinged, if nothing has been received since.
    pub(super) pinged_ms: Option<u64>,
    pub(super) out: OutQueue,
    /// Between the queue and the socket, where the connection is over TLS.
    pub(super) encryption: Option<Box<Encryption>>,
    pub(super) last_received_ms: u64,
    /// When the timers look at this connection next; entries of another time are stale.
    pub(super) timer_ms: u64,
    pub(super) session: Session,
    /// The address and port at the other end.
    pub(super) peer: SocketAddr,
    reader: Reader,
    /// Received and not yet read: an answer is awaited, the mesh is congested, or others have their turn.
    pending: BytesMut,
    /// The answer to the upgrade, until the connection is what was asked for.
    pub(super) greeting: Option<Frame>,
    _permit: Option<ClientPermit>,
}

impl Connection {
    pub(super) fn new(
        session: Session,
        peer: SocketAddr,
        greeting: Frame,
        tls: Option<Box<TlsStream>>,
        permit: Option<ClientPermit>,
        limits: &Limits,
        now_ms: u64,
    ) -> Self {
        Self {
            phase: Phase::Open,
            is_dirty: false,
            is_paused: false,
            is_fin_due: false,
            is_readable: false,
            is_at_end_of_stream: false,
            pinged_ms: None,
            out: OutQueue::new(limits.queue_bytes_max),
            encryption: tls.map(|stream| Box::new(Encryption::new(*stream))),
            last_received_ms: now_ms,
            timer_ms: 0,
            session,
            peer,
            reader: Reader::new(Role::Server, limits.frame_bytes_max),
            pending: BytesMut::new(),
            greeting: Some(greeting),
            _permit: permit,
        }
    }

    /// Reads the next thing out of `input`, from which it takes what it needs. What must be answered at
    /// the level of the protocol is appended to `replies`.
    ///
    /// Drain rule: call it until `None`; what it has taken by then is kept for the next bytes.
    pub(super) fn poll_input(&mut self, input: &mut &[u8], replies: &mut Vec<Frame>) -> Option<Input> {
        Some(match self.reader.next(input) {
            Ok(event) => match event? {
                Event::Text(text) => Input::Message(MessageKind::Text, text.into_owned().into()),
                Event::Binary(bytes) => Input::Message(MessageKind::Binary, bytes.into_owned().into()),
                Event::Ping(payload) => {
                    self.out.push_pong(Frame::new(frames::frame(Opcode::Pong, &payload, None).into()));
                    Input::Control
                }
                Event::Pong(_) => Input::Control,
                Event::Close(close) => {
                    // RFC 6455, 5.5.1: the answer typically echoes the code. To ours no answer is due.
                    if self.phase == Phase::Open {
                        let code = close.map(|close| close.code.to_be_bytes());
                        let code = code.as_ref().map_or(&[][..], |code| code);
                        replies.push(Frame::new(frames::frame(Opcode::Close, code, None).into()));
                    }
                    Input::Close
                }
            },
            Err(violation) => {
                Input::Violation { code: violation.close_code(), reason: violation.close_reason() }
            }
        })
    }

    /// What the ring is to be asked for this connection now, if anything. `scratch` is of use while it is called.
    ///
    /// Submissions are made here and nowhere else, of what the connection is at the moment, so nothing can be asked
    /// for one that is closing: its close is the only and the last thing that is.
    ///
    /// # Errors
    ///
    /// When TLS cannot go on.
    pub(super) fn next_submission(
        &mut self,
        id: ConnectionId,
        scratch: &mut Vec<u8>,
    ) -> Result<Option<Submission>, tls::Error> {
        if let Phase::Ended(mode) = &mut self.phase {
            return Ok(mode.take().map(|mode| Submission::Close(id, mode)));
        }
        if self.wants_pause() != self.is_paused {
            self.is_paused = !self.is_paused;
            let submission =
                if self.is_paused { Submission::PauseReceive(id) } else { Submission::ResumeReceive(id) };
            return Ok(Some(submission));
        }
        if let Some(batch) = self.next_batch(scratch)? {
            return Ok(Some(Submission::Send(id, batch)));
        }
        Ok(mem::take(&mut self.is_fin_due).then_some(Submission::ShutdownWrite(id)))
    }

    /// What to send now: `None` when nothing waits or a batch is still under way.
    fn next_batch(&mut self, scratch: &mut Vec<u8>) -> Result<Option<SendBatch>, tls::Error> {
        match &mut self.encryption {
            None => Ok(self.out.next_batch()),
            Some(encryption) => encryption.next_batch(&mut self.out, scratch),
        }
    }

    /// Takes back a batch of which `sent` bytes have left.
    pub(super) fn handle_sent(&mut self, batch: SendBatch, sent: usize) {
        match &mut self.encryption {
            None => self.out.handle_sent(batch, sent),
            Some(encryption) => encryption.handle_sent(&mut self.out, batch, sent),
        }
    }

    /// Gives up what is to be sent. The alert of a TLS that has failed still leaves.
    pub(super) fn give_up(&mut self) {
        self.out.give_up();
        if let Some(encryption) = &mut self.encryption {
            encryption.give_up();
        }
    }

    /// True when nothing waits to be sent, and nothing is under way.
    #[must_use]
    pub(super) fn is_flushed(&self) -> bool {
        self.out.is_empty() && !self.encryption.as_ref().is_some_and(|encryption| encryption.has_unsent())
    }

    /// Ends our side of TLS, where there is any and it has not ended. What that takes is then to be sent.
    pub(super) fn end_encryption(&mut self) {
        if let Some(encryption) = &mut self.encryption {
            encryption.close();
        }
    }

    /// True when something is to be done once the send under way has ended.
    pub(super) fn awaits_send(&self) -> bool {
        self.phase != Phase::Open
            || self.is_fin_due
            || self.is_at_end_of_stream
            || self.out.is_over_limit()
            || self.out.has_waiting()
            || self.has_pending()
            || self.encryption.as_ref().is_some_and(|encryption| encryption.has_waiting())
    }

    /// True while its input must wait: for an answer from a home, or until a long answer has left.
    pub(super) fn is_awaiting(&self) -> bool {
        if self.out.is_over_limit() {
            return true;
        }
        match &self.session {
            Session::User(user) => user.is_awaiting(),
            Session::Raw { membership, .. } => *membership == TopicMembership::Joining,
            Session::Echo => false,
        }
    }

    /// True while input of this connection is read at all: its messages, or at least its close frame.
    pub(super) fn is_reading(&self) -> bool {
        matches!(self.phase, Phase::Open | Phase::Closing(_))
    }

    /// True while input that was received has not been read, or must not be.
    pub(super) fn is_holding(&self) -> bool {
        self.has_pending() || self.is_awaiting()
    }

    /// True while input that was received has not been read.
    pub(super) fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Keeps input for later.
    pub(super) fn keep(&mut self, input: &[u8]) {
        self.pending.extend_from_slice(input);
    }

    /// What was kept, to be read now. What is left of it comes back with [`Connection::put_back`].
    pub(super) fn take_pending(&mut self) -> BytesMut {
        mem::take(&mut self.pending)
    }

    /// Keeps what is left of input behind the first `read` bytes. Nothing else was kept meanwhile.
    ///
    /// What is left stays where it is: moving it each time would cost more than reading it, where much waits.
    pub(super) fn put_back(&mut self, mut input: BytesMut, read: usize) {
        debug_assert!(self.pending.is_empty());
        if read < input.len() {
            input.advance(read);
            self.pending = input;
        }
    }

    /// How much input waits to be read.
    pub(super) fn pending_bytes(&self) -> usize {
        self.pending.len()
    }

    /// True when receiving should be paused: much waits to be read.
    fn wants_pause(&self) -> bool {
        self.pending_bytes() > if self.is_paused { PENDING_BYTES_LOW } else { PENDING_BYTES_MAX }
    }

    /// True when the ring is to be asked to pause or to go on receiving.
    pub(super) fn is_pause_due(&self) -> bool {
        self.wants_pause() != self.is_paused
    }

    /// Asks for our FIN, behind what was sent.
    pub(super) fn end_stream(&mut self) {
        self.is_fin_due = true;
    }

    /// True while the server, and not the peer, is why nothing is heard of it: its input waits for its turn, or its
    /// upgrade for an answer. One that does not read what it was sent has itself to thank.
    pub(super) fn is_kept_waiting(&self) -> bool {
        self.greeting.is_some() || self.is_input_waiting()
    }

    /// True while what it has said waits to be read, and not because it does not read itself.
    fn is_input_waiting(&self) -> bool {
        self.has_pending() && !self.out.is_over_limit()
    }

    /// Notes that the peer has shown that it is there.
    pub(super) fn note_alive(&mut self, now_ms: u64) {
        self.last_received_ms = now_ms;
        self.pinged_ms = None;
    }

    /// When the connection is closed as idle, unless it is heard of: a ping must have been sent, and its answer must
    /// have had its time. A hub client must also say something: for it only messages end a silence.
    pub(super) fn idle_due_ms(&self, deadlines: &Deadlines) -> u64 {
        let answer_ms = deadlines.idle_timeout_ms - deadlines.ping_interval_ms;
        let unanswered_ms = self.pinged_ms.map_or(u64::MAX, |pinged_ms| pinged_ms + answer_ms);
        match &self.session {
            // What is pending has been said, though nobody has read it; and nothing can be said ahead of the answer to
            // the upgrade.
            Session::User(user)
                if user.dialect == UserDialect::Hub && !self.has_pending() && self.greeting.is_none() =>
            {
                unanswered_ms.min(user.last_message_ms + deadlines.idle_timeout_ms)
            }
            _ => unanswered_ms,
        }
    }

    /// When the timers should look at this connection.
    pub(super) fn due_ms(&self, deadlines: &Deadlines) -> u64 {
        match self.phase {
            Phase::Open => {
                let ping_ms = self.last_received_ms + deadlines.ping_interval_ms;
                let ping_ms = if self.pinged_ms.is_some() { u64::MAX } else { ping_ms };
                ping_ms.min(self.idle_due_ms(deadlines)).min(self.sign_in_due_ms())
            }
            Phase::Closing(ending) | Phase::Lingering(ending) => ending.patience_ms.min(ending.last_ms),
            Phase::Ended(_) => u64::MAX,
        }
    }

    /// When its time to sign in is over. It stands still while the verifier is at it, and while what it has said waits
    /// to be read.
    pub(super) fn sign_in_due_ms(&self) -> u64 {
        match &self.session {
            Session::User(user) if !self.is_input_waiting() => user.sign_in_due_ms(),
            Session::User(_) | Session::Raw { .. } | Session::Echo => u64::MAX,
        }
    }

    /// Queues the answer to the upgrade, if that has not been done.
    pub(super) fn greet(&mut self) {
        if let Some(greeting) = self.greeting.take() {
            self.out.push_join(vec![greeting]);
        }
    }
}
