//! How a connection ends.
//!
//! The order is always the same: the last frame is queued; then the closing handshake and both FINs have their time; then
//! the socket is closed. A socket that is closed with unread data answers with a reset, and a reset drops what the peer
//! has not read yet.

use super::Connection;
use super::phase::{CloseMode, Deadlines, Phase};
use crate::frames::{Close, Opcode, Role, append_close};

impl<B: AsRef<[u8]> + From<Vec<u8>>> Connection<B> {
    /// Starts the closing handshake: queues a close frame as the last one (RFC 6455, 7.1.2). Does nothing on a connection
    /// that is not open.
    ///
    /// # Panics
    ///
    /// When the code must not be sent, or the reason is longer than 123 bytes.
    pub fn close(&mut self, code: u16, reason: &str, now_ms: u64) {
        if self.is_open() {
            let last = self.close_frame(code, reason);
            self.begin_closing(last, now_ms);
        }
    }

    /// As [`Connection::close`], with a frame without a code.
    pub fn close_without_code(&mut self, now_ms: u64) {
        if self.is_open() {
            let last = self.control_frame(Opcode::Close, &[]);
            self.begin_closing(last, now_ms);
        }
    }

    fn begin_closing(&mut self, last: B, now_ms: u64) {
        self.phase = Phase::Closing(self.new_deadlines(now_ms));
        self.queue.seal(Some(last));
    }

    /// Fails the connection (RFC 6455, 7.1.7): queues a close frame as the last one, and reads nothing more. On a closing
    /// connection only the latter.
    ///
    /// # Panics
    ///
    /// As for [`Connection::close`].
    pub fn fail(&mut self, code: u16, reason: &str, now_ms: u64) {
        match self.phase {
            Phase::Open(_) => {
                self.phase = Phase::Lingering(self.new_deadlines(now_ms));
                let last = self.close_frame(code, reason);
                self.queue.seal(Some(last));
            }
            Phase::Closing(deadlines) => self.phase = Phase::Lingering(deadlines),
            Phase::Lingering(_) | Phase::Ended(_) => return,
        }
        self.advance(now_ms);
    }

    /// Closes without reading the peer's answer: as [`Connection::fail`], but nothing is wrong, so a client leaves it to
    /// the server to end TCP.
    ///
    /// # Panics
    ///
    /// As for [`Connection::close`].
    pub fn leave(&mut self, code: u16, reason: &str, now_ms: u64) {
        if self.is_reading() {
            self.is_peer_first = self.role() == Role::Client;
        }
        self.fail(code, reason, now_ms);
    }

    /// Ends this side behind what is queued, without a close frame: of a connection that has not become a WebSocket.
    pub fn finish(&mut self, now_ms: u64) {
        self.stop_reading(now_ms);
        self.queue.seal(None);
        self.advance(now_ms);
    }

    /// Closes a connection whose queue is full. What the peer has not read is dropped, so that the close frame stands right
    /// behind the frame that is half sent, or behind `farewell`, a frame that is sent in between. Does nothing on a
    /// connection that is not open.
    ///
    /// # Panics
    ///
    /// As for [`Connection::close`].
    pub fn evict(&mut self, farewell: Option<B>, code: u16, reason: &str, now_ms: u64) {
        if self.is_open() {
            self.phase = Phase::Closing(self.new_deadlines(now_ms));
            let last = self.close_frame(code, reason);
            self.queue.truncate(farewell, last);
        }
    }

    /// The peer's close frame: the first one, which is answered, or the answer to ours.
    pub(super) fn handle_peer_close(&mut self, close: Option<&Close>, now_ms: u64) {
        match self.phase {
            Phase::Open(_) => {
                self.phase = Phase::Lingering(self.new_deadlines(now_ms));
                // "the endpoint typically echos the status code it received" (RFC 6455, 5.5.1)
                let code = close.map(|close| close.code.to_be_bytes());
                let answer = self.control_frame(Opcode::Close, code.as_ref().map_or(&[][..], |code| code));
                self.queue.seal(Some(answer));
            }
            Phase::Closing(deadlines) => self.phase = Phase::Lingering(deadlines),
            Phase::Lingering(_) | Phase::Ended(_) => return,
        }
        self.is_peer_first = self.role() == Role::Client;
        self.advance(now_ms);
    }

