//! TLS between a connection's queue and its socket.
//!
//! Waiting bytes stay in the queue, as plaintext that may be shared with other connections. Only the bytes that are about
//! to leave are encrypted, and kept until they have left: [`SEALED_BYTES_MAX`] at most, however much waits behind them. A
//! connection with nothing under way holds no buffer.

use std::fmt;

use super::batch::{Batch, Entries};
use super::send_queue::SendQueue;
use crate::frames::HEADER_BYTES_MAX;
use crate::tls::{Error, TlsStream};

/// The most plaintext that is encrypted at a time: four full records, and as much as the kernel takes for a
/// connection without having sent it.
const SEALED_BYTES_MAX: usize = 64 * 1024;

/// The TLS of a connection, beside its queue. At most one of its sends is under way.
pub(super) struct Encryption<B> {
    stream: TlsStream,
    /// The batch that was last encrypted, and how many of its bytes were. The queue counts it, and it is kept, until the
    /// ciphertext has left.
    sealed: Option<(Batch<B>, usize)>,
    /// The rest of ciphertext whose send was short.
    resumed: Option<Batch<B>>,
    /// True exactly while ciphertext is under way.
    is_sending: bool,
}

impl<B> fmt::Debug for Encryption<B> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Encryption").field("stream", &self.stream).finish_non_exhaustive()
    }
}

impl<B: AsRef<[u8]> + From<Vec<u8>>> Encryption<B> {
    pub(super) fn new(stream: TlsStream) -> Self {
        Self { stream, sealed: None, resumed: None, is_sending: false }
    }

    /// Decrypts received bytes, and appends the result to `plaintext`.
    ///
    /// # Errors
    ///
    /// Why the connection cannot go on; what was complete before is in `plaintext`.
    pub(super) fn decrypt(&mut self, ciphertext: &[u8], plaintext: &mut Vec<u8>) -> Result<(), Error> {
        self.stream.handle_received(ciphertext, plaintext)
    }

    /// TLS itself.
    pub(super) fn stream(&self) -> &TlsStream {
        &self.stream
    }

    /// TCP has ended.
    ///
    /// # Errors
    ///
    /// When the peer had not closed TLS before.
    pub(super) fn handle_end_of_stream(&mut self) -> Result<(), Error> {
        self.stream.handle_end_of_stream()
    }

    /// True while something is to be sent, or with the ring, beside what waits in the queue.
    pub(super) fn has_unsent(&self) -> bool {
        self.is_sending || self.has_waiting()
    }

    /// True while something waits behind what is with the ring: of TLS itself, the rest of a short send, or the rest of a
    /// batch that was encrypted in part.
    pub(super) fn has_waiting(&self) -> bool {
        let is_sealed_in_part =
            self.sealed.as_ref().is_some_and(|(batch, bytes)| *bytes < batch.remaining_bytes());
        is_sealed_in_part || self.resumed.is_some() || self.stream.has_outgoing()
    }

    /// True when [`Encryption::next_batch`] has something.
    pub(super) fn has_batch(&self, out: &SendQueue<B>) -> bool {
        !self.is_sending && (self.resumed.is_some() || self.stream.has_outgoing() || out.has_batch())
    }

    /// What to send now, encrypted: `None` when nothing waits or a send is still under way. `scratch` is where
    /// frames are joined, so that they make few records.
    ///
    /// # Errors
    ///
    /// When nothing can be encrypted any more.
    pub(super) fn next_batch(
        &mut self,
        out: &mut SendQueue<B>,
        scratch: &mut Vec<u8>,
    ) -> Result<Option<Batch<B>>, Error> {
        if self.is_sending {
            return Ok(None);
        }
        let mut ciphertext = self.resumed.take();
        if ciphertext.is_none() {
            // Before the handshake nothing can be encrypted, and behind a failure there is the alert alone.
            let is_usable = !self.stream.is_handshaking() && self.stream.failure().is_none();
            if is_usable && let Some(batch) = out.next_batch() {
                let bytes = sealed_bytes(batch.remaining_bytes());
                let outcome = self.stream.write_plaintext(beginning(&batch, bytes, scratch));
                self.sealed = Some((batch, bytes));
                outcome?;
            }
            let sealed = self.stream.poll_transmit();
            ciphertext = sealed.map(|bytes| Batch::new(Entries::One(B::from(bytes)), 0));
        }
        self.is_sending = ciphertext.is_some();
        Ok(ciphertext)
    }

