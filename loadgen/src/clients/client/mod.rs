//! One client: from the upgrade over the join to receiving, without a socket.
//!
//! Received bytes go in through [`Client::handle_received`]; what is to be sent comes out of
//! [`Client::poll_batch`], at most one batch at a time. All clients of a thread share one [`Context`],
//! so that a client is only what differs between them.
//!
//! Drain rule: after every `handle_…`, and whenever a broadcast was queued, call `poll_batch` until it
//! yields `None`.

mod opening;
mod outbox;
mod receiver;

use uproar_protocol::frames::{self, Event, Opcode, Reader, Role};
use uproar_ring::SendBatch;

use crate::clients::MESSAGE_BYTES_MAX;
use crate::clients::context::Context;
use crate::clients::failure::Failure;
use crate::dialect::Dialect;
use crate::dialect::chat::{self, Notice};
use crate::dialect::join::{JoinStep, Progress};
use opening::Opening;
use outbox::Outbox;
use receiver::Receiver;

/// How far a client has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Not begun.
    Waiting,
    /// Nothing has left, so TCP is not known to be connected.
    Connecting,
    /// The response to the request is awaited, and before that the TLS handshake, where there is one.
    Upgrading,
    /// Chat: a message of the join is awaited.
    Joining(JoinStep),
    /// Everything can begin.
    Ready,
    /// A close was sent.
    Closing,
    /// The connection is gone, or has never been.
    Ended,
}

/// How a client stands to the run: only those who churn are ever anything but present.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is to receive what is due.
    Present,
    /// It reads what was due before it decided to leave.
    Leaving,
    /// It has said goodbye, and its connection ends.
    Away,
    /// It connects and joins again.
    Returning,
}

/// One client.
#[derive(Debug)]
pub struct Client {
    id: u32,
    /// How far it has come.
    pub phase: Phase,
    /// How it stands to the run.
    pub standing: Standing,
    /// What it makes of messages.
    pub receiver: Receiver,
    /// How many connections it has had before this one.
    pub generation: u32,
    /// The code of the server's close frame: 1005 stands for a frame without one (RFC 6455, 7.4.1).
    pub close_code: Option<u16>,
    reader: Reader,
    outbox: Outbox,
    /// What only matters until the client is ready.
    opening: Option<Box<Opening>>,
}

impl Client {
    /// A client that has not begun.
    #[must_use]
    pub fn new(id: u32) -> Self {
        Self {
            id,
            phase: Phase::Waiting,
            standing: Standing::Present,
            receiver: Receiver::new(id),
            generation: 0,
            close_code: None,
            reader: Reader::new(Role::Client, MESSAGE_BYTES_MAX),
            outbox: Outbox::default(),
            opening: None,
        }
    }

    /// Begins anew, as the same client on another connection. What it was present for stays.
    pub fn renew(&mut self) {
        *self = Self {
            standing: Standing::Returning,
            receiver: self.receiver.renewed(),
            generation: self.generation + 1,
            ..Self::new(self.id)
        };
    }

