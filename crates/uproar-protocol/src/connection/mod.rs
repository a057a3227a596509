//! One endpoint of a WebSocket as a value, from the answered upgrade to the closed socket.
//!
//! A [`Connection`] does by itself everything that RFC 6455 asks of an endpoint: it joins fragments, answers pings and
//! bounds the answers, answers a close and waits for the answer to its own, maps violations to close codes, and ends TCP
//! so that no reset overtakes its last words. It owns the queue of bytes to send, with its limit, and TLS where there is
//! any. It never reads, writes, waits or looks at a clock.

mod batch;
mod closing;
mod encryption;
mod phase;
mod send_queue;

use std::borrow::Cow;
use std::mem;

use bytes::{Buf, BytesMut};

use crate::frames::{self, Opcode, Reader, Role, Violation};
use crate::tls::{self, TlsStream};
pub use batch::{BATCH_ENTRIES_MAX, Batch, Entries};
use encryption::Encryption;
pub use phase::{ANSWER_MS, CLOSE_MS, CloseMode, STALL_MS};
use phase::{Closing, Phase};
use send_queue::SendQueue;
pub use send_queue::{QueueFull, QueueLimits};

/// Received bytes that may wait to be read before receiving is paused.
const PENDING_BYTES_MAX: usize = 64 * 1024;

/// Receiving goes on when so few are left. Pausing and resuming cost a system call or a submission each, so there is room
/// between the two.
const PENDING_BYTES_LOW: usize = PENDING_BYTES_MAX / 2;

/// The sizes of a connection.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The longest message that is received, in bytes. A longer one fails the connection with 1009.
    pub message_bytes_max: usize,
    /// What may wait to be sent.
    pub queue: QueueLimits,
}

/// How long a connection may be silent.
#[derive(Clone, Copy, Debug)]
pub struct KeepAlive {
    /// Silence after which a ping is due.
    pub ping_interval_ms: u64,
    /// Silence after which the connection is idle, unless it was not pinged and given the time to answer. Longer than
    /// `ping_interval_ms`.
    pub idle_timeout_ms: u64,
}

