//! One client: from the upgrade over the join to receiving, without a socket.
//!
//! Received bytes go in through [`Client::handle_received`]; what the socket is to do comes out of
//! [`Client::poll_action`]. From the accepted upgrade on, a [`Connection`] does what every endpoint does; the client
//! says what is sent, and what becomes of messages. All clients of a thread share one [`Context`], so that a client
//! is only what differs between them.
//!
//! Drain rule: after every `handle_…`, call `poll_action` until it yields `None`. While
//! [`Client::has_action`] is false it would.

mod opening;
mod outbox;
mod receiver;

use std::mem;

use uproar_protocol::connection::{Action, Batch, Connection, Entries, Event};
use uproar_protocol::frames::{self, Opcode};
use uproar_ring::{SendBatch, SharedBytes};

use crate::clients::batch::from_ring;
use crate::clients::context::Context;
use crate::clients::endpoint::CONFIG;
use crate::clients::failure::Failure;
use crate::dialect::Dialect;
use crate::dialect::chat::{self, Notice};
use crate::dialect::join::{JoinStep, Progress};
use crate::network::security::TlsFailure;
use opening::Opening;
use outbox::Outbox;
use receiver::Receiver;

const NS_PER_MS: u64 = 1_000_000;

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
    /// The client is ready to send and to receive.
    Ready,
    /// A close was sent, or the server sends nothing more.
    Closing,
    /// The connection is gone, or has never been.
    Ended,
}

