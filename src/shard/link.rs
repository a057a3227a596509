//! A client's connection as its shard uses it: with the gates ahead of its queue, and a note of why it ended.

use std::sync::Arc;

use uproar_protocol::connection::{
    self, Action, BATCH_ENTRIES_MAX, Batch, ClosingTimes, Config, Connection, ControlOrder, Entries, Event,
    QueueLimits,
};
use uproar_protocol::frames::Violation;
use uproar_protocol::tls::{self, TlsStream};
use uproar_ring::{BATCH_FRAMES_MAX, CloseMode, ConnectionId, Frames, SendBatch, SharedBytes, Submission};

use super::deadline::SessionDeadline;
use super::gates::{GATED_LIMITS_MAX, Gates};
use super::settings::Limits;
use crate::address::ClientAddress;
use crate::clock::Now;
use crate::metrics::{Dialect, EndReason};
use crate::permit::ClientPermit;
use crate::rooms::RoomCursor;

/// The close code for a client that is to come back later (IANA, WebSocket close codes).
const TRY_AGAIN_LATER: u16 = 1013;

// A batch of the protocol is one of the ring.
const _: () = assert!(BATCH_ENTRIES_MAX <= BATCH_FRAMES_MAX);

/// Why a frame does not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Overflow {
    /// The peer does not read fast enough.
    SlowReceiver,
    /// The storage has not answered for too long: [`GATED_LIMITS_MAX`] is reached.
    SlowStorage,
}

impl Overflow {
    fn end(self) -> (EndReason, &'static str) {
        match self {
            Self::SlowReceiver => (EndReason::SlowConsumer, "slow consumer"),
            Self::SlowStorage => (EndReason::SlowStorage, "slow storage"),
        }
    }
}

/// How a connection ended, and what waited for it then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct LinkEnd {
    pub(super) reason: EndReason,
    /// The code of the close frame that came first.
    pub(super) code: Option<u16>,
    pub(super) queued_bytes: usize,
    pub(super) queued_frames: usize,
    pub(super) last_received_ms: u64,
}

/// A client's connection, without the socket.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) connection: Connection<SharedBytes>,
    /// Frames that wait for the storage. `None` when there are none, and once the connection is closing.
    gates: Option<Box<Gates>>,
    /// Bytes by which joins have raised the limits, until the queue is within the normal limits again.
    join_bytes: usize,
    /// Messages that were queued. Beside the gates, which a fan-out looks at for each member.
    messages_out: u64,
    /// Messages that were received.
    pub(super) messages_in: u64,
    /// Bytes from the socket.
    pub(super) received_bytes: u64,
    /// Bytes that the socket has taken.
    sent_bytes: u64,
    /// When it was upgraded, in Unix seconds.
    pub(super) since: u64,
    /// The 101 response, until the client is admitted to its room or topic.
    greeting: Option<SharedBytes>,
    /// When the timers look at this client next; entries of another time are stale.
    pub(super) timer_ms: u64,
    /// The next deadline of the session. It is here and not in the session because it is looked at after each send.
    pub(super) deadline: SessionDeadline,
    /// The client's address.
    pub(super) peer: ClientAddress,
    pub(super) dialect: Dialect,
    /// Why the connection is no longer open, until its membership has been ended for that. Boxed, because it is rare.
    ended: Option<Box<LinkEnd>>,
    /// True once a user of the chat dialect has been welcomed.
    pub(super) is_chat_member: bool,
    /// True while it is in the shard's list of clients whose connection may have an action.
    pub(super) is_dirty: bool,
    /// True while it is in the shard's list of clients whose input waits for its turn.
    pub(super) is_readable: bool,
    _permit: ClientPermit,
}

impl Link {
    pub(super) fn new(
        dialect: Dialect,
        peer: ClientAddress,
        greeting: SharedBytes,
        tls: Option<Box<TlsStream>>,
        permit: ClientPermit,
        config: &Arc<Config>,
        now: Now,
    ) -> Self {
        Self {
            connection: Connection::new(config, tls, now.monotonic_ms),
            gates: None,
            join_bytes: 0,
            messages_out: 0,
            messages_in: 0,
            received_bytes: 0,
            sent_bytes: 0,
            since: now.unix_seconds,
            greeting: Some(greeting),
            timer_ms: 0,
            deadline: SessionDeadline::None,
            peer,
            dialect,
            ended: None,
            is_chat_member: false,
            is_dirty: false,
            is_readable: false,
            _permit: permit,
        }
    }

    /// True while messages are exchanged.
    #[inline]
    pub(super) fn is_open(&self) -> bool {
        self.connection.is_open()
    }

    /// Queues a frame that waits for no gate.
    ///
    /// # Errors
    ///
    /// [`Overflow::SlowReceiver`] when more than the limit would wait; nothing was queued then.
    #[inline]
    pub(super) fn push(&mut self, frame: SharedBytes) -> Result<(), Overflow> {
        self.push_control(frame)?;
        self.messages_out += 1;
        Ok(())
    }

