//! Input: received bytes become messages, which the client's session handles.
//!
//! Input is read when it arrives, up to the connection's share of a turn, unless other input waits. The rest
//! stays in the connection, and the connection is listed. The end of a turn gives each listed one its share, round
//! robin, until the turn is over. Input that arrives meanwhile waits, too. So a flood delays other clients by one
//! turn. If too much input waits, receiving is paused.

use std::mem;
use std::sync::Arc;

use tracing::{debug, info};
use uproar_protocol::connection::Event;
use uproar_protocol::frames;
use uproar_ring::ConnectionId;

use super::Shard;
use super::client::Session;
use super::client_io::ClientIo;
use super::sign_in::PERMISSION_DENIED;
use crate::clock::Now;
use crate::dialect::Message;
use crate::log_limit::LogLimit;
use crate::log_text;
use crate::metrics::EndReason;
use crate::rooms::Request;

impl Shard {
    /// Handles bytes from the socket, encrypted or not.
    pub(super) fn handle_received(&mut self, id: ConnectionId, bytes: &[u8], now: Now) {
        self.context.metrics.received_bytes.add(bytes.len() as u64);
        let Some(client) = self.clients.get_mut(id) else { return };
        client.link.received_bytes += bytes.len() as u64;
        let connection = &mut client.link.connection;
        if !connection.is_encrypted() {
            return self.handle_plaintext(id, bytes, now);
        }
        if !connection.is_reading() {
            return;
        }
        let mut plaintext = mem::take(&mut self.scratch);
        plaintext.clear();
        let outcome = connection.decrypt(bytes, &mut plaintext);
        let peer_has_closed = connection.peer_has_closed_tls();
        self.handle_plaintext(id, &plaintext, now);
        self.scratch = plaintext;
        match outcome {
            Err(error) => {
                debug!(shard = self.context.settings.index.0, connection = %id, %error, "TLS is broken");
                self.with_client(id, now, |_, io| io.link.handle_broken_tls(now));
            }
            Ok(()) if peer_has_closed => self.handle_end_of_stream(id, now),
            Ok(()) => {}
        }
    }

    /// Handles decrypted bytes of a client that exists.
    pub(super) fn handle_plaintext(&mut self, id: ConnectionId, bytes: &[u8], now: Now) {
        let connection = &mut self.clients.at(id.index).link.connection;
        if connection.is_reading() && !bytes.is_empty() {
            connection.note_alive(now.monotonic_ms);
            // Earlier input of all clients is read first; but a closing client does not wait for the others.
            let is_in_line = connection.is_open() && self.schedule.has_readable();
            let has_to_wait = connection.has_pending() || is_in_line;
            let read_bytes = if has_to_wait { 0 } else { self.read(id, bytes, now) };
            let connection = &mut self.clients.at(id.index).link.connection;
            if read_bytes < bytes.len() && connection.is_reading() {
                connection.keep(&bytes[read_bytes..]);
            }
        }
        self.follow(id, now);
    }

    /// The peer will send nothing more.
    pub(super) fn handle_end_of_stream(&mut self, id: ConnectionId, now: Now) {
        self.with_client(id, now, |session, io| {
            let is_unread = io.link.is_over_limit() || session.is_awaiting();
            io.link.handle_end_of_stream(is_unread, now);
        });
    }

    /// Gives each client whose input waits its share, in turn, for as long as this turn may go on reading.
    pub(super) fn read_in_turn(&mut self, now: Now) {
        while self.context.work.may_read()
            && !self.is_congested()
            && let Some(id) = self.schedule.pop_readable()
        {
            if let Some(client) = self.clients.get_mut(id) {
                client.link.is_readable = false;
                self.read_pending(id, now);
                self.settle(now);
            }
        }
        self.context.work.end_reading();
    }

    /// Reads waiting input of a client that exists.
    pub(super) fn read_pending(&mut self, id: ConnectionId, now: Now) {
        let pending = self.clients.at(id.index).link.connection.take_pending();
        let read_bytes = self.read(id, &pending, now);
        let connection = &mut self.clients.at(id.index).link.connection;
        connection.put_back(pending, read_bytes);
        if !connection.has_pending() && connection.is_at_end_of_stream() {
            self.handle_end_of_stream(id, now);
        } else {
            self.follow(id, now);
        }
    }

