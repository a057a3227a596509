//! Frame headers and masks (RFC 6455, sections 5.2 and 5.3). tungstenite parses and formats headers; this
//! module checks which values are allowed, and when.

use std::io::Cursor;

use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};

use super::{Role, Violation};

/// The longest header: two bytes, eight of length, four of mask.
pub(crate) const HEADER_BYTES_MAX: usize = 14;

/// The longest payload of a ping, pong or close (RFC 6455, section 5.5).
pub const CONTROL_BYTES_MAX: usize = 125;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Opcode {
    /// The next part of a message.
    Continuation = 0,
    /// UTF-8.
    Text = 1,
    /// Any bytes.
    Binary = 2,
    /// The last frame of its sender.
    Close = 8,
    /// To be answered by a pong.
    Ping = 9,
    /// The answer to a ping.
    Pong = 10,
}

impl Opcode {
    /// True for close, ping and pong, which may come between the fragments of a message.
    #[must_use]
    pub fn is_control(self) -> bool {
        self as u8 >= 8
    }

    fn of(opcode: OpCode) -> Result<Self, Violation> {
        Ok(match opcode {
            OpCode::Data(Data::Continue) => Self::Continuation,
            OpCode::Data(Data::Text) => Self::Text,
            OpCode::Data(Data::Binary) => Self::Binary,
            OpCode::Control(Control::Close) => Self::Close,
            OpCode::Control(Control::Ping) => Self::Ping,
            OpCode::Control(Control::Pong) => Self::Pong,
            reserved => return Err(Violation::UnknownOpcode(reserved.into())),
        })
    }
}

impl From<Opcode> for OpCode {
    fn from(opcode: Opcode) -> Self {
        match opcode {
            Opcode::Continuation => Self::Data(Data::Continue),
            Opcode::Text => Self::Data(Data::Text),
            Opcode::Binary => Self::Data(Data::Binary),
            Opcode::Close => Self::Control(Control::Close),
            Opcode::Ping => Self::Control(Control::Ping),
            Opcode::Pong => Self::Control(Control::Pong),
        }
    }
}

/// A frame header that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) is_final: bool,
    pub(super) opcode: Opcode,
    pub(super) mask: Option<Mask>,
    pub(super) payload_bytes: u64,
}

impl Header {
    /// Reads what stands at the beginning of `bytes`, and tells how long it is; `None` while it is incomplete.
    pub(super) fn parse(bytes: &[u8], reader: Role) -> Result<Option<(Self, usize)>, Violation> {
        let mut cursor = Cursor::new(bytes);
        let parsed = match FrameHeader::parse(&mut cursor) {
            Ok(None) => return Ok(None),
            Ok(Some(parsed)) => parsed,
            // The only thing that it refuses by itself, and only where there is a first byte.
            Err(_) => return Err(Violation::UnknownOpcode(bytes[0] & 0x0f)),
        };
        let (FrameHeader { is_final, rsv1, rsv2, rsv3, opcode, mask }, payload_bytes) = parsed;
        if rsv1 || rsv2 || rsv3 {
            return Err(Violation::ReservedBits);
        }
        match (reader, mask) {
            (Role::Server, None) => return Err(Violation::Unmasked),
            (Role::Client, Some(_)) => return Err(Violation::Masked),
            _ => {}
        }
        let opcode = Opcode::of(opcode)?;
        if opcode.is_control() && (!is_final || payload_bytes > CONTROL_BYTES_MAX as u64) {
            return Err(Violation::ControlFrame);
        }
        let end = cursor.position() as usize;
        let minimal = FrameHeader { is_final, rsv1, rsv2, rsv3, opcode: opcode.into(), mask };
        // "The most significant bit MUST be 0" (5.2); a length that has it set is no length.
        if end != minimal.len(payload_bytes) || payload_bytes >> 63 != 0 {
            return Err(Violation::LengthNotMinimal);
        }
        Ok(Some((Self { is_final, opcode, mask: mask.map(Mask), payload_bytes }, end)))
    }
}

/// A masking key, turned so that its first byte belongs to the next byte of payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mask(pub(super) [u8; 4]);

impl Mask {
    /// Masks or unmasks, which is the same, and moves on.
    pub(super) fn apply(&mut self, payload: &mut [u8]) {
        // In steps of sixteen bytes, which compilers turn into vector instructions.
        let mut wide = [0; 16];
        for part in wide.chunks_exact_mut(4) {
            part.copy_from_slice(&self.0);
        }
        let mut chunks = payload.chunks_exact_mut(16);
        for chunk in &mut chunks {
            for (byte, mask) in chunk.iter_mut().zip(&wide) {
                *byte ^= mask;
            }
        }
        let rest = chunks.into_remainder();
        for (byte, mask) in rest.iter_mut().zip(&wide) {
            *byte ^= mask;
        }
        self.0.rotate_left(rest.len() % 4);
    }

    /// Appends `payload`, unmasked.
    pub(super) fn append(this: &mut Option<Self>, to: &mut Vec<u8>, payload: &[u8]) {
        let begin = to.len();
        to.extend_from_slice(payload);
        if let Some(mask) = this {
            mask.apply(&mut to[begin..]);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_mask_goes_on_where_the_last_piece_ended(
            payload in prop::collection::vec(any::<u8>(), 0..100), cut in any::<prop::sample::Index>(), key in any::<[u8; 4]>(),
        ) {
            let expected: Vec<u8> = payload.iter().zip(key.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect();
            let mut masked = payload.clone();
            let (front, back) = masked.split_at_mut(cut.index(payload.len() + 1));
            let mut mask = Mask(key);
            mask.apply(front);
            mask.apply(back);
            prop_assert_eq!(masked, expected);
        }
    }
}
