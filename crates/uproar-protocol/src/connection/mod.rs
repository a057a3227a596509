//! One endpoint of a WebSocket as a value: from the first byte, or from the accepted upgrade, to the closed socket.
//!
//! A [`Connection`] does by itself everything that RFC 6455 asks of an endpoint: it joins fragments, answers pings and
//! bounds the answers, answers a close and waits for the answer to its own, maps violations to close codes, and ends TCP
//! so that no reset destroys its last bytes. It owns the queue of bytes to send, with its limit, and TLS where there is
//! any. It never reads, writes, waits or looks at a clock.

mod batch;
mod closing;
mod config;
mod encryption;
mod lanes;
mod phase;
mod send_queue;
mod sending;

use std::borrow::Cow;
use std::sync::Arc;

use bytes::{Buf, BytesMut};

use crate::frames::{self, Opcode, Reader, Role, Unfinished, Violation};
use crate::tls::{self, TlsStream};
pub use batch::{BATCH_ENTRIES_MAX, Batch, Entries};
pub use config::{ClosingTimes, Config, ControlOrder, KeepAlive, QueueLimits};
use encryption::Encryption;
pub use phase::CloseMode;
use phase::{Phase, Silence};
pub use send_queue::QueueFull;
use send_queue::SendQueue;

/// Received bytes that may wait to be read before receiving is paused.
const PENDING_BYTES_MAX: usize = 64 * 1024;

/// Receiving goes on when so few are left. Pausing and resuming cost a system call or a submission each, so there is room
/// between the two.
const PENDING_BYTES_LOW: usize = PENDING_BYTES_MAX / 2;

