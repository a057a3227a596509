//! TLS between a connection's out-queue and its socket.
//!
//! What waits stays in the out-queue, as plaintext that is shared with everybody else it goes to. Only what
//! is about to leave is encrypted, and kept until it has left: [`SEALED_BYTES_MAX`] at most, however much
//! waits behind it. A connection with nothing under way holds no buffer.

use std::fmt;

use super::out_queue::OutQueue;
use crate::frame::Frame;
use crate::protocol::tls::{Error, TlsStream};
use crate::ring::SendBatch;

/// The most plaintext that is encrypted at a time: four full records, and as much as the kernel takes for a
/// connection without having sent it.
const SEALED_BYTES_MAX: usize = 64 * 1024;

/// What a connection over TLS has besides its out-queue. At most one of its sends is under way.
pub(super) struct Encryption {
    stream: TlsStream,
    /// The batch that was last encrypted, and how much of it was. The queue counts it, and its frames are kept,
    /// until the ciphertext has left.
    sealed: Option<(SendBatch, usize)>,
    /// The rest of ciphertext whose send was short.
    resumed: Option<SendBatch>,
    /// True exactly while ciphertext is with the ring.
    is_sending: bool,
}

impl fmt::Debug for Encryption {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Encryption").field("stream", &self.stream).finish_non_exhaustive()
    }
}

impl Encryption {
    /// Goes on where a handshake has ended.
    pub(super) fn new(stream: TlsStream) -> Self {
        assert!(!stream.is_handshaking(), "Bug: a connection left the lobby ahead of its handshake");
        Self { stream, sealed: None, resumed: None, is_sending: false }
    }

    /// Appends to `plaintext` what received bytes say.
    ///
    /// # Errors
    ///
    /// Why the connection cannot go on; what was complete before is in `plaintext`.
    pub(super) fn decrypt(&mut self, ciphertext: &[u8], plaintext: &mut Vec<u8>) -> Result<(), Error> {
        self.stream.handle_received(ciphertext, plaintext)
    }

    /// True once the peer has said that it sends nothing more.
    pub(super) fn peer_has_closed(&self) -> bool {
        self.stream.peer_has_closed()
    }

    /// True while something is to be sent, or with the ring, beside what waits in the queue.
    pub(super) fn has_unsent(&self) -> bool {
        self.is_sending || self.resumed.is_some() || self.stream.has_outgoing()
    }

    /// What to send now, encrypted: `None` when nothing waits or a send is still under way. `scratch` is where
    /// frames are joined, so that they make few records.
    ///
    /// # Errors
    ///
    /// When nothing can be encrypted any more.
    pub(super) fn next_batch(
        &mut self,
        out: &mut OutQueue,
        scratch: &mut Vec<u8>,
    ) -> Result<Option<SendBatch>, Error> {
        if self.is_sending {
            return Ok(None);
        }
        let mut ciphertext = self.resumed.take();
        if ciphertext.is_none() {
            if let Some(batch) = out.next_batch() {
                let bytes = batch.remaining_bytes().min(SEALED_BYTES_MAX);
                let outcome = self.stream.write_plaintext(beginning(&batch, bytes, scratch));
                self.sealed = Some((batch, bytes));
                outcome?;
            }
            let sealed = self.stream.poll_transmit();
            ciphertext = sealed.map(|bytes| SendBatch::one(Frame::new(bytes.into()), 0));
        }
        self.is_sending = ciphertext.is_some();
        Ok(ciphertext)
    }

    /// Takes back a batch of which `sent` bytes have left.
    pub(super) fn handle_sent(&mut self, out: &mut OutQueue, batch: SendBatch, sent: usize) {
        self.is_sending = false;
        self.resumed = batch.advance(sent);
        if self.resumed.is_none()
            && let Some((batch, bytes)) = self.sealed.take()
        {
            out.handle_sent(batch, bytes);
        }
    }

    /// Forgets what is to be sent, but for what is with the ring, a record half sent, and the alert that tells
    /// the peer why.
    pub(super) fn give_up(&mut self) {
        self.sealed = None;
    }

    /// Says that nothing more will be sent (`close_notify`). To be called when the queue is empty.
    pub(super) fn close(&mut self) {
        // Where TLS has failed the peer has had an alert, which ends it as well.
        let _ = self.stream.close();
    }
}

/// The first `bytes` of a batch in one piece.
fn beginning<'a>(batch: &'a SendBatch, bytes: usize, scratch: &'a mut Vec<u8>) -> &'a [u8] {
    let first = batch.slice(0);
    if first.len() >= bytes {
        return &first[..bytes];
    }
    scratch.clear();
    for index in 0..batch.frame_count() {
        let slice = batch.slice(index);
        scratch.extend_from_slice(&slice[..slice.len().min(bytes - scratch.len())]);
    }
    scratch
}
