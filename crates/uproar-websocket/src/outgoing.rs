//! What waits to be sent on a connection, and in which order it leaves.

use std::collections::VecDeque;

use super::error::Failure;
use uproar_protocol::frames::FRAGMENT_BYTES;

/// A buffer of at most this size is kept for the next message.
const SPARE_BYTES_MAX: usize = 4096;

/// What waits to be sent, and whether more may come.
///
/// HTTP leaves first: no frame may stand ahead of the answer to an upgrade. Then control frames, which may
/// overtake messages that wait, even between two fragments (RFC 6455, section 5.4); then the messages.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    /// Requests and responses of HTTP.
    http: Vec<u8>,
    /// Encoded pings and pongs of the user's.
    pub(super) control: Vec<u8>,
    /// Encoded pongs that answer the peer's pings.
    pongs: Vec<u8>,
    /// Encoded frames of messages, whole ones in each piece; at last the close.
    pieces: VecDeque<Vec<u8>>,
    /// How many bytes of messages wait, or of anything are with the kernel.
    bytes: usize,
    /// A buffer for the next message.
    spare: Vec<u8>,
    /// True once a close was queued.
    pub(super) has_closed: bool,
    /// Why nothing can be sent.
    pub(super) failure: Option<Failure>,
}

impl Outgoing {
    /// Queues HTTP.
    pub(super) fn push_http(&mut self, bytes: &[u8]) {
        self.http.extend_from_slice(bytes);
    }

    /// Queues a frame of a message that has at most `bytes_max` bytes, and that `encode` appends to a buffer.
    /// What is small is collected in one piece, what is long has a piece to itself, so that a control frame
    /// waits for one fragment at most.
    pub(super) fn push_frame(&mut self, bytes_max: usize, encode: impl FnOnce(&mut Vec<u8>)) {
        let has_room = self.pieces.back().is_some_and(|piece| piece.len() + bytes_max <= FRAGMENT_BYTES);
        if !has_room {
            self.pieces.push_back(std::mem::take(&mut self.spare));
        }
        let piece = self.pieces.back_mut().expect("Bug: a piece was just added");
        let before = piece.len();
        encode(piece);
        self.bytes += piece.len() - before;
    }

    /// Queues the answer to a ping. "If an endpoint receives a Ping frame and has not yet sent Pong frame(s) in
    /// response to previous Ping frame(s), the endpoint MAY elect to send a Pong frame for only the most
    /// recently processed Ping frame" (RFC 6455, section 5.5.3): when more than `bytes_max` of answers that
    /// nobody reads have piled up, the newest takes their place.
    pub(super) fn push_pong(&mut self, bytes_max: usize, encode: impl FnOnce(&mut Vec<u8>)) {
        if self.pongs.len() >= bytes_max {
            self.pongs.clear();
        }
        encode(&mut self.pongs);
    }

    /// How many bytes of the user's wait or are with the kernel.
    pub(super) fn queued_bytes(&self) -> usize {
        self.bytes + self.control.len()
    }

    /// What is to leave now. It counts as queued until it is given to [`Outgoing::recycle`].
    pub(super) fn next(&mut self) -> Option<Vec<u8>> {
        let Self { http, control, pongs, .. } = self;
        for first in [http, control, pongs] {
            if !first.is_empty() {
                self.bytes += first.len();
                return Some(std::mem::take(first));
            }
        }
        self.pieces.pop_front()
    }

    /// Takes back what has left.
    pub(super) fn recycle(&mut self, mut buffer: Vec<u8>) {
        self.bytes -= buffer.len();
        if buffer.capacity() <= SPARE_BYTES_MAX {
            buffer.clear();
            self.spare = buffer;
        }
    }

    /// Notes that nothing can be sent any more, and gives up what waits.
    pub(super) fn fail(&mut self, failure: Failure) {
        self.failure.get_or_insert(failure);
        (self.http, self.control, self.pongs) = Default::default();
        self.pieces.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drained(outgoing: &mut Outgoing) -> Vec<u8> {
        let mut all = Vec::new();
        while let Some(piece) = outgoing.next() {
            all.extend_from_slice(&piece);
            outgoing.recycle(piece);
        }
        assert_eq!(outgoing.queued_bytes(), 0);
        all
    }

    fn byte(byte: u8) -> impl FnOnce(&mut Vec<u8>) {
        move |buffer| buffer.push(byte)
    }

    #[test]
    fn http_leaves_before_control_frames_and_these_before_messages() {
        let mut outgoing = Outgoing::default();
        outgoing.push_frame(1, byte(b'm'));
        outgoing.push_pong(100, byte(b'p'));
        byte(b'c')(&mut outgoing.control);
        outgoing.push_http(b"h");
        outgoing.push_frame(1, byte(b'n'));
        assert_eq!(outgoing.queued_bytes(), 3);
        assert_eq!(drained(&mut outgoing), b"hcpmn");
    }

    #[test]
    fn the_newest_pong_takes_the_place_of_too_many_and_of_nothing_else() {
        let mut outgoing = Outgoing::default();
        outgoing.control.extend_from_slice(b"mine");
        for answer in 1..=5 {
            outgoing.push_pong(4, byte(answer));
        }
        assert_eq!(drained(&mut outgoing), b"mine\x05");
    }

    #[test]
    fn long_frames_have_a_piece_to_themselves() {
        let mut outgoing = Outgoing::default();
        for bytes in [10, FRAGMENT_BYTES, 10, 10] {
            outgoing.push_frame(bytes, |buffer| buffer.resize(buffer.len() + bytes, 0));
        }
        let lengths: Vec<usize> = std::iter::from_fn(|| outgoing.next().map(|piece| piece.len())).collect();
        assert_eq!(lengths, [10, FRAGMENT_BYTES, 20]);
    }
}