/// What was read from a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event<'i> {
    /// A whole text message.
    Text(Cow<'i, str>),
    /// A whole binary message.
    Binary(Cow<'i, [u8]>),
    /// A ping, whose answer is queued, or a pong.
    Control,
    /// The peer's close frame. To one that came first the answer is queued.
    Closed(Option<frames::Close>),
    /// The peer broke the protocol, and the connection was failed (RFC 6455, 7.1.7): a close frame that says so is queued,
    /// and nothing more is read.
    Failed(Violation),
}

/// What a connection asks of its socket.
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

/// One endpoint of a WebSocket, behind the opening handshake.
///
/// `B` is the type of the bytes in its queue, which may be shared with other connections.
///
/// Drain rule: after each call of a `handle_*`, `push*` or another method that changes the connection, call
/// [`Connection::poll_action`] until `None`. Received bytes go through [`Connection::decrypt`] where there is TLS, and
/// then through [`Connection::poll_event`] until `None`; bytes that the caller does not read yet are kept with
/// [`Connection::keep`].
#[derive(Debug)]
pub struct Connection<B> {
    phase: Phase,
    /// True when the last action about receiving was to pause it.
    is_paused: bool,
    /// True when our FIN is to be sent.
    is_fin_due: bool,
    /// True once the peer's FIN has come. Its end is handled when the bytes before it have been read.
    is_at_end_of_stream: bool,
    /// A client's source of masks; a server has none (RFC 6455, 5.3).
    new_mask: Option<fn() -> [u8; 4]>,
    /// When it was pinged, if nothing has been received since.
    pinged_ms: Option<u64>,
    last_received_ms: u64,
    queue: SendQueue<B>,
    encryption: Option<Box<Encryption<B>>>,
    reader: Reader,
    /// Received and not yet read.
    pending: BytesMut,
}

impl<B: AsRef<[u8]> + From<Vec<u8>>> Connection<B> {
    /// A server's connection; `tls` is behind its handshake.
    #[must_use]
    pub fn server(limits: &Limits, tls: Option<Box<TlsStream>>, now_ms: u64) -> Self {
        Self::new(Role::Server, None, limits, tls, now_ms)
    }

    /// A client's connection. `new_mask` yields a mask that the server cannot predict, another one each time (RFC 6455,
    /// 5.3).
    #[must_use]
    pub fn client(
        new_mask: fn() -> [u8; 4],
        limits: &Limits,
        tls: Option<Box<TlsStream>>,
        now_ms: u64,
    ) -> Self {
        Self::new(Role::Client, Some(new_mask), limits, tls, now_ms)
    }

    fn new(
        role: Role,
        new_mask: Option<fn() -> [u8; 4]>,
        limits: &Limits,
        tls: Option<Box<TlsStream>>,
        now_ms: u64,
    ) -> Self {
        Self {
            phase: Phase::Open,
            is_paused: false,
            is_fin_due: false,
            is_at_end_of_stream: false,
            new_mask,
            pinged_ms: None,
            last_received_ms: now_ms,
            queue: SendQueue::new(limits.queue),
            encryption: tls.map(|stream| Box::new(Encryption::new(*stream))),
            reader: Reader::new(role, limits.message_bytes_max),
            pending: BytesMut::new(),
        }
    }

    /// Notes that the peer has shown that it is there.
    pub fn note_alive(&mut self, now_ms: u64) {
        self.last_received_ms = now_ms;
        self.pinged_ms = None;
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

    /// Reads the next event off the front of `input`. A frame that is cut is kept until its rest has come.
    ///
    /// Drain rule: call it until `None`, or until the rest is given to [`Connection::keep`].
    #[must_use = "an event left out is a message lost"]
    pub fn poll_event<'i>(&mut self, input: &mut &'i [u8], now_ms: u64) -> Option<Event<'i>> {
        match self.reader.next(input) {
            Ok(event) => Some(match event? {
                frames::Event::Text(text) => Event::Text(text),
                frames::Event::Binary(bytes) => Event::Binary(bytes),
                frames::Event::Ping(payload) => {
                    let pong = self.control_frame(Opcode::Pong, &payload);
                    self.queue.push_pong(pong);
                    Event::Control
                }
                frames::Event::Pong(_) => Event::Control,
                frames::Event::Close(close) => {
                    self.handle_peer_close(close.as_ref(), now_ms);
                    Event::Closed(close)
                }
            }),
            Err(violation) => {
                self.fail(violation.close_code(), violation.close_reason(), now_ms);
                Some(Event::Failed(violation))
            }
        }
    }

    /// Keeps received bytes for later.
    pub fn keep(&mut self, input: &[u8]) {
        self.pending.extend_from_slice(input);
    }

    /// Takes out the kept bytes, to be read now. Unread ones come back with [`Connection::put_back`].
    #[must_use]
    pub fn take_pending(&mut self) -> BytesMut {
        mem::take(&mut self.pending)
    }

    /// Keeps `input` behind its first `read_bytes`. Nothing else was kept meanwhile.
    ///
    /// The rest stays where it is: moving it each time would cost more than reading it, where much waits.
    pub fn put_back(&mut self, mut input: BytesMut, read_bytes: usize) {
        debug_assert!(self.pending.is_empty());
        if read_bytes < input.len() {
            input.advance(read_bytes);
            self.pending = input;
        }
    }

    /// Queues bytes that are frames of this side.
    ///
    /// # Errors
    ///
    /// [`QueueFull`], when more than the limit would wait; nothing was queued then.
    #[inline]
    pub fn push(&mut self, bytes: B) -> Result<(), QueueFull> {
        self.queue.push(bytes)
    }

    /// Queues bytes on top of the limit. The caller reads nothing from the peer while [`Connection::is_over_limit`], so
    /// that the peer cannot collect such bytes.
    pub fn push_beyond_limit(&mut self, bytes: B) {
        self.queue.push_beyond_limit(bytes);
    }

    /// The next action for the socket. `scratch` is used during the call.
    ///
    /// Actions are made here and nowhere else, of the state at the moment; so nothing can be asked for a connection that
    /// ends: its close is the only and the last thing.
    ///
    /// # Errors
    ///
    /// When TLS cannot encrypt any more. [`Connection::abort`] is what remains.
    pub fn poll_action(&mut self, scratch: &mut Vec<u8>) -> Result<Option<Action<B>>, tls::Error> {
        if let Phase::Ended(mode) = &mut self.phase {
            return Ok(mode.take().map(Action::Close));
        }
        if self.is_pause_due() {
            self.is_paused = !self.is_paused;
            return Ok(Some(if self.is_paused { Action::PauseReceive } else { Action::ResumeReceive }));
        }
        let batch = match &mut self.encryption {
            None => self.queue.next_batch(),
            Some(encryption) => encryption.next_batch(&mut self.queue, scratch)?,
        };
        if let Some(batch) = batch {
            return Ok(Some(Action::Send(batch)));
        }
        Ok(mem::take(&mut self.is_fin_due).then_some(Action::ShutdownWrite))
    }

    /// True when [`Connection::poll_action`] has something.
    #[must_use]
    pub fn has_action(&self) -> bool {
        if let Phase::Ended(mode) = &self.phase {
            return mode.is_some();
        }
        self.is_fin_due
            || self.is_pause_due()
            || match &self.encryption {
                None => self.queue.has_batch(),
                Some(encryption) => encryption.has_batch(&self.queue),
            }
    }

    /// Takes back a batch of which `sent_bytes` have left.
    pub fn handle_sent(&mut self, batch: Batch<B>, sent_bytes: usize, now_ms: u64) {
        match &mut self.encryption {
            None => self.queue.handle_sent(batch, sent_bytes),
            Some(encryption) => encryption.handle_sent(&mut self.queue, batch, sent_bytes),
        }
        let is_flushed = self.is_flushed();
        if let Phase::Closing(closing) | Phase::Lingering(closing) = &mut self.phase {
            closing.progress_due_ms = now_ms + if is_flushed { ANSWER_MS } else { STALL_MS };
            self.finish(now_ms);
        }
    }

    /// True while messages are exchanged: no close frame was queued or received, and nothing has failed.
    #[inline]
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.phase == Phase::Open
    }

    /// True while received bytes are read at all: messages, or at least the peer's close frame.
    #[inline]
    #[must_use]
    pub fn is_reading(&self) -> bool {
        matches!(self.phase, Phase::Open | Phase::Closing(_))
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
        self.encryption.as_ref().is_some_and(|encryption| encryption.peer_has_closed())
    }

    /// True once the peer's FIN has come.
    #[must_use]
    pub fn is_at_end_of_stream(&self) -> bool {
        self.is_at_end_of_stream
    }

    /// True while received bytes have not been read.
    #[must_use]
    pub fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// How many received bytes have not been read.
    #[must_use]
    pub fn pending_bytes(&self) -> usize {
        self.pending.len()
    }

    /// True when receiving is to be paused, or to go on.
    #[must_use]
    pub fn is_pause_due(&self) -> bool {
        let bytes_max = if self.is_paused { PENDING_BYTES_LOW } else { PENDING_BYTES_MAX };
        (self.pending.len() > bytes_max) != self.is_paused
    }

    /// True while more waits to be sent than the limit: see [`Connection::push_beyond_limit`].
    #[inline]
    #[must_use]
    pub fn is_over_limit(&self) -> bool {
        self.queue.is_over_limit()
    }

    /// True when nothing waits to be sent, and nothing is under way.
    #[must_use]
    pub fn is_flushed(&self) -> bool {
        self.queue.is_empty() && !self.encryption.as_ref().is_some_and(|encryption| encryption.has_unsent())
    }

    /// True when TLS itself has something to send.
    #[must_use]
    pub fn has_unsent_tls(&self) -> bool {
        self.encryption.as_ref().is_some_and(|encryption| encryption.has_unsent())
    }

    /// True when something is to be done once the send under way has ended.
    #[must_use]
    pub fn awaits_send(&self) -> bool {
        !self.is_open()
            || self.is_fin_due
            || self.is_at_end_of_stream
            || self.has_pending()
            || self.queue.waiting_entries() > 0
            || self.queue.is_over_limit()
            || self.encryption.as_ref().is_some_and(|encryption| encryption.has_waiting())
    }

    /// The charge for all entries that wait or are under way, in bytes: see [`QueueLimits`].
    #[inline]
    #[must_use]
    pub fn queued_bytes(&self) -> usize {
        self.queue.queued_bytes()
    }

    /// The limit of the queue, in charged bytes.
    #[inline]
    #[must_use]
    pub fn queue_bytes_max(&self) -> usize {
        self.queue.charged_bytes_max()
    }

    /// How many entries wait or are under way.
    #[must_use]
    pub fn queued_entries(&self) -> usize {
        self.queue.queued_entries()
    }

    /// When [`Connection::handle_timeout`] has something to do; `u64::MAX` for never.
    #[must_use]
    pub fn next_due_ms(&self, keep_alive: &KeepAlive) -> u64 {
        match self.phase {
            Phase::Open if self.pinged_ms.is_some() => self.idle_due_ms(keep_alive),
            Phase::Open => self.last_received_ms + keep_alive.ping_interval_ms,
            Phase::Closing(closing) | Phase::Lingering(closing) => closing.due_ms(),
            Phase::Ended(_) => u64::MAX,
        }
    }

    /// When an open connection is idle, unless something is received: a ping must have been sent, and its answer have had
    /// its time.
    #[must_use]
    pub fn idle_due_ms(&self, keep_alive: &KeepAlive) -> u64 {
        let answer_ms = keep_alive.idle_timeout_ms - keep_alive.ping_interval_ms;
        self.pinged_ms.map_or(u64::MAX, |pinged_ms| pinged_ms + answer_ms)
    }

    /// Lets time pass. On an open connection the caller does the task that is due; a closing one ends by itself.
    #[must_use]
    pub fn handle_timeout(&mut self, keep_alive: &KeepAlive, now_ms: u64) -> Due {
        if now_ms < self.next_due_ms(keep_alive) {
            return Due::Nothing;
        }
        match self.phase {
            Phase::Open if self.pinged_ms.is_some() => return Due::Idle,
            Phase::Open => {
                self.pinged_ms = Some(now_ms);
                return Due::Ping;
            }
            // Our close had no answer. TLS still has an end of its own.
            Phase::Closing(_) if self.is_flushed() && self.is_encrypted() => {
                self.phase = Phase::Lingering(Closing::last(now_ms));
                self.finish(now_ms);
            }
            // Only a peer that has not read is reset: a reset drops bytes that are still on their way.
            Phase::Closing(_) | Phase::Lingering(_) if self.is_flushed() => {
                self.phase = Phase::Ended(Some(CloseMode::Graceful));
            }
            Phase::Closing(_) | Phase::Lingering(_) => self.phase = Phase::Ended(Some(CloseMode::Abort)),
            Phase::Ended(_) => {}
        }
        Due::Nothing
    }

    fn control_frame(&self, opcode: Opcode, payload: &[u8]) -> B {
        frames::frame(opcode, payload, self.new_mask.map(|new_mask| new_mask())).into()
    }
}

#[cfg(test)]
mod tests;
