//! One established connection, without its socket: the WebSocket state, the out-queue, and how far its
//! life has come.

use std::io::{self, Read, Write};
use std::mem;
use std::sync::Arc;

use bytes::Bytes;
use tungstenite::protocol::frame::coding::CloseCode;
use tungstenite::protocol::{CloseFrame, Role, WebSocketConfig, WebSocketContext};
use tungstenite::{Error, Message};

use super::out_queue::OutQueue;
use super::user::User;
use super::{Deadlines, Limits};
use crate::dialect::UserDialect;
use crate::frame::Frame;
use crate::metrics::Dialect;
use crate::permit::ClientPermit;
use crate::protocol::frames::MessageKind;

/// tungstenite's receive buffer, allocated for every connection; longer frames make it grow. Most chat
/// messages fit, and an idle connection stays small.
const READ_BUFFER_BYTES: usize = 128;

/// Input that may be held back before receiving is paused.
const HELD_BYTES_MAX: usize = 64 * 1024;

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
    /// The ring was asked to close it; only `Closed` follows.
    Ended,
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
            },
            Self::Raw { .. } => Dialect::Raw,
            Self::Echo => Dialect::Echo,
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
    /// A ping or pong; a ping's answer is among the replies.
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
    /// True while it is in the shard's list of connections that have something to send.
    pub(super) is_dirty: bool,
    /// True when the ring was asked to stop receiving.
    pub(super) is_paused: bool,
    /// True while it is in the shard's list of connections whose input is held back.
    pub(super) is_listed_as_held: bool,
    /// True once the peer's FIN has come. Its end is handled when what it said before has been read.
    pub(super) is_at_end_of_stream: bool,
    /// True when a ping was sent since something was last received.
    pub(super) is_pinged: bool,
    pub(super) out: OutQueue,
    pub(super) last_received_ms: u64,
    /// When the timers look at this connection next; entries of another time are stale.
    pub(super) timer_ms: u64,
    pub(super) session: Session,
    socket: WebSocketContext,
    /// Received and not yet read, because an answer is awaited or the mesh is congested.
    held: Vec<u8>,
    /// The answer to the upgrade, until the connection is what was asked for.
    pub(super) greeting: Option<Frame>,
    _permit: Option<ClientPermit>,
}

impl Connection {
    pub(super) fn new(
        session: Session,
        greeting: Frame,
        permit: Option<ClientPermit>,
        limits: &Limits,
        now_ms: u64,
    ) -> Self {
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER_BYTES)
            .write_buffer_size(0)
            .max_frame_size(Some(limits.frame_bytes_max))
            .max_message_size(Some(limits.frame_bytes_max));
        Self {
            phase: Phase::Open,
            is_dirty: false,
            is_paused: false,
            is_listed_as_held: false,
            is_at_end_of_stream: false,
            is_pinged: false,
            out: OutQueue::new(limits.queue_bytes_max),
            last_received_ms: now_ms,
            timer_ms: 0,
            session,
            socket: WebSocketContext::new(Role::Server, Some(config)),
            held: Vec::new(),
            greeting: Some(greeting),
            _permit: permit,
        }
    }

    /// Reads the next thing out of `input`, from which it takes what it needs. What must be answered at
    /// the level of the protocol is appended to `replies`.
    ///
    /// Drain rule: call it until `None`; what it has taken by then is kept for the next bytes.
    pub(super) fn poll_input(&mut self, input: &mut &[u8], replies: &mut Vec<Frame>) -> Option<Input> {
        let mut wire = Wire { input, replies };
        let read = self.socket.read(&mut wire);
        // A ping's answer is queued within tungstenite until the next call.
        let flushed = self.socket.flush(&mut wire);
        debug_assert!(!matches!(flushed, Err(Error::WriteBufferFull(_))));
        match read {
            Ok(Message::Text(text)) => Some(Input::Message(MessageKind::Text, text.into())),
            Ok(Message::Binary(bytes)) => Some(Input::Message(MessageKind::Binary, bytes)),
            Ok(Message::Ping(_) | Message::Pong(_)) => Some(Input::Control),
            Ok(Message::Close(Some(frame))) if is_invalid_close(&frame) => {
                // Its answer is ours to give, as to every other violation.
                wire.replies.clear();
                Some(PROTOCOL_ERROR)
            }
            Ok(Message::Close(_)) => Some(Input::Close),
            Ok(Message::Frame(_)) => {
                unreachable!("tungstenite returns raw frames only when asked to write them")
            }
            Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => None,
            Err(Error::Capacity(_)) => Some(Input::Violation { code: 1009, reason: "message too big" }),
            Err(Error::Utf8(_)) => Some(Input::Violation { code: 1007, reason: "invalid UTF-8" }),
            Err(Error::Protocol(_)) => Some(PROTOCOL_ERROR),
            Err(_) => None,
        }
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

    /// True while input that was received has not been read, or must not be.
    pub(super) fn is_holding(&self) -> bool {
        !self.held.is_empty() || self.is_awaiting()
    }

    /// Keeps input for later. True when receiving should be paused.
    #[must_use]
    pub(super) fn hold(&mut self, input: &[u8]) -> bool {
        self.held.extend_from_slice(input);
        self.holds_much()
    }

    /// True while so much is held back that no more should be received.
    #[must_use]
    pub(super) fn holds_much(&self) -> bool {
        self.held_bytes() > HELD_BYTES_MAX
    }

    /// What was held back.
    pub(super) fn take_held(&mut self) -> Vec<u8> {
        mem::take(&mut self.held)
    }

    /// How much input is held back.
    pub(super) fn held_bytes(&self) -> usize {
        self.held.len()
    }

    /// When the timers should look at this connection.
    pub(super) fn due_ms(&self, deadlines: &Deadlines) -> u64 {
        match self.phase {
            Phase::Open => {
                let idle_ms = self.last_received_ms + deadlines.idle_timeout_ms;
                if self.is_pinged {
                    idle_ms
                } else {
                    idle_ms.min(self.last_received_ms + deadlines.ping_interval_ms)
                }
            }
            Phase::Closing(ending) | Phase::Lingering(ending) => ending.patience_ms.min(ending.last_ms),
            Phase::Ended => u64::MAX,
        }
    }

    /// Queues the answer to the upgrade, if that has not been done.
    pub(super) fn greet(&mut self) {
        if let Some(greeting) = self.greeting.take() {
            self.out.push_join(vec![greeting]);
        }
    }
}

const PROTOCOL_ERROR: Input = Input::Violation { code: 1002, reason: "protocol error" };

/// True for a close frame with a code that must not be sent (RFC 6455, 7.4): tungstenite puts this one in
/// its place.
fn is_invalid_close(frame: &CloseFrame) -> bool {
    frame.code == CloseCode::Protocol && frame.reason.as_str() == "Protocol violation"
}

/// What tungstenite reads from and writes to: received bytes, and replies.
struct Wire<'a, 'b> {
    input: &'a mut &'b [u8],
    replies: &'a mut Vec<Frame>,
}

impl Read for Wire<'_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.input.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let (now, later) = self.input.split_at(buffer.len().min(self.input.len()));
        buffer[..now.len()].copy_from_slice(now);
        *self.input = later;
        Ok(now.len())
    }
}

impl Write for Wire<'_, '_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.replies.push(Frame::new(Bytes::copy_from_slice(bytes)));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
