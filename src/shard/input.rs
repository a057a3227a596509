//! From received bytes to commands.

use std::mem;

use bytes::Bytes;

use super::Shard;
use super::connection::{Input, Phase, Session};
use crate::clock::Now;
use crate::connection_id::ConnectionId;
use crate::hub::Request;
use crate::metrics::EndReason;
use crate::protocol::frames::{self, MessageKind};
use crate::ring::Submission;

impl Shard {
    /// Takes bytes as they came from the socket.
    pub(super) fn handle_received(&mut self, id: ConnectionId, bytes: &[u8], now: Now) {
        self.metrics.received_bytes.add(bytes.len() as u64);
        match self.connections.get_mut(id) {
            None => {}
            Some(connection) if connection.encryption.is_none() => self.handle_plaintext(id, bytes, now),
            Some(_) => self.decrypt(id, bytes, now),
        }
    }

    /// Takes bytes that came through TLS.
    fn decrypt(&mut self, id: ConnectionId, ciphertext: &[u8], now: Now) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        let Some(encryption) = &mut connection.encryption else { return };
        if !matches!(connection.phase, Phase::Open | Phase::Closing(_)) {
            return;
        }
        let mut plaintext = mem::take(&mut self.scratch);
        plaintext.clear();
        let outcome = encryption.decrypt(ciphertext, &mut plaintext);
        let peer_has_closed = encryption.peer_has_closed();
        if encryption.has_unsent() {
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
        let Some(connection) = self.connections.get_mut(id) else { return };
        connection.last_received_ms = now.monotonic_ms;
        connection.is_pinged = false;
        if connection.is_listed_as_held {
            // What came before has not had its turn yet, even if there is room for it by now.
            self.hold(id, bytes, true);
        } else {
            self.read(id, bytes, now);
        }
    }

    /// Goes on with what was held back.
    pub(super) fn read_held(&mut self, id: ConnectionId, now: Now) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        let held = connection.take_held();
        self.read(id, &held, now);
        // Resumed only when that has made room: a receive takes in more than a few messages made.
        let Some(connection) = self.connections.get_mut(id) else { return };
        if connection.is_paused && !connection.holds_much() && connection.phase != Phase::Ended {
            connection.is_paused = false;
            self.submissions.push_back(Submission::ResumeReceive(id));
        }
    }

    /// Reads messages and carries them out, until `bytes` are used up or have to wait.
    fn read(&mut self, id: ConnectionId, mut bytes: &[u8], now: Now) {
        let mut replies = Vec::new();
        loop {
            let is_congested = self.is_congested();
            let Some(connection) = self.connections.get_mut(id) else { return };
            if !matches!(connection.phase, Phase::Open | Phase::Closing(_)) {
                return;
            }
            // Of a connection that is being closed only its close frame is of interest, and that asks
            // nothing of others.
            if connection.phase == Phase::Open && (is_congested || connection.is_awaiting()) {
                self.hold(id, bytes, is_congested);
                return;
            }
            let input = connection.poll_input(&mut bytes, &mut replies);
            let is_open = connection.phase == Phase::Open;
            let is_at_end = connection.is_at_end_of_stream;
            for reply in replies.drain(..) {
                self.push_frame(id, reply, now);
            }
            match input {
                None => {
                    if is_at_end {
                        self.handle_end_of_stream(id, now);
                    }
                    return;
                }
                Some(Input::Control) => {}
                Some(Input::Message(kind, payload)) if is_open => {
                    self.handle_message(id, kind, payload, now);
                }
                // Sent before the peer saw our close frame.
                Some(Input::Message(..)) => {}
                Some(Input::Close) => self.handle_peer_close(id, now),
                Some(Input::Violation { code, reason }) => {
                    let end = match code {
                        1007 => EndReason::InvalidUtf8,
                        1009 => EndReason::TooBig,
                        _ => EndReason::ProtocolError,
                    };
                    self.close_deaf(id, code, reason, end, now);
                }
            }
        }
    }

    /// Keeps input until the connection's state or the mesh allows it to be read.
    fn hold(&mut self, id: ConnectionId, bytes: &[u8], is_congested: bool) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        if connection.hold(bytes) && !connection.is_paused {
            connection.is_paused = true;
            self.submissions.push_back(Submission::PauseReceive(id));
        }
        if is_congested && !connection.is_listed_as_held {
            connection.is_listed_as_held = true;
            self.held.push_back(id);
        }
    }

    fn handle_message(&mut self, id: ConnectionId, kind: MessageKind, payload: Bytes, now: Now) {
        let connection = self.connections.at(id.index);
        self.metrics.messages_received.with(connection.session.dialect()).add(1);
        match &mut connection.session {
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
