//! WebSocket frames as bytes (RFC 6455, 5.2), valid ones and deliberately broken ones.

pub(crate) const CONTINUATION: u8 = 0x0;
pub(crate) const TEXT: u8 = 0x1;
pub(crate) const BINARY: u8 = 0x2;
pub(crate) const CLOSE: u8 = 0x8;
pub(crate) const PING: u8 = 0x9;
pub(crate) const PONG: u8 = 0xA;

const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// A frame as it came from the server.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) is_final: bool,
    pub(crate) opcode: u8,
    pub(crate) payload: Vec<u8>,
}

/// A client's frame header, with every bit open to abuse.
#[derive(Clone, Copy)]
pub(crate) struct Header {
    pub(crate) is_final: bool,
    pub(crate) reserved: u8,
    pub(crate) opcode: u8,
    pub(crate) is_masked: bool,
}

impl Header {
    pub(crate) fn of(opcode: u8) -> Self {
        Self { is_final: true, reserved: 0, opcode, is_masked: true }
    }

    pub(crate) fn with(self, payload: &[u8]) -> Vec<u8> {
        let mut bytes = self.announcing(payload.len() as u64);
        if self.is_masked {
            let masked = payload.iter().zip(MASK.iter().cycle());
            bytes.extend(masked.map(|(byte, mask)| byte ^ mask));
        } else {
            bytes.extend_from_slice(payload);
        }
        bytes
    }

    /// The header alone, for a payload of `length` bytes that may never come.
    pub(crate) fn announcing(self, length: u64) -> Vec<u8> {
        let first = u8::from(self.is_final) << 7 | self.reserved << 4 | self.opcode;
        let masked = u8::from(self.is_masked) << 7;
        let mut bytes = vec![first];
        match length {
            0..=125 => bytes.push(masked | length as u8),
            126..=0xffff => {
                bytes.push(masked | 126);
                bytes.extend((length as u16).to_be_bytes());
            }
            _ => {
                bytes.push(masked | 127);
                bytes.extend(length.to_be_bytes());
            }
        }
        if self.is_masked {
            bytes.extend(MASK);
        }
        bytes
    }
}

/// A whole, valid frame.
pub(crate) fn frame(opcode: u8, payload: impl AsRef<[u8]>) -> Vec<u8> {
    Header::of(opcode).with(payload.as_ref())
}

/// A frame that others follow: the first or a middle part of a message.
pub(crate) fn part(opcode: u8, payload: impl AsRef<[u8]>) -> Vec<u8> {
    let header = Header { is_final: false, ..Header::of(opcode) };
    header.with(payload.as_ref())
}

/// Takes one frame off the front of `bytes`, when a whole one is there.
///
/// Panics on what a server must never send: masked frames, reserved bits, large control frames.
pub(super) fn take(bytes: &mut Vec<u8>) -> Option<Frame> {
    let (first, second) = (*bytes.first()?, *bytes.get(1)?);
    assert_eq!(first & 0x70, 0, "reserved bits in a server's frame");
    assert_eq!(second & 0x80, 0, "a server's frame is not masked");
    let (start, length) = match second {
        126 => (4, be(bytes.get(2..4)?)),
        127 => (10, be(bytes.get(2..10)?)),
        length => (2, usize::from(length)),
    };
    let payload = bytes.get(start..start + length)?.to_vec();
    bytes.drain(..start + length);
    let frame = Frame { is_final: first & 0x80 != 0, opcode: first & 0x0f, payload };
    if frame.opcode >= CLOSE {
        assert!(frame.is_final && length <= 125, "control frame {frame:?}");
    }
    Some(frame)
}

fn be(bytes: &[u8]) -> usize {
    bytes.iter().fold(0, |value, byte| value << 8 | usize::from(*byte))
}