    /// Which client of the run it is.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.id
    }

    /// True when nothing more can come to it over this connection.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.phase == Phase::Ended || self.close_code.is_some()
    }

    /// True when `poll_batch` has something to yield, now or after the send under way.
    #[must_use]
    pub fn has_outgoing(&self) -> bool {
        self.outbox.has_waiting()
    }

    /// Notes that connect(2) was called at `now_ns`, and queues the upgrade request.
    pub fn handle_connecting(&mut self, context: &mut Context, now_ns: u64) {
        let (opening, request) = Opening::begin(context, self.id, now_ns);
        self.outbox.push(request);
        self.opening = Some(Box::new(opening));
        self.phase = Phase::Connecting;
    }

    /// When connect(2) was called; `None` before, and once the client is ready.
    #[must_use]
    pub fn opening_since_ns(&self) -> Option<u64> {
        self.opening.as_ref().map(|opening| opening.started_ns)
    }

    /// Notes that the batch last polled has left entirely.
    pub fn handle_sent(&mut self, context: &mut Context, now_ns: u64) {
        self.outbox.handle_sent();
        self.handle_connected(context, now_ns);
    }

    /// Notes that TCP is connected, since something has left or come. Without effect when that was known.
    pub fn handle_connected(&mut self, context: &mut Context, now_ns: u64) {
        if let (Phase::Connecting, Some(opening)) = (self.phase, &self.opening) {
            context.openings.tcp.record(now_ns - opening.started_ns);
            self.phase = Phase::Upgrading;
        }
    }

    /// Takes bytes that arrived at `now_ns`.
    ///
    /// # Errors
    ///
    /// A [`Failure`], after which the connection is of no use.
    pub fn handle_received(
        &mut self,
        context: &mut Context,
        now_ns: u64,
        bytes: &[u8],
    ) -> Result<(), Failure> {
        if matches!(self.phase, Phase::Connecting | Phase::Upgrading) {
            // The response may overtake the completion of the request's send.
            self.handle_connected(context, now_ns);
            return self.handle_response(context, now_ns, bytes);
        }
        self.handle_frames(context, now_ns, bytes)
    }

    fn handle_response(&mut self, context: &mut Context, now_ns: u64, bytes: &[u8]) -> Result<(), Failure> {
        let opening = self.opening.as_mut().expect("Bug: an upgrade without a beginning");
        let Some(head_bytes) = opening.handle_response(context, now_ns, bytes)? else { return Ok(()) };
        match context.plan.dialect {
            Dialect::Chat | Dialect::Private => self.phase = Phase::Joining(JoinStep::Welcome),
            Dialect::Raw | Dialect::Echo => self.become_ready(),
        }
        self.handle_frames(context, now_ns, &bytes[head_bytes..])
    }

    fn become_ready(&mut self) {
        self.phase = Phase::Ready;
        self.opening = None;
    }

    fn handle_frames(&mut self, context: &mut Context, now_ns: u64, bytes: &[u8]) -> Result<(), Failure> {
        let mut input = bytes;
        while self.close_code.is_none()
            && let Some(event) = self.reader.next(&mut input)?
        {
            match event {
                Event::Text(text) => self.handle_text(context, now_ns, text.as_bytes())?,
                Event::Binary(payload) => self.receiver.handle_binary(context, now_ns, &payload),
                Event::Ping(payload) => {
                    let pong = frames::frame(Opcode::Pong, &payload, Some(context.mask()));
                    self.outbox.push(pong);
                }
                Event::Pong(_) => {}
                Event::Close(close) => self.handle_close(context, close.map(|close| close.code)),
            }
        }
        Ok(())
    }

    fn handle_text(&mut self, context: &mut Context, now_ns: u64, text: &[u8]) -> Result<(), Failure> {
        if let Phase::Joining(step) = self.phase {
            return self.handle_join(context, now_ns, step, text);
        }
        self.receiver.handle_text(context, now_ns, text);
        Ok(())
    }

    fn handle_join(
        &mut self,
        context: &mut Context,
        now_ns: u64,
        step: JoinStep,
        text: &[u8],
    ) -> Result<(), Failure> {
        let notice = chat::parse_notice(text);
        if let Some(Notice::Welcome(user_id)) = notice {
            context.plan.note_user_id(self.id, user_id);
        }
        match step.next(notice, context.plan.room_of(self.id)) {
            Ok(Progress::Await(step)) => self.phase = Phase::Joining(step),
            Ok(Progress::Ask(join)) => {
                let frame = frames::frame(Opcode::Text, join.as_bytes(), Some(context.mask()));
                self.outbox.push(frame);
                self.phase = Phase::Joining(JoinStep::RoomJoined);
            }
            Ok(Progress::Done) => {
                let opening = self.opening.as_ref().expect("Bug: a join without a beginning");
                context.openings.join.record(now_ns - opening.started_ns);
                self.become_ready();
            }
            Err(why) => {
                let excerpt = String::from_utf8_lossy(&text[..text.len().min(80)]).into_owned();
                return Err(Failure::Join(
                    why.unwrap_or(format!("not what the chat dialect prescribes: {excerpt}")),
                ));
            }
        }
        Ok(())
    }

    fn handle_close(&mut self, context: &mut Context, code: Option<u16>) {
        if self.phase != Phase::Closing {
            // RFC 6455, 5.5.1: the answer typically echoes the code.
            self.queue_close(context, code);
        }
        self.close_code = Some(code.unwrap_or(1005));
    }

    /// Queues a close frame, unless one was queued before.
    pub fn handle_stop(&mut self, context: &mut Context) {
        if self.phase != Phase::Closing {
            self.queue_close(context, Some(1000));
        }
    }

    fn queue_close(&mut self, context: &mut Context, code: Option<u16>) {
        let body = code.map(u16::to_be_bytes);
        let body = body.as_ref().map_or(&[][..], |body| &body[..]);
        let frame = frames::frame(Opcode::Close, body, Some(context.mask()));
        self.outbox.push(frame);
        self.phase = Phase::Closing;
    }

    /// Queues a broadcast that is due. One that cannot be sent at once is sent late, never skipped.
    pub fn handle_due(&mut self, sequence: u64, intended_ns: u64) {
        self.outbox.push_due(sequence, intended_ns);
    }

    /// What to send now, if anything; then `handle_sent` must come before there is more.
    #[must_use]
    pub fn poll_batch(&mut self, context: &mut Context, now_ns: u64) -> Option<SendBatch> {
        self.outbox.poll_batch(context, now_ns)
    }
}

#[cfg(test)]
mod tests;
