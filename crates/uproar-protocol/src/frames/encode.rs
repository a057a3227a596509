//! Encoding frames: unmasked for a server, masked for a client, and in fragments when they are long (RFC 6455,
//! sections 5.2 to 5.4).

use bytes::{Buf as _, Bytes};
use tungstenite::protocol::frame::FrameHeader;

use super::close::is_close_code;
use super::header::{CONTROL_BYTES_MAX, HEADER_BYTES_MAX, Mask};
use super::{MessageKind, Opcode};

/// Messages of this many bytes and more leave in fragments of this size, so that receivers with a small
/// frame limit can read them and a long message does not keep a control frame waiting for long.
pub const FRAGMENT_BYTES: usize = 64 * 1024;

/// The longest reason of a close, which shares its payload with the code.
pub const CLOSE_REASON_BYTES_MAX: usize = CONTROL_BYTES_MAX - 2;

/// A server's message.
#[must_use]
pub fn message(kind: MessageKind, payload: &[u8]) -> Bytes {
    let mut encoded =
        Vec::with_capacity(fragments(kind, payload).map(|(.., fragment)| frame_bytes(fragment, None)).sum());
    for (opcode, is_final, fragment) in fragments(kind, payload) {
        append_frame(&mut encoded, opcode, is_final, fragment, None);
    }
    encoded.into()
}

/// Room for the header of a server's frame that is no fragment: 2 bytes, and 2 for a length from 126 on (RFC 6455, 5.2).
const HEADER_ROOM_BYTES: usize = 4;

// Longer messages are fragments.
const _: () = assert!(FRAGMENT_BYTES <= 1 << 16);

/// A server's text message whose payload `write` appends to a buffer. It is written once, behind room for its header.
/// With `payload_bytes` or less it is never moved; otherwise the buffer grows.
///
/// `write` must append valid UTF-8.
#[must_use]
pub fn written_text(payload_bytes: usize, write: impl FnOnce(&mut Vec<u8>)) -> Bytes {
    let mut encoded = Vec::with_capacity(HEADER_ROOM_BYTES + payload_bytes);
    encoded.resize(HEADER_ROOM_BYTES, 0);
    write(&mut encoded);
    let payload = &encoded[HEADER_ROOM_BYTES..];
    if payload.len() >= FRAGMENT_BYTES {
        return message(MessageKind::Text, payload);
    }
    let payload_bytes = payload.len() as u64;
    let begin = HEADER_ROOM_BYTES - header_bytes(payload, None);
    let mut room = &mut encoded[begin..HEADER_ROOM_BYTES];
    let opcode = MessageKind::Text.opcode().into();
    let header = FrameHeader { is_final: true, rsv1: false, rsv2: false, rsv3: false, opcode, mask: None };
    header.format(payload_bytes, &mut room).expect("Bug: a header is longer than its room");
    // Without capacity to spare it becomes `Bytes` as it is.
    encoded.shrink_to_fit();
    let mut encoded = Bytes::from(encoded);
    encoded.advance(begin);
    encoded
}

/// A server's ping, with an empty payload.
#[must_use]
pub fn ping() -> Bytes {
    frame(Opcode::Ping, &[], None).into()
}

/// A server's close.
///
/// # Panics
///
/// When the reason is over [`CLOSE_REASON_BYTES_MAX`], or the code must not be sent.
#[must_use]
pub fn close(code: u16, reason: &str) -> Bytes {
    let mut encoded = Vec::with_capacity(CONTROL_BYTES_MAX + HEADER_BYTES_MAX);
    append_close(&mut encoded, code, reason, None);
    encoded.into()
}

/// One unfragmented frame.
#[must_use]
pub fn frame(opcode: Opcode, payload: &[u8], mask: Option<[u8; 4]>) -> Vec<u8> {
    let mut encoded = Vec::with_capacity(frame_bytes(payload, mask));
    append_frame(&mut encoded, opcode, true, payload, mask);
    encoded
}

/// Appends a message. `mask` is asked for the mask of each frame: a client's is new and unpredictable each time
/// (RFC 6455, section 5.3), a server has none.
pub fn append_message(
    encoded: &mut Vec<u8>,
    kind: MessageKind,
    payload: &[u8],
    mut mask: impl FnMut() -> Option<[u8; 4]>,
) {
    encoded.reserve(encoded_bytes_max(payload));
    for (opcode, is_final, fragment) in fragments(kind, payload) {
        append_frame(encoded, opcode, is_final, fragment, mask());
    }
}

/// The frames that a message leaves in: one, or fragments of [`FRAGMENT_BYTES`] and what is left. Each is told
/// by its opcode, whether it is the last, and its payload.
pub fn fragments(kind: MessageKind, payload: &[u8]) -> impl Iterator<Item = (Opcode, bool, &[u8])> {
    let mut next = Some((kind.opcode(), payload));
    std::iter::from_fn(move || {
        let (opcode, rest) = next.take()?;
        // A message of a whole number of fragments has an empty one at its end.
        Some(match rest.split_at_checked(FRAGMENT_BYTES) {
            Some((fragment, after)) => {
                next = Some((Opcode::Continuation, after));
                (opcode, false, fragment)
            }
            None => (opcode, true, rest),
        })
    })
}