/// Whether a client takes part in the run. Only clients that churn can be absent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is expected to receive the broadcasts that are due.
    Present,
    /// It reads what was due before it decided to leave.
    Leaving,
    /// It has sent a close, and its connection ends.
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
    /// Handles its messages.
    pub receiver: Receiver,
    /// How many connections it has had before this one.
    pub generation: u32,
    /// The code of the server's close frame: 1005 stands for a frame without one (RFC 6455, 7.4.1).
    pub close_code: Option<u16>,
    /// What only matters until the client is ready.
    opening: Option<Box<Opening>>,
    /// True exactly while bytes of the opening are with the kernel. They may be for a moment when it is over: the
    /// response may overtake the completion of the request's send.
    is_opening_sent: bool,
    /// The connection, from the accepted upgrade on.
    connection: Option<Connection<SharedBytes>>,
    outbox: Outbox,
    /// True from something that may ask for an action until that is looked for. Kept, because most messages do not, and
    /// to ask the connection takes longer than to read one.
    has_action: bool,
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
            opening: None,
            is_opening_sent: false,
            connection: None,
            outbox: Outbox::default(),
            has_action: false,
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

    /// True while TCP is connected and TLS is not.
    #[must_use]
    pub fn is_handshaking(&self) -> bool {
        self.phase == Phase::Upgrading
            && self.opening.as_ref().is_some_and(|opening| opening.is_handshaking())
    }

    /// True once the server has said that it sends nothing more.
    #[must_use]
    pub fn is_at_end_of_stream(&self) -> bool {
        self.connection.as_ref().is_some_and(Connection::is_at_end_of_stream)
    }

    /// True when [`Client::poll_action`] may have something to yield, now or after the send under way.
    #[must_use]
    pub fn has_action(&self) -> bool {
        self.has_action
    }

    /// Notes that connect(2) is called at `now_ns`, and begins to ask for the upgrade.
    ///
    /// # Errors
    ///
    /// A [`Failure`] of this side.
    pub fn handle_connecting(&mut self, context: &mut Context, now_ns: u64) -> Result<(), Failure> {
        self.opening = Some(Box::new(Opening::begin(context, self.id, now_ns)?));
        self.phase = Phase::Connecting;
        self.has_action = true;
        Ok(())
    }

    /// When connect(2) was called; `None` before, and once the client is ready.
    #[must_use]
    pub fn opening_since_ns(&self) -> Option<u64> {
        self.opening.as_ref().map(|opening| opening.started_ns)
    }

    /// Takes back a batch of which `sent_bytes` have left. Yields what is to be sent of it at once.
    #[must_use = "what is left out is never sent"]
    pub fn handle_sent(
        &mut self,
        context: &mut Context,
        batch: SendBatch,
        sent_bytes: usize,
        now_ns: u64,
    ) -> Option<SendBatch> {
        self.handle_connected(context, now_ns);
        if self.is_opening_sent {
            let rest = batch.advance(sent_bytes);
            self.is_opening_sent = rest.is_some();
            // What was asked for meanwhile has waited.
            self.has_action = true;
            return rest;
        }
        if let Some(connection) = &mut self.connection {
            connection.handle_sent(from_ring(batch), sent_bytes, now_ns / NS_PER_MS);
            self.has_action = !self.outbox.is_empty() || connection.awaits_send();
        }
        None
    }

    /// Notes that TCP is connected, since something has left or come. Without effect when that was known.
    fn handle_connected(&mut self, context: &mut Context, now_ns: u64) {
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
        // Bytes may overtake the completion of the first send.
        self.handle_connected(context, now_ns);
        let is_encrypted = match (&self.connection, &self.opening) {
            (Some(connection), _) => connection.is_encrypted(),
            (None, opening) => opening.as_ref().is_some_and(|opening| opening.is_encrypted()),
        };
        if !is_encrypted {
            return self.handle_plaintext(context, now_ns, bytes);
        }
        let mut plaintext = mem::take(&mut context.plaintext);
        plaintext.clear();
        let result = self.decrypt(context, now_ns, bytes, &mut plaintext);
        self.has_action |= match (&self.connection, &self.opening) {
            // An answer of TLS itself: new keys, say.
            (Some(connection), _) => connection.has_unsent_tls(),
            (None, opening) => opening.as_ref().is_some_and(|opening| opening.has_outgoing()),
        };
        // What came before a failure counts: it may be the server's reason.
        let handled = self.handle_plaintext(context, now_ns, &plaintext);
        context.plaintext = plaintext;
        let has_closed = self.connection.as_ref().is_some_and(Connection::peer_has_closed_tls);
        if has_closed && self.connection.as_ref().is_some_and(Connection::is_open) {
            self.handle_end_of_stream(now_ns);
        }
        handled.and(result)
    }

    /// Appends to `plaintext` what bytes say that have come through TLS.
    fn decrypt(
        &mut self,
        context: &mut Context,
        now_ns: u64,
        ciphertext: &[u8],
        plaintext: &mut Vec<u8>,
    ) -> Result<(), Failure> {
        match (&mut self.connection, &mut self.opening) {
            (Some(connection), _) if !connection.is_reading() => Ok(()),
            (Some(connection), _) => {
                Ok(connection.decrypt(ciphertext, plaintext).map_err(TlsFailure::from)?)
            }
            (None, Some(opening)) => opening.decrypt(context, now_ns, ciphertext, plaintext),
            (None, None) => Ok(()),
        }
    }

    fn handle_plaintext(&mut self, context: &mut Context, now_ns: u64, bytes: &[u8]) -> Result<(), Failure> {
        match &self.connection {
            _ if bytes.is_empty() => Ok(()),
            Some(_) => self.handle_frames(context, now_ns, bytes),
            None => self.handle_response(context, now_ns, bytes),
        }
    }

    /// Notes that the server sends nothing more. False when there is nothing to be done about it any more but to close
    /// the socket.
    pub fn handle_end_of_stream(&mut self, now_ns: u64) -> bool {
        let Some(connection) = &mut self.connection else { return false };
        connection.handle_end_of_stream(false, now_ns / NS_PER_MS);
        self.phase = Phase::Closing;
        self.has_action = true;
        true
    }

    fn handle_response(&mut self, context: &mut Context, now_ns: u64, bytes: &[u8]) -> Result<(), Failure> {
        let opening = self.opening.as_mut().expect("Bug: an upgrade without a beginning");
        let Some(head_bytes) = opening.handle_response(context, now_ns, bytes)? else { return Ok(()) };
        let tls = opening.take_tls();
        self.connection = Some(Connection::new(&CONFIG, tls, now_ns / NS_PER_MS));
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
        let (mut input, now_ms) = (bytes, now_ns / NS_PER_MS);
        while let Some(connection) = self.connection.as_mut().filter(|connection| connection.is_reading())
            && let Some(event) = connection.poll_event(&mut input, || now_ms)
        {
            match event {
                Event::Text(text) => self.handle_text(context, now_ns, text.as_bytes())?,
                Event::Binary(payload) => self.receiver.handle_binary(context, now_ns, &payload),
                Event::Ping(_) | Event::Pong(_) => self.has_action = true,
                Event::Closed(close) => {
                    self.has_action = true;
                    self.phase = Phase::Closing;
                    self.close_code = Some(close.map_or(1005, |close| close.code));
                }
                // Of no use any more, and not worth a closing handshake.
                Event::Failed(violation) => return Err(violation.into()),
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
                let connection = self.connection.as_mut().expect("Bug: a join without a connection");
                connection.push(frame.into()).expect("Bug: a client that joins has nothing else to say");
                self.has_action = true;
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

    /// Closes the connection, unless that has begun.
    pub fn handle_stop(&mut self, now_ns: u64) {
        if let Some(connection) = &mut self.connection {
            connection.close(1000, "", now_ns / NS_PER_MS);
            self.phase = Phase::Closing;
            self.has_action = true;
        }
    }

    /// Queues a broadcast that is due. One that cannot be sent at once is sent late, never skipped, as long as the
    /// connection is open.
    pub fn handle_due(&mut self, sequence: u64, intended_ns: u64) {
        self.outbox.push(sequence, intended_ns);
        self.has_action = true;
    }

    /// What the socket is to do next. Of sends, `handle_sent` must come before there is another.
    ///
    /// # Errors
    ///
    /// A [`Failure`], after which the connection is of no use.
    pub fn poll_action(
        &mut self,
        context: &mut Context,
        now_ns: u64,
    ) -> Result<Option<Action<SharedBytes>>, Failure> {
        self.has_action = false;
        if self.is_opening_sent {
            return Ok(None);
        }
        let Some(connection) = &mut self.connection else {
            let Some(opening) = &mut self.opening else { return Ok(None) };
            let bytes = opening.poll_transmit()?;
            self.is_opening_sent = bytes.is_some();
            return Ok(bytes.map(|bytes| Action::Send(Batch::new(Entries::One(bytes.into()), 0))));
        };
        // Not before all else has left: then it is handed to the kernel now, and dated so.
        if connection.is_open() && connection.is_flushed() {
            self.outbox.hand_over(context, connection, now_ns);
        }
        let action = connection.poll_action(&mut context.scratch).map_err(TlsFailure::from)?;
        if !matches!(action, Some(Action::ShutdownWrite)) {
            return Ok(action);
        }
        // The server ends TCP first (RFC 6455, 7.1.1), which leaves no TIME_WAIT on this side's ports.
        Ok(connection.poll_action(&mut context.scratch).map_err(TlsFailure::from)?)
    }
}

#[cfg(test)]
mod tests;
