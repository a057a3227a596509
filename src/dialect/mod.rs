//! Dialects: the languages that connections speak, as codecs at the edge of the hub.
//!
//! `decode` turns a message into a command, `encode` an event into the bytes that every member of the
//! dialect receives. Nothing here knows who a message is for.

pub mod chat;