    /// As [`Link::push`], for a frame that is no message.
    #[inline]
    pub(super) fn push_control(&mut self, frame: SharedBytes) -> Result<(), Overflow> {
        self.connection.push(frame).map_err(|_| Overflow::SlowReceiver)
    }

    /// Queues a frame that has its place in the room's order.
    ///
    /// # Errors
    ///
    /// As for [`Link::push`]; and [`Overflow::SlowStorage`] when too much waits behind gates.
    #[inline]
    pub(super) fn push_in_order(&mut self, frame: SharedBytes) -> Result<(), Overflow> {
        match &mut self.gates {
            None => self.push(frame),
            Some(_) => self.push_behind_gates(frame),
        }
    }

    /// Queues an answer that waits, with the frames behind it in order, until [`Link::open_gate`] is called for
    /// its cursor.
    ///
    /// # Errors
    ///
    /// [`Overflow::SlowStorage`] when too much waits behind gates.
    pub(super) fn push_gate(&mut self, cursor: RoomCursor, answer: SharedBytes) -> Result<(), Overflow> {
        if self.is_open() {
            self.find_room_behind_gates(&answer)?;
            self.messages_out += 1;
            self.gates.get_or_insert_default().push_gate(cursor, answer);
        }
        Ok(())
    }

    /// Opens the gate of a message; `other`, if any, replaces its answer. The released frames may exceed the
    /// limit: the peer had no chance to read it. False when there is no such gate any more.
    pub(super) fn open_gate(&mut self, cursor: RoomCursor, other: Option<SharedBytes>) -> bool {
        let Some(gates) = &mut self.gates else { return false };
        let Some(released) = gates.open(cursor, other) else { return false };
        if gates.is_empty() {
            self.gates = None;
        }
        for frame in released {
            self.connection.push_beyond_limit(frame);
        }
        self.end_join();
        true
    }

    /// Queues the messages of a join, in order, of any length: it is not the receiver's fault that a room has a long
    /// history. Nothing more is read from the peer until that has left (see [`Link::is_over_limit`]), so a receiver that
    /// does not read cannot collect joins.
    pub(super) fn push_join(&mut self, frames: impl IntoIterator<Item = SharedBytes>) {
        if !self.is_open() {
            return;
        }
        for frame in frames {
            self.messages_out += 1;
            self.join_bytes += frame.charged_bytes();
            match &mut self.gates {
                None => self.connection.push_beyond_limit(frame),
                Some(gates) => gates.push(frame),
            }
        }
        self.end_join();
    }

    /// Queues the answer to the upgrade, if that has not been done.
    pub(super) fn greet(&mut self) {
        if let Some(greeting) = self.greeting.take()
            && self.is_open()
        {
            self.join_bytes += greeting.charged_bytes();
            // Nothing was queued before it, so no gate is ahead of it.
            self.connection.push_beyond_limit(greeting);
            self.end_join();
        }
    }

    /// True while a join, or a late disk, has left more waiting than the limit, or more than that behind gates. Meanwhile
    /// nothing is to be read from the peer, so that it does not add to it.
    #[must_use]
    pub(super) fn is_over_limit(&self) -> bool {
        self.connection.is_over_limit() || self.gated_bytes() > self.connection.queue_bytes_max()
    }

    /// Handles the end of a send: `sent_bytes` of its batch were sent.
    pub(super) fn handle_sent(&mut self, batch: SendBatch, sent_bytes: usize, now_ms: u64) {
        self.sent_bytes += sent_bytes as u64;
        self.connection.handle_sent(from_ring(batch), sent_bytes, now_ms);
        self.end_join();
    }

