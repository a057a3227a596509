//! Violations of the protocol.

/// A violation of RFC 6455, or of our limits, by the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// 5.2: reserved bits must be 0 unless an extension defines them.
    #[error("reserved bits are set")]
    ReservedBits,
    /// 5.2: opcodes 3 to 7 and 11 to 15 are reserved.
    #[error("unknown opcode {0}")]
    UnknownOpcode(u8),
    /// 5.1: a server must not mask.
    #[error("a masked frame from a server")]
    Masked,
    /// 5.1: a client must mask.
    #[error("an unmasked frame from a client")]
    Unmasked,
    /// 5.2: the minimal number of bytes must be used for the length, and its first bit be 0.
    #[error("a length that is not written in the fewest bytes")]
    LengthNotMinimal,
    /// 5.5: control frames have at most 125 bytes and are not fragmented.
    #[error("a control frame that is long or fragmented")]
    ControlFrame,
    /// 5.4: a continuation needs a beginning.
    #[error("a continuation of nothing")]
    UnexpectedContinuation,
    /// 5.4: fragments of one message are not interleaved with those of another.
    #[error("a new message amid a fragmented one")]
    InterleavedMessage,
    /// 5.6, 8.1: text is UTF-8, and so is the reason of a close.
    #[error("text that is not UTF-8")]
    InvalidUtf8,
    /// 5.5.1, 7.4.1: a close has no body, or a code that may be sent.
    #[error("an invalid close frame")]
    InvalidClose,
    /// A message is longer than we take.
    #[error("a message over {0} bytes")]
    TooLong(usize),
}

impl Violation {
    /// The code of a close frame that tells the peer (RFC 6455, section 7.4.1).
    #[must_use]
    pub fn close_code(self) -> u16 {
        match self {
            Self::InvalidUtf8 => 1007,
            Self::TooLong(_) => 1009,
            _ => 1002,
        }
    }

    /// The reason that goes with [`Violation::close_code`].
    #[must_use]
    pub fn close_reason(self) -> &'static str {
        match self {
            Self::InvalidUtf8 => "invalid UTF-8",
            Self::TooLong(_) => "message too big",
            _ => "protocol error",
        }
    }
}
