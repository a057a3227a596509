//! Dialects: the languages that connections speak, as codecs between connections and rooms.
//!
//! `decode` turns a message into a command, `encode` an event into the bytes that every member of the
//! dialect receives. Nothing here knows the receivers of a message.

pub mod chat;
mod encoded;
mod error;
pub mod hub;
mod message;

pub use error::ChatError;
pub use message::Message;

/// A dialect whose connections are users: they have names, and are members of rooms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UserDialect {
    /// See [`chat`].
    Chat,
    /// See [`hub`].
    Hub,
}
