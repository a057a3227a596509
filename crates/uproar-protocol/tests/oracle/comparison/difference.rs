//! The list of differences between our reader and tungstenite's, and what in a stream proves each of them.

use tungstenite::Error;
use tungstenite::error::ProtocolError;
use uproar_protocol::frames::Violation;

use super::stream::{Rule, Rules};

/// A case in which our reader and tungstenite's differ, with its clause of RFC 6455.
///
/// In those named `Early…` both refuse the same frame for the same reason: ours with its header or with the byte that is
/// wrong, tungstenite when the frame is complete. No clause asks tungstenite for more; 10.4 lets an endpoint bound what
/// it takes, 7.1.7 lets it fail the connection as soon as it knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Difference {
    /// 5.2: "the minimal number of bytes MUST be used to encode the length". tungstenite takes any.
    LengthNotMinimal,
    /// 7.4.1, 7.4.2: a close with a code that must not be sent. tungstenite answers it with 1002, as we do, and reports a
    /// close with this code instead of an error.
    CloseCode,
    /// 5.2: "MUST be 0 unless an extension is negotiated".
    EarlyReservedBits,
    /// 5.1: "a client MUST mask all frames", "a server MUST NOT mask any frames".
    EarlyMask,
    /// 5.5: control frames "MUST NOT be fragmented".
    EarlyControlFragmented,
    /// 5.5: "All control frames MUST have a payload length of 125 bytes or less".
    EarlyControlTooLong,
    /// 5.4: a continuation without a message that it could continue.
    EarlyContinuation,
    /// 5.4: "The fragments of one message MUST NOT be interleaved between the fragments of another message".
    EarlyNewMessage,
    /// 10.4: a fragment with which its message is over the limit. (One that is over the limit by itself is refused at its
    /// header by both.)
    EarlyMessageTooLong,
    /// 8.1: "When an endpoint is to interpret a byte stream as UTF-8 but finds that the byte stream is not, in fact, a valid
    /// UTF-8 stream, that endpoint MUST _Fail the WebSocket Connection_".
    EarlyUtf8,
    /// 7.4.2, 11.7: the only case in which ours accepts more. 1014 (bad gateway) was registered with IANA later. We take
    /// it; tungstenite reports and answers 1002.
    BadGateway,
}

impl Difference {
    pub(crate) const ALL: [Self; 11] = [
        Self::LengthNotMinimal,
        Self::CloseCode,
        Self::EarlyReservedBits,
        Self::EarlyMask,
        Self::EarlyControlFragmented,
        Self::EarlyControlTooLong,
        Self::EarlyContinuation,
        Self::EarlyNewMessage,
        Self::EarlyMessageTooLong,
        Self::EarlyUtf8,
        Self::BadGateway,
    ];

    /// The difference that it is to refuse a frame by this rule before the frame is complete. None where both have to wait
    /// for the same byte.
    pub(crate) fn early(rule: Rule) -> Option<Self> {
        match rule {
            Rule::ReservedBits => Some(Self::EarlyReservedBits),
            Rule::Mask => Some(Self::EarlyMask),
            Rule::ControlFragmented => Some(Self::EarlyControlFragmented),
            Rule::ControlTooLong => Some(Self::EarlyControlTooLong),
            Rule::Continuation => Some(Self::EarlyContinuation),
            Rule::NewMessage => Some(Self::EarlyNewMessage),
            Rule::MessageTooLong => Some(Self::EarlyMessageTooLong),
            Rule::Utf8 => Some(Self::EarlyUtf8),
            Rule::LengthNotMinimal => Some(Self::LengthNotMinimal),
            Rule::Opcode | Rule::CloseCode | Rule::CloseBody => None,
        }
    }
}

/// The rule that we say a frame breaks; where one violation stands for two, the one that is among `broken`.
pub(crate) fn rule_of_violation(violation: Violation, broken: Rules) -> Rule {
    let either = |first, second| if broken.has(first) { first } else { second };
    match violation {
        Violation::ReservedBits => Rule::ReservedBits,
        Violation::UnknownOpcode(_) => Rule::Opcode,
        Violation::Masked | Violation::Unmasked => Rule::Mask,
        Violation::LengthNotMinimal => Rule::LengthNotMinimal,
        Violation::ControlFrame => either(Rule::ControlFragmented, Rule::ControlTooLong),
        Violation::UnexpectedContinuation => Rule::Continuation,
        Violation::InterleavedMessage => Rule::NewMessage,
        Violation::InvalidUtf8 => Rule::Utf8,
        Violation::InvalidClose => either(Rule::CloseBody, Rule::CloseCode),
        Violation::TooLong(_) => Rule::MessageTooLong,
    }
}

/// The rule that tungstenite says a frame breaks. It has one limit for messages and control frames.
pub(crate) fn rule_of_error(error: &Error, broken: Rules) -> Option<Rule> {
    Some(match error {
        Error::Capacity(_) if broken.has(Rule::ControlTooLong) => Rule::ControlTooLong,
        Error::Capacity(_) => Rule::MessageTooLong,
        Error::Utf8(_) => Rule::Utf8,
        Error::Protocol(error) => match error {
            ProtocolError::NonZeroReservedBits => Rule::ReservedBits,
            ProtocolError::InvalidOpcode(_) => Rule::Opcode,
            ProtocolError::MaskedFrameFromServer | ProtocolError::UnmaskedFrameFromClient => Rule::Mask,
            ProtocolError::FragmentedControlFrame => Rule::ControlFragmented,
            ProtocolError::ControlFrameTooBig => Rule::ControlTooLong,
            ProtocolError::UnexpectedContinueFrame => Rule::Continuation,
            ProtocolError::ExpectedFragment(_) => Rule::NewMessage,
            ProtocolError::InvalidCloseSequence => Rule::CloseBody,
            _ => return None,
        },
        _ => return None,
    })
}