    /// Reads messages and carries them out, until `bytes` are used up, the client has had its share, or the rest has to
    /// wait. Returns how many bytes were read.
    fn read(&mut self, id: ConnectionId, bytes: &[u8], now: Now) -> usize {
        let mut rest = bytes;
        let share = self.context.work.begin_share();
        loop {
            let is_held = self.is_congested() || self.context.work.is_over(share);
            let client = self.clients.at(id.index);
            if !client.link.connection.is_reading() {
                rest = &[];
                break;
            }
            // A closing connection is read only for its close frame, which costs the others nothing.
            if client.link.is_open() && (is_held || client.is_awaiting()) {
                break;
            }
            let mut io = ClientIo { id, link: &mut client.link, context: &mut self.context, now };
            let read = client.session.read(&mut rest, &mut io);
            if let Some(end) = client.link.take_end() {
                self.leave(id, &end, now);
            }
            match read {
                Read::Nothing => break,
                Read::Control => {}
                // The mail that a message causes on this shard is part of its cost. A closing client's messages lead to nothing; so
                // this never comes from within another `settle`, which reads closing clients.
                Read::Message => self.settle(now),
            }
        }
        self.context.work.end_share(share);
        bytes.len() - rest.len()
    }
}

/// Counts and logs a message that its connection may not send now. The raw dialect has no message to tell the client so,
/// and closing the connection would lose more: what it hears meanwhile.
fn note_dropped(topic: &str, io: &ClientIo<'_>) {
    static DROPPED: LogLimit = LogLimit::new();
    io.context.metrics.messages_over_rate.with(io.link.dialect).add(1);
    if let Some(left_out) = DROPPED.allow_at(io.now.monotonic_ms) {
        let (topic, address) = (log_text::shown(topic), io.link.peer);
        info!(%topic, %address, left_out, "message dropped: its connection publishes faster than --topic-rate allows");
    }
}

/// What was read off the front of a client's input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Read {
    /// Nothing that is whole.
    Nothing,
    /// Something that the connection handles by itself, or a message of a client that is closing.
    Control,
    /// A message, which was carried out.
    Message,
}

impl Session {
    /// Reads the next event off the front of `input`, and carries it out if it is a message.
    fn read(&mut self, input: &mut &[u8], io: &mut ClientIo<'_>) -> Read {
        let was_open = io.link.is_open();
        let before = input.len();
        let event = io.link.poll_event(input, io.now);
        io.context.work.count_input(before - input.len());
        match event {
            None => return Read::Nothing,
            Some(Event::Text(text)) if was_open => self.handle_message(Message::Text(text), io),
            Some(Event::Binary(bytes)) if was_open => self.handle_message(Message::Binary(bytes), io),
            Some(_) => return Read::Control,
        }
        Read::Message
    }

    fn handle_message(&mut self, message: Message<'_>, io: &mut ClientIo<'_>) {
        io.context.metrics.messages_received.with(io.link.dialect).add(1);
        io.link.messages_in += 1;
        if io.link.deadline.is_over(io.now.unix_seconds) {
            self.handle_deadline(io);
            if !io.link.is_open() {
                return;
            }
        }
        match self {
            Self::Echo => io.push(frames::message(message.kind(), message.bytes())),
            Self::Raw { may_publish: false, .. } => {
                io.close(1008, PERMISSION_DENIED, EndReason::PermissionDenied);
            }
            Self::Raw { topic, bucket, .. } => {
                let rate = io.context.settings.limits.topic_rate;
                if bucket.as_mut().is_some_and(|bucket| !bucket.take(rate, io.now.monotonic_ms)) {
                    return note_dropped(topic, io);
                }
                let home = io.context.directory.home_of(topic);
                let (kind, payload) = (message.kind(), message.into_bytes());
                io.context
                    .mail
                    .request(home, Request::Relay { topic: Arc::clone(topic), kind, payload, origin: None });
            }
            Self::User(user) => user.handle_message(&message, io),
        }
    }
}