/// What was read from a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event<'i> {
    /// A whole text message.
    Text(Cow<'i, str>),
    /// A whole binary message.
    Binary(Cow<'i, [u8]>),
    /// A ping, whose answer is queued.
    Ping(Cow<'i, [u8]>),
    /// A pong.
    Pong(Cow<'i, [u8]>),
    /// The peer's close frame. To one that came first the answer is queued.
    Closed(Option<frames::Close>),
    /// The peer broke the protocol, and the connection was failed (RFC 6455, 7.1.7): a close frame that says so is queued,
    /// and nothing more is read.
    Failed(Violation),
}

/// An operation that a connection requests on its socket.
#[derive(Debug, PartialEq, Eq)]
pub enum Action<B> {
    /// Stop receiving. Bytes that are on their way may still be handed over.
    PauseReceive,
    /// Receive again.
    ResumeReceive,
    /// Send this. [`Connection::handle_sent`] is called with it when it has left, or a part of it, and nothing else is
    /// to be sent until then.
    Send(Batch<B>),
    /// End our side of TCP (shutdown(2), `SHUT_WR`).
    ShutdownWrite,
    /// Close the socket. Nothing follows.
    Close(CloseMode),
}

/// The task that is due on an open connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// Nothing.
    Nothing,
    /// A ping is to be pushed, whose answer is awaited from now on.
    Ping,
    /// The peer has been silent for too long, and is to be closed.
    Idle,
}

/// One endpoint of a WebSocket.
///
/// `B` is the type of the bytes in its queue, which may be shared with other connections.
///
/// Drain rule: after each call of a `handle_*`, `push*` or another method that changes the connection, call
/// [`Connection::poll_action`] until `None`. Received bytes go through [`Connection::decrypt`] where there is TLS, and
/// then through [`Connection::poll_event`] until `None`; bytes that the caller does not read yet are kept with
/// [`Connection::keep`].
///
/// A connection may begin with HTTP, in a program that has one value from the socket's beginning to its end:
/// [`Connection::start_tls`] puts TLS below, [`Connection::push_http`] queues requests and responses, and what is received
/// is read by the caller. Then it ends by [`Connection::finish`], or goes on as a WebSocket: with
/// [`Connection::set_config`], where only now it is known what may be received.
#[derive(Debug)]
pub struct Connection<B> {
    phase: Phase,
    /// True when the last action about receiving was to pause it.
    is_paused: bool,
    /// True when our FIN is to be sent.
    is_fin_due: bool,
    /// True once our FIN was asked for, or is due.
    is_fin_sent: bool,
    /// True once the peer's FIN has come. Its end is handled when the bytes before it have been read.
    is_at_end_of_stream: bool,
    /// True while it is left to the peer to end TCP first.
    is_peer_first: bool,
    queue: SendQueue<B>,
    encryption: Option<Box<Encryption<B>>>,
    reader: Reader,
    /// Received and not yet read. Present exactly while there is something.
    pending: Option<Box<BytesMut>>,
}

impl<B: AsRef<[u8]> + From<Vec<u8>>> Connection<B> {
    /// A connection behind its opening handshake; `tls` is behind its own.
    ///
    /// # Panics
    ///
    /// When TLS is still shaking hands.
    #[must_use]
    pub fn new(config: &Arc<Config>, tls: Option<Box<TlsStream>>, now_ms: u64) -> Self {
        let is_early = tls.as_ref().is_some_and(|stream| stream.is_handshaking());
        assert!(!is_early, "Bug: a connection came ahead of its handshake");
        Self {
            phase: Phase::Open(Silence::begin(now_ms)),
            is_paused: false,
            is_fin_due: false,
            is_fin_sent: false,
            is_at_end_of_stream: false,
            is_peer_first: false,
            queue: SendQueue::new(Arc::clone(config)),
            encryption: tls.map(|stream| Box::new(Encryption::new(*stream))),
            reader: Reader::new(config.role(), config.message_bytes_max),
            pending: None,
        }
    }

    /// Replaces the config, for a connection that began with HTTP: its limits are known when it is upgraded. No frame was
    /// read before.
    ///
    /// # Panics
    ///
    /// When it is for the other side, or for another order of control frames.
    pub fn set_config(&mut self, config: &Arc<Config>) {
        assert!(config.role() == self.role(), "Bug: a connection changed sides");
        self.reader = Reader::new(config.role(), config.message_bytes_max);
        self.queue.set_config(Arc::clone(config));
    }

    /// Puts TLS below, and does its handshake. What is queued leaves once that is over.
    ///
    /// # Panics
    ///
    /// When there is TLS already.
    pub fn start_tls(&mut self, stream: TlsStream) {
        assert!(self.encryption.is_none(), "Bug: TLS in TLS");
        self.encryption = Some(Box::new(Encryption::new(stream)));
    }

    /// The TLS below, if there is any.
    #[must_use]
    pub fn tls(&self) -> Option<&TlsStream> {
        self.encryption.as_ref().map(|encryption| encryption.stream())
    }

    /// The config, which other connections may share.
    #[inline]
    #[must_use]
    pub fn config(&self) -> &Config {
        self.queue.config()
    }

    fn role(&self) -> Role {
        self.config().role()
    }

    /// Notes that the peer is alive.
    pub fn note_alive(&mut self, now_ms: u64) {
        if let Phase::Open(silence) = &mut self.phase {
            *silence = Silence::begin(now_ms);
        }
    }

    /// When something was received last, or the peer was noted to be alive; `None` once the connection is not open.
    #[must_use]
    pub fn last_received_ms(&self) -> Option<u64> {
        match self.phase {
            Phase::Open(silence) => Some(silence.last_received_ms),
            Phase::Closing(_) | Phase::Lingering(_) | Phase::Ended(_) => None,
        }
    }

    /// Appends the plaintext of received bytes. Without TLS there is nothing to call it for.
    ///
    /// # Errors
    ///
    /// When TLS cannot go on, which [`Connection::handle_broken_tls`] is to be told once `plaintext` has been read: it has
    /// what was complete before.
    pub fn decrypt(&mut self, ciphertext: &[u8], plaintext: &mut Vec<u8>) -> Result<(), tls::Error> {
        match &mut self.encryption {
            Some(encryption) => encryption.decrypt(ciphertext, plaintext),
            None => Ok(()),
        }
    }

    /// Reads the next event off the front of `input`. A frame that is cut is kept until its rest has come. `now_ms` is asked
    /// for the time where an event begins a deadline.
    ///
    /// Drain rule: call it until `None`, or until the rest is given to [`Connection::keep`].
    #[must_use = "an event left out is a message lost"]
    pub fn poll_event<'i>(
        &mut self,
        input: &mut &'i [u8],
        now_ms: impl FnOnce() -> u64,
    ) -> Option<Event<'i>> {
        match self.reader.next(input) {
            Ok(event) => Some(match event? {
                frames::Event::Text(text) => Event::Text(text),
                frames::Event::Binary(bytes) => Event::Binary(bytes),
                frames::Event::Ping(payload) => {
                    let pong = self.control_frame(Opcode::Pong, &payload);
                    self.queue.push_pong(pong);
                    Event::Ping(payload)
                }
                frames::Event::Pong(payload) => Event::Pong(payload),
                frames::Event::Close(close) => {
                    self.handle_peer_close(close.as_ref(), now_ms());
                    Event::Closed(close)
                }
            }),
            Err(violation) => {
                self.fail(violation.close_code(), violation.close_reason(), now_ms());
                Some(Event::Failed(violation))
            }
        }
    }

    /// Keeps received bytes for later.
    pub fn keep(&mut self, input: &[u8]) {
        if !input.is_empty() {
            self.pending.get_or_insert_default().extend_from_slice(input);
        }
    }

    /// Takes out the kept bytes, to be read now. Unread ones come back with [`Connection::put_back`].
    #[must_use]
    pub fn take_pending(&mut self) -> BytesMut {
        self.pending.take().map(|pending| *pending).unwrap_or_default()
    }

    /// Keeps `input` behind its first `read_bytes`. Nothing else was kept meanwhile.
    ///
    /// The rest stays where it is: moving it each time would cost more than reading it, where much waits.
    pub fn put_back(&mut self, mut input: BytesMut, read_bytes: usize) {
        debug_assert!(self.pending.is_none());
        if read_bytes < input.len() {
            input.advance(read_bytes);
            self.pending = Some(Box::new(input));
        }
    }

    /// The peer's FIN has come, and nothing that was received before it is left to be decrypted.
    ///
    /// # Errors
    ///
    /// When TLS was not closed before: its end may have been cut off by somebody else.
    pub fn handle_end_of_tls(&mut self) -> Result<(), tls::Error> {
        match &mut self.encryption {
            Some(encryption) => encryption.handle_end_of_stream(),
            None => Ok(()),
        }
    }

    /// Takes out what has arrived of a message whose end has not, once nothing more is read.
    #[must_use]
    pub fn take_unfinished(&mut self) -> Option<Unfinished> {
        self.reader.take_unfinished()
    }

    /// True while messages are exchanged: no close frame was queued or received, and nothing has failed.
    #[inline]
    #[must_use]
    pub fn is_open(&self) -> bool {
        matches!(self.phase, Phase::Open(_))
    }

    /// True while received bytes are read at all: messages, or at least the peer's close frame.
    #[inline]
    #[must_use]
    pub fn is_reading(&self) -> bool {
        matches!(self.phase, Phase::Open(_) | Phase::Closing(_))
    }

    /// True once the connection is closed but for its socket.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        matches!(self.phase, Phase::Ended(_))
    }

    /// True where the connection is over TLS.
    #[must_use]
    pub fn is_encrypted(&self) -> bool {
        self.encryption.is_some()
    }

    /// True once the peer's TLS has said that nothing more will come.
    #[must_use]
    pub fn peer_has_closed_tls(&self) -> bool {
        self.tls().is_some_and(|stream| stream.peer_has_closed())
    }

    /// True once the peer's FIN has come.
    #[must_use]
    pub fn is_at_end_of_stream(&self) -> bool {
        self.is_at_end_of_stream
    }

    /// True while received bytes have not been read.
    #[must_use]
    pub fn has_pending(&self) -> bool {
        self.pending.is_some()
    }

    /// How many received bytes have not been read.
    #[must_use]
    pub fn pending_bytes(&self) -> usize {
        self.pending.as_ref().map_or(0, |pending| pending.len())
    }

    /// True when receiving is to be paused, or to go on.
    #[must_use]
    pub fn is_pause_due(&self) -> bool {
        let bytes_max = if self.is_paused { PENDING_BYTES_LOW } else { PENDING_BYTES_MAX };
        (self.pending_bytes() > bytes_max) != self.is_paused
    }

    /// When [`Connection::handle_timeout`] has something to do; `u64::MAX` for never.
    #[must_use]
    pub fn next_due_ms(&self, keep_alive: &KeepAlive) -> u64 {
        match self.phase {
            Phase::Open(silence) if silence.is_pinged() => self.idle_due_ms(keep_alive),
            Phase::Open(silence) => silence.last_received_ms.saturating_add(keep_alive.ping_interval_ms),
            Phase::Closing(deadlines) | Phase::Lingering(deadlines) => deadlines.due_ms(),
            Phase::Ended(_) => u64::MAX,
        }
    }

    /// When an open connection is idle, unless something is received: a ping must have been sent, and its answer have had
    /// its time.
    #[must_use]
    pub fn idle_due_ms(&self, keep_alive: &KeepAlive) -> u64 {
        let answer_ms = keep_alive.idle_timeout_ms - keep_alive.ping_interval_ms;
        match self.phase {
            Phase::Open(silence) => silence.pinged_ms.saturating_add(answer_ms),
            Phase::Closing(_) | Phase::Lingering(_) | Phase::Ended(_) => u64::MAX,
        }
    }

    /// Handles deadlines. On an open connection the caller does the task that is due; a closing one ends by itself.
    #[must_use]
    pub fn handle_timeout(&mut self, keep_alive: &KeepAlive, now_ms: u64) -> Due {
        if now_ms < self.next_due_ms(keep_alive) {
            return Due::Nothing;
        }
        match &mut self.phase {
            Phase::Open(silence) if silence.is_pinged() => Due::Idle,
            Phase::Open(silence) => {
                silence.pinged_ms = now_ms;
                Due::Ping
            }
            Phase::Closing(_) | Phase::Lingering(_) | Phase::Ended(_) => {
                self.handle_overdue(now_ms);
                Due::Nothing
            }
        }
    }

    fn control_frame(&self, opcode: Opcode, payload: &[u8]) -> B {
        frames::frame(opcode, payload, self.config().mask()).into()
    }
}

#[cfg(test)]
mod tests;
