//! Dialects: the languages that connections speak, as codecs at the edge of the hub.
//!
//! `decode` turns a message into a command, `encode` an event into the bytes that every member of the
//! dialect receives. Nothing here knows who a message is for.

pub mod chat;
mod encoded;
pub mod hub;
pub mod name;
mod refusal;

pub use refusal::Refusal;

/// A dialect whose connections are users: they have names, and are members of rooms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UserDialect {
    /// See [`chat`].
    Chat,
    /// See [`hub`].
    Hub,
}
