//! What a shard is told at its start.

use uproar_protocol::connection::KeepAlive;

use super::rate::Rate;
use crate::rooms::{RoomSettings, ShardIndex};

/// What one connection may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The longest message of the chat dialect, in bytes.
    pub message_bytes_max: usize,
    /// The longest message of any dialect, in bytes.
    pub frame_bytes_max: usize,
    /// Bytes that may wait for a connection before it is evicted.
    pub queue_bytes_max: usize,
    /// Messages of the chat dialect.
    pub rate: Rate,
}

/// How long connections may take.
#[derive(Clone, Copy, Debug)]
pub struct Deadlines {
    /// How long one may be silent.
    pub keep_alive: KeepAlive,
    /// The time in which a shutdown must have closed everyone.
    pub drain_timeout_ms: u64,
}

/// Everything that a shard is told at its start.
#[derive(Clone, Debug)]
pub struct ShardSettings {
    /// Which shard this is.
    pub index: ShardIndex,
    /// What a connection may take.
    pub limits: Limits,
    /// How long it may be silent.
    pub deadlines: Deadlines,
    /// The time in which a chat client must have signed in; `None` where it need not.
    pub sign_in_timeout_ms: Option<u64>,
    /// What rooms are like.
    pub rooms: RoomSettings,
}
