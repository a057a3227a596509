//! From received bytes to commands.
//!
//! A connection's input is read as it comes, up to its share of a turn, while nobody's input waits. What is left
//! waits in the connection, and the connection in a list, from which the turn's end gives each one its share, round
//! robin, for as long as the turn may go on; so does what comes meanwhile. So one that floods costs the others a
//! turn. Input that waits stops being received beyond a bound.

use std::mem;

use bytes::Bytes;
use uproar_protocol::connection::Event;
use uproar_protocol::frames::{self, MessageKind, Violation};
use uproar_ring::ConnectionId;

use super::client::Session;
use super::{Shard, work};
use crate::clock::Now;
use crate::metrics::EndReason;
use crate::rooms::Request;

impl Shard {
    /// Takes bytes as they came from the socket.
    pub(super) fn handle_received(&mut self, id: ConnectionId, bytes: &[u8], now: Now) {
        self.metrics.received_bytes.add(bytes.len() as u64);
        match self.clients.get_mut(id) {
            None => {}
            Some(client) if client.connection.is_encrypted() => self.decrypt(id, bytes, now),
            Some(_) => self.handle_plaintext(id, bytes, now),
        }
    }

    /// Takes bytes that came through TLS.
    fn decrypt(&mut self, id: ConnectionId, ciphertext: &[u8], now: Now) {
        let Some(client) = self.clients.get_mut(id) else { return };
        if !client.connection.is_reading() {
            return;
        }
        let mut plaintext = mem::take(&mut self.scratch);
        plaintext.clear();
        let outcome = client.connection.decrypt(ciphertext, &mut plaintext);
        let peer_has_closed = client.connection.peer_has_closed_tls();
        if client.connection.has_unsent_tls() {
            // An answer of TLS itself: new keys, say.
            self.mark_dirty(id);
        }
        if !plaintext.is_empty() {
            self.handle_plaintext(id, &plaintext, now);
        }
        self.scratch = plaintext;
        match outcome {
            Err(error) => self.handle_broken_tls(id, &error, now),
            Ok(()) if peer_has_closed => self.handle_end_of_stream(id, now),
            Ok(()) => {}
        }
    }

    /// Takes bytes of the WebSocket.
    pub(super) fn handle_plaintext(&mut self, id: ConnectionId, bytes: &[u8], now: Now) {
        let Some(client) = self.clients.get_mut(id) else { return };
        if !client.connection.is_reading() {
            return;
        }
        client.connection.note_alive(now.monotonic_ms);
        // What came before has its turn before this, be it of others; but a close frame has not to wait for them.
        let is_in_line = client.connection.is_open() && !self.readable.is_empty();
        let has_to_wait = client.connection.has_pending() || is_in_line;
        let read_bytes = if has_to_wait { 0 } else { self.read(id, bytes, now) };
        let Some(client) = self.clients.get_mut(id) else { return };
        if read_bytes < bytes.len() && client.connection.is_reading() {
            client.connection.keep(&bytes[read_bytes..]);
            if client.connection.is_pause_due() {
                self.mark_dirty(id);
            }
            self.list_readable(id);
        }
    }

    /// Sees to it that a client's input, or its end, is looked at, unless an answer is awaited that does so.
    pub(super) fn list_readable(&mut self, id: ConnectionId) {
        if let Some(client) = self.clients.get_mut(id)
            && !client.is_readable
            && !client.is_awaiting()
        {
            client.is_readable = true;
            self.readable.push_back(id);
        }
    }

    /// Gives each client whose input waits its share, in turn, for as long as this turn may go on reading.
    pub(super) fn read_in_turn(&mut self, now: Now) {
        while self.reading_left > 0
            && !self.is_congested()
            && let Some(id) = self.readable.pop_front()
        {
            if let Some(client) = self.clients.get_mut(id) {
                client.is_readable = false;
                self.read_pending(id, now);
                self.settle(now);
            }
        }
        self.reading_left = work::READING_MAX;
    }

    /// Goes on with input that has waited.
    pub(super) fn read_pending(&mut self, id: ConnectionId, now: Now) {
        let Some(client) = self.clients.get_mut(id) else { return };
        let pending = client.connection.take_pending();
        let read_bytes = self.read(id, &pending, now);
        let Some(client) = self.clients.get_mut(id) else { return };
        client.connection.put_back(pending, read_bytes);
        let connection = &client.connection;
        let (has_pending, is_pause_due) = (connection.has_pending(), connection.is_pause_due());
        let is_at_end = connection.is_at_end_of_stream();
        if is_pause_due {
            self.mark_dirty(id);
        }
        if has_pending {
            self.list_readable(id);
        } else if is_at_end {
            self.handle_end_of_stream(id, now);
        } else {
            // Deadlines that stood still while it was kept waiting go on.
            self.schedule(id);
        }
    }

    /// Reads messages and carries them out, until `bytes` are used up, the client has had its share, or the rest has to
    /// wait. Says how many bytes were read.
    fn read(&mut self, id: ConnectionId, bytes: &[u8], now: Now) -> usize {
        let mut rest = bytes;
        let begun = self.work;
        loop {
            let done = self.work - begun;
            let is_over = done >= work::SHARE_MAX.min(self.reading_left) || self.is_congested();
            let Some(client) = self.clients.get_mut(id) else { break };
            let was_open = client.connection.is_open();
            if !client.connection.is_reading() {
                rest = &[];
                break;
            }
            // Of a closing connection only its close frame is of interest, and that asks nothing of others.
            if was_open && (is_over || client.is_awaiting()) {
                break;
            }
            let before = rest.len();
            let event = client.connection.poll_event(&mut rest, || now.monotonic_ms);
            self.work += work::input(before - rest.len());
            let Some(event) = event else { break };
            match event {
                Event::Ping(_) | Event::Pong(_) => self.mark_dirty(id),
                // Sent before the peer saw our close frame.
                Event::Text(_) | Event::Binary(_) if !was_open => {}
                Event::Text(text) => {
                    self.handle_message(id, MessageKind::Text, text.into_owned().into(), now);
                    // What it leads to here is part of what it costs.
                    self.settle(now);
                }
                Event::Binary(bytes) => {
                    self.handle_message(id, MessageKind::Binary, bytes.into_owned().into(), now);
                    self.settle(now);
                }
                Event::Closed(_) => self.handle_progress(id, was_open, EndReason::Closed),
                Event::Failed(violation) => {
                    let end = match violation {
                        Violation::InvalidUtf8 => EndReason::InvalidUtf8,
                        Violation::TooLong(_) => EndReason::TooBig,
                        _ => EndReason::ProtocolError,
                    };
                    self.handle_progress(id, was_open, end);
                }
            }
        }
        self.reading_left = self.reading_left.saturating_sub(self.work - begun);
        bytes.len() - rest.len()
    }

    fn handle_message(&mut self, id: ConnectionId, kind: MessageKind, payload: Bytes, now: Now) {
        let client = self.clients.at(id.index);
        self.metrics.messages_received.with(client.session.dialect()).add(1);
        match &mut client.session {
            Session::Echo => self.push(id, frames::message(kind, &payload), now),
            Session::Raw { topic, .. } => {
                let topic = topic.clone();
                let home = self.directory.topic_home(&topic);
                self.request(home, Request::Relay { topic, kind, payload });
            }
            Session::User(_) => self.handle_user_message(id, kind, &payload, now),
        }
    }
}
