//! Encoding WebSocket frames as a server sends them: unmasked, and in fragments when they are long
//! (RFC 6455, sections 5.2 and 5.4).

use bytes::Bytes;
use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};

/// Messages of this many bytes and more leave in fragments of this size, so that receivers with a small
/// frame limit can read them and a long message does not keep a control frame waiting for long.
pub const FRAGMENT_BYTES: usize = 64 * 1024;

/// What kind of message a frame carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageKind {
    /// UTF-8.
    Text,
    /// Any bytes.
    Binary,
}

impl MessageKind {
    fn opcode(self) -> OpCode {
        OpCode::Data(match self {
            Self::Text => Data::Text,
            Self::Binary => Data::Binary,
        })
    }
}

/// Encodes one message.
#[must_use]
pub fn message(kind: MessageKind, payload: &[u8]) -> Bytes {
    let mut encoded = Vec::with_capacity(payload.len() + HEADER_BYTES_MAX);
    if payload.len() < FRAGMENT_BYTES {
        put(&mut encoded, kind.opcode(), true, payload);
    } else {
        let mut rest = payload;
        let mut opcode = kind.opcode();
        while rest.len() >= FRAGMENT_BYTES {
            let (fragment, after) = rest.split_at(FRAGMENT_BYTES);
            put(&mut encoded, opcode, false, fragment);
            opcode = OpCode::Data(Data::Continue);
            rest = after;
        }
        put(&mut encoded, opcode, true, rest);
    }
    encoded.into()
}

/// Encodes a ping with an empty payload.
#[must_use]
pub fn ping() -> Bytes {
    let mut encoded = Vec::new();
    put(&mut encoded, OpCode::Control(Control::Ping), true, &[]);
    encoded.into()
}

/// Encodes a close frame.
///
/// # Panics
///
/// When the reason is over 123 bytes, the most that a control frame holds (RFC 6455, section 5.5).
#[must_use]
pub fn close(code: u16, reason: &str) -> Bytes {
    assert!(reason.len() <= 123, "a close reason of {} bytes", reason.len());
    let payload = [&code.to_be_bytes(), reason.as_bytes()].concat();
    let mut encoded = Vec::with_capacity(payload.len() + HEADER_BYTES_MAX);
    put(&mut encoded, OpCode::Control(Control::Close), true, &payload);
    encoded.into()
}

const HEADER_BYTES_MAX: usize = 10;

fn put(encoded: &mut Vec<u8>, opcode: OpCode, is_final: bool, payload: &[u8]) {
    let header = FrameHeader { is_final, opcode, ..FrameHeader::default() };
    header.format(payload.len() as u64, encoded).expect("Bug: writing to a Vec failed");
    encoded.extend_from_slice(payload);
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
}
