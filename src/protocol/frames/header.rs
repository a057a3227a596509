//! Frame headers and masks (RFC 6455, sections 5.2 and 5.3).

use super::{Role, Violation};

/// The longest header: two bytes, eight of length, four of mask.
pub(super) const HEADER_BYTES_MAX: usize = 14;

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

    fn of(bits: u8) -> Result<Self, Violation> {
        Ok(match bits {
            0 => Self::Continuation,
            1 => Self::Text,
            2 => Self::Binary,
            8 => Self::Close,
            9 => Self::Ping,
            10 => Self::Pong,
            other => return Err(Violation::UnknownOpcode(other)),
        })
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
        let &[first, second, ..] = bytes else { return Ok(None) };
        if first & 0x70 != 0 {
            return Err(Violation::ReservedBits);
        }
        let opcode = Opcode::of(first & 0x0f)?;
        match (reader, second & 0x80 != 0) {
            (Role::Server, false) => return Err(Violation::Unmasked),
            (Role::Client, true) => return Err(Violation::Masked),
            _ => {}
        }
        let is_final = first & 0x80 != 0;
        let short = second & 0x7f;
        if opcode.is_control() && (!is_final || short > 125) {
            return Err(Violation::ControlFrame);
        }
        let (length_end, payload_bytes, least) = match short {
            126 => {
                let Some(&[_, _, a, b]) = bytes.first_chunk() else { return Ok(None) };
                (4, u64::from(u16::from_be_bytes([a, b])), 126)
            }
            127 => {
                let Some(&[_, _, ref length @ ..]) = bytes.first_chunk::<10>() else { return Ok(None) };
                (10, u64::from_be_bytes(*length), 65_536)
            }
            short => (2, u64::from(short), 0),
        };
        // "The most significant bit MUST be 0" (5.2); a length that has it set is no length.
        if payload_bytes < least || payload_bytes >> 63 != 0 {
            return Err(Violation::LengthNotMinimal);
        }
        let (mask, end) = match reader {
            Role::Client => (None, length_end),
            Role::Server => match bytes[length_end..].first_chunk::<4>() {
                Some(&mask) => (Some(Mask(mask)), length_end + 4),
                None => return Ok(None),
            },
        };
        Ok(Some((Self { is_final, opcode, mask, payload_bytes }, end)))
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