    /// Takes back a batch of which `sent` bytes have left.
    pub(super) fn handle_sent(&mut self, out: &mut SendQueue<B>, batch: Batch<B>, sent: usize) {
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

/// How much of so many bytes is encrypted at a time. The last bytes of a fragment, as many as its header has, are not
/// worth a send of their own.
fn sealed_bytes(remaining_bytes: usize) -> usize {
    if remaining_bytes <= SEALED_BYTES_MAX + HEADER_BYTES_MAX { remaining_bytes } else { SEALED_BYTES_MAX }
}

/// The first `bytes` of a batch in one piece.
fn beginning<'a, B: AsRef<[u8]>>(batch: &'a Batch<B>, bytes: usize, scratch: &'a mut Vec<u8>) -> &'a [u8] {
    let first = batch.slice(0);
    if first.len() >= bytes {
        return &first[..bytes];
    }
    scratch.clear();
    for index in 0..batch.entry_count() {
        let slice = batch.slice(index);
        scratch.extend_from_slice(&slice[..slice.len().min(bytes - scratch.len())]);
    }
    scratch
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::Arc;

    use bytes::Bytes;

    use super::*;
    use crate::connection::{ClosingTimes, Config, ControlOrder, QueueLimits};
    use crate::tls::ServerName;
    use crate::tls::config::{self, Sessions, Trust};

    const OVERHEAD: usize = 192;

    /// A connection of a shard behind its handshake, and its client.
    fn connected() -> (Encryption<Bytes>, TlsStream) {
        let directory = tempfile::tempdir().unwrap();
        let [chain, key] = ["chain.pem", "key.pem"].map(|name| directory.path().join(name));
        let own = rcgen::generate_simple_self_signed(["chat.example".to_owned()]).unwrap();
        fs::write(&chain, own.cert.pem()).unwrap();
        fs::write(&key, own.signing_key.serialize_pem()).unwrap();
        let mut server = TlsStream::server(&config::server(&chain, &key).unwrap()).unwrap();
        let client = config::client(&Trust::Anyone, Sessions::Fresh).unwrap();
        let mut client = TlsStream::client(&client, ServerName::try_from("chat.example").unwrap()).unwrap();
        while client.has_outgoing() || server.has_outgoing() {
            let to_server = client.poll_transmit().unwrap_or_default();
            server.handle_received(&to_server, &mut Vec::new()).unwrap();
            let to_client = server.poll_transmit().unwrap_or_default();
            client.handle_received(&to_client, &mut Vec::new()).unwrap();
        }
        (Encryption::new(server), client)
    }

    fn queue(frames: &[&[u8]]) -> SendQueue<Bytes> {
        let mut out = SendQueue::new(Arc::new(Config {
            new_mask: None,
            message_bytes_max: 1,
            queue: QueueLimits {
                charged_bytes_max: 1 << 20,
                overhead_bytes: OVERHEAD,
                control: ControlOrder::Queued,
            },
            closing: ClosingTimes::default(),
        }));
        for frame in frames {
            out.push(frame.to_vec().into()).unwrap();
        }
        out
    }

    /// Sends all there is, so many bytes at a time, and returns what the client hears.
    fn send(
        from: &mut Encryption<Bytes>,
        out: &mut SendQueue<Bytes>,
        to: &mut TlsStream,
        bytes_max: usize,
    ) -> Vec<u8> {
        let mut heard = Vec::new();
        while let Some(batch) = from.next_batch(out, &mut Vec::new()).unwrap() {
            assert!(from.next_batch(out, &mut Vec::new()).unwrap().is_none(), "one send at a time");
            let sent = batch.remaining_bytes().min(bytes_max);
            to.handle_received(&batch.slice(0)[..sent], &mut heard).unwrap();
            from.handle_sent(out, batch, sent);
        }
        heard
    }

    #[test]
    fn what_waits_leaves_in_one_record() {
        let (mut encryption, mut client) = connected();
        let mut out = queue(&[b"one ", b"two ", b"three"]);
        let batch = encryption.next_batch(&mut out, &mut Vec::new()).unwrap().unwrap();
        assert_eq!(batch.remaining_bytes(), 5 + 13 + 1 + 16);
        assert_eq!(out.queued_bytes(), 3 * OVERHEAD + 13, "it counts until it has left");
        let mut heard = Vec::new();
        client.handle_received(batch.slice(0), &mut heard).unwrap();
        encryption.handle_sent(&mut out, batch, 5 + 13 + 1 + 16);
        assert_eq!(heard, b"one two three");
        assert!(out.is_empty() && !encryption.has_unsent());
    }

    #[test]
    fn short_sends_go_on_where_they_ended() {
        let (mut encryption, mut client) = connected();
        let long: Vec<u8> = (0..200_000_u32).map(|index| index as u8).collect();
        let mut out = queue(&[b"short", &long, b"short again"]);
        let heard = send(&mut encryption, &mut out, &mut client, 999);
        assert_eq!(heard, [b"short", &long[..], b"short again"].concat());
        assert!(out.is_empty() && !encryption.has_unsent());
    }

    #[test]
    fn no_more_is_encrypted_than_is_about_to_leave() {
        let (mut encryption, _client) = connected();
        let mut out = queue(&[&vec![0; 300_000], &vec![0; 300_000]]);
        let mut scratch = Vec::new();
        let batch = encryption.next_batch(&mut out, &mut scratch).unwrap().unwrap();
        assert!((SEALED_BYTES_MAX..SEALED_BYTES_MAX + 4 * 22 + 1).contains(&batch.remaining_bytes()));
        assert_eq!((out.queued_bytes(), scratch.capacity()), (2 * OVERHEAD + 600_000, 0));
    }

    #[test]
    fn what_is_evicted_ends_behind_the_frame_that_was_begun() {
        let (mut encryption, mut client) = connected();
        let mut out = queue(&[&[b'a'; 100_000], &[b'b'; 100_000]]);
        let batch = encryption.next_batch(&mut out, &mut Vec::new()).unwrap().unwrap();
        out.truncate(None, (&b"the end"[..]).into());
        let mut heard = Vec::new();
        client.handle_received(batch.slice(0), &mut heard).unwrap();
        let sent = batch.remaining_bytes();
        encryption.handle_sent(&mut out, batch, sent);
        heard.extend(send(&mut encryption, &mut out, &mut client, usize::MAX));
        assert_eq!(heard, [&[b'a'; 100_000][..], b"the end"].concat());
    }

    #[test]
    fn of_what_is_given_up_the_alert_is_left() {
        let (mut encryption, mut client) = connected();
        let mut out = queue(&[&[0; 100_000]]);
        let batch = encryption.next_batch(&mut out, &mut Vec::new()).unwrap().unwrap();
        let garbage = [&[23, 3, 3, 0, 40][..], &[7; 40]].concat();
        encryption.decrypt(&garbage, &mut Vec::new()).unwrap_err();
        out.give_up();
        encryption.give_up();
        let mut heard = Vec::new();
        client.handle_received(batch.slice(0), &mut heard).unwrap();
        let sent = batch.remaining_bytes();
        encryption.handle_sent(&mut out, batch, sent);
        let alert = encryption.next_batch(&mut out, &mut Vec::new()).unwrap().unwrap();
        let told = client.handle_received(alert.slice(0), &mut heard).unwrap_err();
        assert!(told.to_string().contains("BadRecordMac"), "{told}");
        encryption.handle_sent(&mut out, alert, alert_bytes());
        assert!(out.is_empty() && !encryption.has_unsent());
    }

    /// An alert of TLS 1.3: header, level and description, kind, tag.
    fn alert_bytes() -> usize {
        5 + 2 + 1 + 16
    }
}
