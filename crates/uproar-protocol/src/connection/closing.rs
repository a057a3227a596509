//! How a connection ends.
//!
//! The order is always the same: the last frame is queued; then the closing handshake and both FINs have their time; then
//! the socket is closed. A socket that is closed with unread data answers with a reset, and a reset drops what the peer
//! has not read yet.

use super::Connection;
use super::phase::{ANSWER_MS, CloseMode, Closing, Phase};
use crate::frames::{Close, Opcode, append_close};

impl<B: AsRef<[u8]> + From<Vec<u8>>> Connection<B> {
    /// Starts the closing handshake: queues a close frame as the last one (RFC 6455, 7.1.2). Does nothing on a connection
    /// that is not open.
    ///
    /// # Panics
    ///
    /// When the code must not be sent, or the reason is longer than 123 bytes.
    pub fn close(&mut self, code: u16, reason: &str, now_ms: u64) {
        if self.is_open() {
            self.phase = Phase::Closing(Closing::begin(now_ms));
            let last = self.close_frame(code, reason);
            self.queue.seal(Some(last));
        }
    }

    /// Fails the connection (RFC 6455, 7.1.7): queues a close frame as the last one, and reads nothing more. On a closing
    /// connection only the latter.
    ///
    /// # Panics
    ///
    /// As for [`Connection::close`].
    pub fn fail(&mut self, code: u16, reason: &str, now_ms: u64) {
        match self.phase {
            Phase::Open => {
                self.phase = Phase::Lingering(Closing::begin(now_ms));
                let last = self.close_frame(code, reason);
                self.queue.seal(Some(last));
            }
            Phase::Closing(closing) => {
                self.phase = Phase::Lingering(closing);
                self.finish(now_ms);
            }
            Phase::Lingering(_) | Phase::Ended(_) => {}
        }
    }

    /// Closes a connection whose queue is full. What the peer has not read is dropped, so that the close frame stands right
    /// behind the frame that is half sent. Does nothing on a connection that is not open.
    ///
    /// # Panics
    ///
    /// As for [`Connection::close`].
    pub fn evict(&mut self, code: u16, reason: &str, now_ms: u64) {
        if self.is_open() {
            self.phase = Phase::Closing(Closing::begin(now_ms));
            let last = self.close_frame(code, reason);
            self.queue.truncate(last);
        }
    }

    /// The peer's close frame: the first one, which is answered, or the answer to ours.
    pub(super) fn handle_peer_close(&mut self, close: Option<&Close>, now_ms: u64) {
        match self.phase {
            Phase::Open => {
                self.phase = Phase::Lingering(Closing::begin(now_ms));
                // "the endpoint typically echos the status code it received" (RFC 6455, 5.5.1)
                let code = close.map(|close| close.code.to_be_bytes());
                let answer = self.control_frame(Opcode::Close, code.as_ref().map_or(&[][..], |code| code));
                self.queue.seal(Some(answer));
            }
            Phase::Closing(closing) => self.phase = Phase::Lingering(closing),
            Phase::Lingering(_) | Phase::Ended(_) => return,
        }
        self.finish(now_ms);
    }

    /// The peer's FIN has come. While `is_unread`, because the caller holds bytes that came before it or will not read
    /// yet, it is only noted; it is to be called again when they have been read.
    pub fn handle_end_of_stream(&mut self, is_unread: bool, now_ms: u64) {
        self.is_at_end_of_stream = true;
        match self.phase {
            Phase::Open if is_unread || self.has_pending() => return,
            Phase::Open => {
                // The peer may still read what was sent before.
                self.phase = Phase::Lingering(Closing::begin(now_ms));
                self.queue.seal(None);
            }
            Phase::Closing(closing) => self.phase = Phase::Lingering(closing),
            Phase::Lingering(_) | Phase::Ended(_) => {}
        }
        self.finish(now_ms);
    }

    /// The peer broke TLS, or ended it with an alert: nothing more is read, and only the alert that says why is sent.
    pub fn handle_broken_tls(&mut self, now_ms: u64) {
        self.give_up();
        match self.phase {
            Phase::Open => self.phase = Phase::Lingering(Closing::begin(now_ms)),
            Phase::Closing(closing) => self.phase = Phase::Lingering(closing),
            Phase::Lingering(_) | Phase::Ended(_) => {}
        }
        self.finish(now_ms);
    }

    /// A send failed: nothing more will be sent, and the batch does not come back.
    pub fn handle_send_failed(&mut self) {
        self.give_up();
        self.abort();
    }

    /// Closes the socket at once, without its last words.
    pub fn abort(&mut self) {
        self.end(CloseMode::Abort);
    }

    fn end(&mut self, mode: CloseMode) {
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

    /// Goes on with a connection that has nothing more to say: flush, FIN, await the peer's FIN.
    pub(super) fn finish(&mut self, now_ms: u64) {
        if !matches!(self.phase, Phase::Lingering(_)) {
            return;
        }
        if self.is_flushed()
            && let Some(encryption) = &mut self.encryption
        {
            encryption.close();
        }
        if !self.is_flushed() {
            return;
        }
        if self.is_at_end_of_stream {
            self.end(CloseMode::Graceful);
        } else if let Phase::Lingering(closing) = &mut self.phase
            && !closing.is_fin_sent
        {
            closing.is_fin_sent = true;
            closing.progress_due_ms = now_ms + ANSWER_MS;
            self.is_fin_due = true;
        }
    }

    fn close_frame(&self, code: u16, reason: &str) -> B {
        let mut encoded = Vec::new();
        append_close(&mut encoded, code, reason, self.new_mask.map(|new_mask| new_mask()));
        encoded.into()
    }
}
