//! WebSocket frames of both sides (RFC 6455, section 5): reads messages from received bytes, and encodes
//! messages to send.
//!
//! [`Reader`] takes bytes as they arrive and yields whole messages and control frames; it rejects what the
//! standard forbids, by name ([`Violation`]). The functions of this module encode. A server and a client
//! differ in one thing, the mask: see [`Role`].

mod assembly;
mod close;
mod encode;
mod header;
mod reader;
mod violation;

pub use close::{Close, is_close_code};
pub(crate) use encode::frame_bytes;
pub use encode::{
    CLOSE_REASON_BYTES_MAX, FRAGMENT_BYTES, append_close, append_control, append_frame, append_message,
    close, fragments, frame, message, ping, written_text,
};
pub(crate) use header::HEADER_BYTES_MAX;
pub use header::{CONTROL_BYTES_MAX, Opcode};
pub use reader::{Event, Reader, Unfinished};
pub use violation::Violation;

/// On which side of a connection we are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Reads masked frames, and sends none (RFC 6455, section 5.1).
    Server,
    /// Sends masked frames, and reads none.
    Client,
}

/// What kind of message a frame carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageKind {
    /// UTF-8.
    Text,
    /// Any bytes.
    Binary,
}

impl MessageKind {
    fn opcode(self) -> Opcode {
        match self {
            Self::Text => Opcode::Text,
            Self::Binary => Opcode::Binary,
        }
    }
}