    /// The peer's FIN has come. While `is_unread`, because the caller holds bytes that came before it or will not read
    /// yet, it is only noted; it is to be called again when they have been read.
    pub fn handle_end_of_stream(&mut self, is_unread: bool, now_ms: u64) {
        self.is_at_end_of_stream = true;
        if self.is_open() {
            if is_unread || self.has_pending() {
                return;
            }
            // The peer may still read what was sent before.
            self.queue.seal(None);
        }
        self.stop_reading(now_ms);
        self.advance(now_ms);
    }

    /// The peer broke TLS, or ended it with an alert: nothing more is read, and only the alert that says why is sent.
    pub fn handle_broken_tls(&mut self, now_ms: u64) {
        self.give_up();
        self.stop_reading(now_ms);
        self.advance(now_ms);
    }

    /// A send failed: nothing more will be sent, and the batch does not come back.
    pub fn handle_send_failed(&mut self) {
        self.give_up();
        self.abort();
    }

    /// Closes the socket at once, without sending the rest of the queue.
    pub fn abort(&mut self) {
        self.queue.seal(None);
        self.end(CloseMode::Abort);
    }

    pub(super) fn end(&mut self, mode: CloseMode) {
        if !matches!(self.phase, Phase::Ended(_)) {
            self.phase = Phase::Ended(Some(mode));
        }
    }

    /// Drops all unsent bytes. The alert of a TLS that has failed still leaves.
    fn give_up(&mut self) {
        self.queue.give_up();
        if let Some(encryption) = &mut self.encryption {
            encryption.give_up();
        }
    }

    fn stop_reading(&mut self, now_ms: u64) {
        match self.phase {
            Phase::Open(_) => self.phase = Phase::Lingering(self.new_deadlines(now_ms)),
            Phase::Closing(deadlines) => self.phase = Phase::Lingering(deadlines),
            Phase::Lingering(_) | Phase::Ended(_) => {}
        }
    }

    /// The deadlines of a closing connection are over.
    pub(super) fn handle_overdue(&mut self, now_ms: u64) {
        let is_flushed = self.is_flushed();
        match self.phase {
            // Our close had no answer, or the server does not end TCP. TLS still has an end of its own.
            Phase::Closing(_) if is_flushed && self.is_encrypted() => self.end_alone(now_ms),
            Phase::Lingering(_) if is_flushed && self.is_encrypted() && self.is_peer_first => {
                self.end_alone(now_ms);
            }
            // Only a peer that has not read is reset: a reset drops bytes that are still on their way.
            Phase::Closing(_) | Phase::Lingering(_) if is_flushed => self.end(CloseMode::Graceful),
            Phase::Closing(_) | Phase::Lingering(_) => self.end(CloseMode::Abort),
            Phase::Open(_) | Phase::Ended(_) => {}
        }
    }

    /// Ends TLS and TCP, whatever the peer does.
    fn end_alone(&mut self, now_ms: u64) {
        self.is_peer_first = false;
        self.phase = Phase::Lingering(Deadlines::last(&self.config().closing, now_ms));
        self.advance(now_ms);
    }

    /// Advances a closing connection: flush, FIN, await the peer's FIN.
    pub(super) fn advance(&mut self, now_ms: u64) {
        if !matches!(self.phase, Phase::Lingering(_)) {
            return;
        }
        if self.tls().is_some_and(|stream| stream.failure().is_some()) {
            // Only the alert can be sent.
            self.give_up();
        }
        if !self.is_flushed() {
            return;
        }
        let fin_due_ms = now_ms + self.config().closing.fin_ms;
        let Phase::Lingering(deadlines) = &mut self.phase else { return };
        if self.is_peer_first && !self.is_at_end_of_stream {
            // "The underlying TCP connection, in most normal cases, SHOULD be closed first by the server" (RFC 6455,
            // 7.1.1).
            deadlines.progress_due_ms = fin_due_ms;
            return;
        }
        if let Some(encryption) = &mut self.encryption {
            encryption.close();
            if encryption.has_unsent() {
                return;
            }
        }
        if self.is_at_end_of_stream {
            self.end(CloseMode::Graceful);
        } else if !self.is_fin_sent {
            self.is_fin_sent = true;
            deadlines.progress_due_ms = fin_due_ms;
            self.is_fin_due = true;
        }
    }

    fn new_deadlines(&self, now_ms: u64) -> Deadlines {
        Deadlines::begin(&self.config().closing, now_ms)
    }

    fn close_frame(&self, code: u16, reason: &str) -> B {
        let mut encoded = Vec::new();
        append_close(&mut encoded, code, reason, self.config().mask());
        encoded.into()
    }
}