/// Appends a ping or a pong.
///
/// # Panics
///
/// When the payload is over [`CONTROL_BYTES_MAX`].
pub fn append_control(encoded: &mut Vec<u8>, opcode: Opcode, payload: &[u8], mask: Option<[u8; 4]>) {
    assert!(payload.len() <= CONTROL_BYTES_MAX, "a control frame of {} bytes", payload.len());
    append_frame(encoded, opcode, true, payload, mask);
}

/// Appends a close.
///
/// # Panics
///
/// As [`close`] does.
pub fn append_close(encoded: &mut Vec<u8>, code: u16, reason: &str, mask: Option<[u8; 4]>) {
    assert!(is_close_code(code), "a close with the code {code}");
    let payload = [&code.to_be_bytes(), reason.as_bytes()].concat();
    append_control(encoded, Opcode::Close, &payload, mask);
}

/// How long a frame is.
pub(crate) fn frame_bytes(payload: &[u8], mask: Option<[u8; 4]>) -> usize {
    header_bytes(payload, mask) + payload.len()
}

/// How long the header of a frame is. Exactly: a buffer with capacity to spare would need a second allocation
/// to become [`Bytes`].
fn header_bytes(payload: &[u8], mask: Option<[u8; 4]>) -> usize {
    let length_bytes = match payload.len() {
        0..126 => 0,
        126..65_536 => 2,
        _ => 8,
    };
    2 + length_bytes + mask.map_or(0, |mask| mask.len())
}

fn encoded_bytes_max(payload: &[u8]) -> usize {
    payload.len() + HEADER_BYTES_MAX * (1 + payload.len() / FRAGMENT_BYTES)
}

/// Appends one frame.
pub fn append_frame(
    encoded: &mut Vec<u8>,
    opcode: Opcode,
    is_final: bool,
    payload: &[u8],
    mask: Option<[u8; 4]>,
) {
    let header = FrameHeader { is_final, rsv1: false, rsv2: false, rsv3: false, opcode: opcode.into(), mask };
    header.format(payload.len() as u64, encoded).expect("Bug: writing to a vector failed");
    Mask::append(&mut mask.map(Mask), encoded, payload);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_have_the_shortest_length_form() {
        assert_eq!(&message(MessageKind::Text, b"hi")[..], b"\x81\x02hi");
        assert_eq!(&message(MessageKind::Binary, &[7; 126])[..4], [0x82, 126, 0, 126]);
        assert_eq!(&message(MessageKind::Text, &[b'x'; FRAGMENT_BYTES - 1])[..4], [0x81, 126, 0xff, 0xff]);
        assert_eq!(&ping()[..], [0x89, 0]);
        assert_eq!(&close(1013, "slow consumer")[..], b"\x88\x0f\x03\xf5slow consumer");
    }

    #[test]
    fn a_written_text_is_the_same_as_an_encoded_one() {
        for len in [0, 1, 125, 126, 127, 300, FRAGMENT_BYTES - 1, FRAGMENT_BYTES, FRAGMENT_BYTES + 1] {
            let payload = vec![b'x'; len];
            let written = written_text(100, |buffer| buffer.extend_from_slice(&payload));
            assert_eq!(written, message(MessageKind::Text, &payload), "{len} bytes");
        }
    }

    #[test]
    fn long_messages_are_fragmented_and_end_with_a_final_frame() {
        for extra in [0, 1, FRAGMENT_BYTES] {
            let payload = vec![b'x'; FRAGMENT_BYTES + extra];
            let encoded = message(MessageKind::Text, &payload);
            assert_eq!(&encoded[..10], [0x01, 127, 0, 0, 0, 0, 0, 1, 0, 0]);
            let last = &encoded[10 + FRAGMENT_BYTES..];
            match extra {
                0 => assert_eq!(last, [0x80, 0]),
                1 => assert_eq!(last, [0x80, 1, b'x']),
                _ => assert_eq!(last[..10], [0x00, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
            }
        }
    }

    #[test]
    fn no_buffer_is_longer_than_what_is_in_it() {
        for len in [0, 1, 125, 126, 65_535, 65_536] {
            for mask in [None, Some([1; 4])] {
                let frame = frame(Opcode::Binary, &vec![7; len], mask);
                assert_eq!(frame.capacity(), frame.len(), "{len} bytes, mask {mask:?}");
            }
        }
    }

    #[test]
    fn a_client_masks_each_frame() {
        // The example of RFC 6455, 5.7.
        assert_eq!(
            frame(Opcode::Text, b"Hello", Some([0x37, 0xfa, 0x21, 0x3d])),
            [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58]
        );
        assert_eq!(frame(Opcode::Binary, &[0; 126], Some([1; 4]))[..4], [0x82, 0xfe, 0, 126]);
        let mut encoded = Vec::new();
        let mut masks = [[1; 4], [2; 4]].into_iter();
        append_message(&mut encoded, MessageKind::Binary, &[0; FRAGMENT_BYTES + 1], || masks.next());
        assert_eq!(encoded[..15], [0x02, 0xff, 0, 0, 0, 0, 0, 1, 0, 0, 1, 1, 1, 1, 1]);
        assert_eq!(encoded[14 + FRAGMENT_BYTES..], [0x80, 0x81, 2, 2, 2, 2, 2]);
    }
}