    /// The next event of received bytes: see [`Connection::poll_event`].
    #[inline]
    pub(super) fn poll_event<'i>(&mut self, input: &mut &'i [u8], now: Now) -> Option<Event<'i>> {
        let was_open = self.is_open();
        let event = self.connection.poll_event(input, || now.monotonic_ms);
        if was_open && !self.is_open() {
            let (reason, code) = match &event {
                Some(Event::Failed(violation)) => {
                    let reason = match violation {
                        Violation::InvalidUtf8 => EndReason::InvalidUtf8,
                        Violation::TooLong(_) => EndReason::TooBig,
                        _ => EndReason::ProtocolError,
                    };
                    (reason, Some(violation.close_code()))
                }
                Some(Event::Closed(Some(close))) => (EndReason::Closed, Some(close.code)),
                _ => (EndReason::Closed, None),
            };
            let last_received_ms = now.monotonic_ms;
            self.note_end(LinkEnd { reason, code, last_received_ms, ..self.end_now(reason) });
        }
        event
    }

    /// Closes an open connection with a code and a reason, after the queued frames that wait for no gate, and `farewell`.
    pub(super) fn close(
        &mut self,
        farewell: Option<SharedBytes>,
        code: u16,
        reason: &str,
        end: EndReason,
        now: Now,
    ) {
        if self.is_open() {
            self.greet();
            if let Some(farewell) = farewell {
                self.connection.push_beyond_limit(farewell);
            }
            self.end(end, Some(code), |connection| connection.close(code, reason, now.monotonic_ms));
        }
    }

    /// Evicts a client whose queue is full. Of what waits, only `farewell` is sent.
    pub(super) fn evict(&mut self, overflow: Overflow, farewell: Option<SharedBytes>, now: Now) {
        if self.is_open() {
            let (end, reason) = overflow.end();
            self.greet();
            let code = TRY_AGAIN_LATER;
            self.end(end, Some(code), |connection| {
                connection.evict(farewell, code, reason, now.monotonic_ms)
            });
        }
    }

    /// The peer will send nothing more. While `is_unread`, bytes that came before are still to be read.
    pub(super) fn handle_end_of_stream(&mut self, is_unread: bool, now: Now) {
        self.end(EndReason::Lost, None, |connection| {
            connection.handle_end_of_stream(is_unread, now.monotonic_ms);
        });
    }

    /// A send failed, and its batch does not come back.
    pub(super) fn handle_send_failed(&mut self) {
        self.end(EndReason::Lost, None, Connection::handle_send_failed);
    }

    /// The peer broke TLS, or ended it with an alert.
    pub(super) fn handle_broken_tls(&mut self, now: Now) {
        self.end(EndReason::TlsError, None, |connection| connection.handle_broken_tls(now.monotonic_ms));
    }

    /// Cuts the connection off.
    pub(super) fn abort(&mut self, end: EndReason) {
        self.end(end, None, Connection::abort);
    }

    /// Why the connection is no longer open, once.
    #[inline]
    #[must_use]
    pub(super) fn take_end(&mut self) -> Option<Box<LinkEnd>> {
        self.ended.take()
    }

    /// What is charged for all that waits, be it behind a gate, or is under way.
    #[must_use]
    pub(super) fn queued_bytes(&self) -> usize {
        self.connection.queued_bytes() + self.gated_bytes()
    }

    /// The next submission for this connection, if there is any. `scratch` is used during the call.
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

    /// True while the server causes the peer's silence: the peer's input waits for its turn, or its
    /// upgrade for an answer.
    pub(super) fn is_kept_waiting(&self) -> bool {
        self.greeting.is_some() || self.is_input_waiting()
    }

    /// True while its input waits to be read, unless it waits because the peer itself does not read.
    pub(super) fn is_input_waiting(&self) -> bool {
        self.connection.has_pending() && !self.is_over_limit()
    }

    /// When the session's deadline is, as long as it is not put off.
    pub(super) fn session_due_ms(&self) -> u64 {
        self.deadline.due_ms(|| self.is_input_waiting())
    }

    /// True once the answer to the upgrade is queued.
    pub(super) fn is_greeted(&self) -> bool {
        self.greeting.is_none()
    }

    /// How many messages were queued for the peer.
    pub(super) fn messages_out(&self) -> u64 {
        self.messages_out
    }

    /// How many bytes the socket has taken.
    pub(super) fn sent_bytes(&self) -> u64 {
        self.sent_bytes
    }

    /// How many frames wait, be it behind a gate, or are under way.
    pub(super) fn queued_frames(&self) -> usize {
        self.connection.queued_entries() + self.gates.as_ref().map_or(0, |gates| gates.len())
    }

    fn gated_bytes(&self) -> usize {
        self.gates.as_ref().map_or(0, |gates| gates.charged_bytes())
    }

    fn push_behind_gates(&mut self, frame: SharedBytes) -> Result<(), Overflow> {
        self.find_room_behind_gates(&frame)?;
        self.gates.get_or_insert_default().push(frame);
        self.messages_out += 1;
        Ok(())
    }

    /// Released frames still count: a peer that does not read them cannot fill the space behind the next gates again
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

    /// Makes a change that may end an open connection, and notes the reason.
    fn end(
        &mut self,
        reason: EndReason,
        code: Option<u16>,
        change: impl FnOnce(&mut Connection<SharedBytes>),
    ) {
        let was_open = self.is_open();
        // An eviction drops what waits.
        let end = LinkEnd { code, ..self.end_now(reason) };
        change(&mut self.connection);
        if was_open && !self.is_open() {
            self.note_end(end);
        }
    }

    /// The end of the connection for this reason, as it is now.
    fn end_now(&self, reason: EndReason) -> LinkEnd {
        LinkEnd {
            reason,
            code: None,
            queued_bytes: self.queued_bytes(),
            queued_frames: self.queued_frames(),
            last_received_ms: self.connection.last_received_ms().unwrap_or(0),
        }
    }

    /// The last frame does not wait for the storage.
    fn note_end(&mut self, end: LinkEnd) {
        self.gates = None;
        self.ended = Some(Box::new(end));
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
mod tests;
