//! The settings of a shard.

use uproar_protocol::connection::KeepAlive;

use super::rate::Rate;
use crate::moderation::Moderation;
use crate::rooms::{RoomSettings, ShardIndex};
use crate::sessions::SessionSigner;
use crate::tokens::TokenChecker;

/// The limits of one connection.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The longest message of the chat dialect, in bytes.
    pub message_bytes_max: usize,
    /// The longest message of any dialect, in bytes.
    pub frame_bytes_max: usize,
    /// Bytes that may wait for a connection before it is evicted.
    pub queue_bytes_max: usize,
    /// Messages of the chat and hub dialects.
    pub rate: Rate,
    /// Messages of the raw dialect.
    pub topic_rate: Rate,
}

/// The times of connections.
#[derive(Clone, Copy, Debug)]
pub struct Deadlines {
    /// How long a connection may be silent.
    pub keep_alive: KeepAlive,
    /// The time in which a shutdown must have closed everyone.
    pub drain_timeout_ms: u64,
}

/// How users come back as the same ones.
#[derive(Clone, Debug)]
pub struct SessionSettings {
    /// Signs and checks their tokens.
    pub signer: SessionSigner,
    /// For how long after the end of a connection; not 0.
    pub timeout_ms: u64,
    /// The most sessions that are kept, on all shards together.
    pub kept_max: usize,
}

/// The settings of a shard.
#[derive(Clone, Debug)]
pub struct ShardSettings {
    /// The shard's own index.
    pub index: ShardIndex,
    /// The limits of one connection.
    pub limits: Limits,
    /// The times of connections.
    pub deadlines: Deadlines,
    /// Checks the tokens that chat clients sign in with.
    pub tokens: TokenChecker,
    /// The time in which a chat client must sign in; `None` where sign-in is optional.
    pub sign_in_timeout_ms: Option<u64>,
    /// True where clients that have not signed in may only listen.
    pub anonymous_listen: bool,
    /// The bans and mutes in force, which all shards share.
    pub moderation: Moderation,
    /// How users come back; `None` where they cannot.
    pub sessions: Option<SessionSettings>,
    /// The settings of rooms.
    pub rooms: RoomSettings,
}
