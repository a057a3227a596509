//! What homes and the storage tell each other about messages that are to outlive the process.
//!
//! Invariant *durable before acknowledged*: the home publishes a message at once, but its sender is told
//! that it was sent only after [`RoomReceipt::Kept`]. Invariant *no id twice*: a home gives out only ids that the
//! storage has reserved, durably, so what somebody has seen under an id stays the only thing under it, even
//! after a crash.

use std::sync::Arc;

use super::{Epoch, MessageId, RoomIndex, RoomMessage, UserId};

/// Writes of one shard that may be without a receipt. While there are so many, the shard takes no requests,
/// and with that its clients' input waits. A disk that takes a tenth of a second to commit still does 40,000
/// messages a second for each shard.
pub const WRITES_UNANSWERED_MAX: usize = 4_096;

/// A message on its way to the disk.
#[derive(Clone, Debug)]
pub struct Write {
    /// The message's room.
    pub room: RoomIndex,
    /// What is to be kept. Shared with the room's own memory.
    pub message: Arc<RoomMessage>,
}

/// What the storage tells a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Receipt {
    /// About one of its rooms. Those for a room come in the order of its messages.
    Room(RoomIndex, RoomReceipt),
    /// No id may be given out until there is a new reservation: nothing can be written.
    Withdrawn,
}

/// What the storage tells the home of a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RoomReceipt {
    /// Messages up to this one, and behind those of earlier receipts, are on the disk.
    Kept(MessageId),
    /// They are not, and never will be. Members have seen them, so the history has another epoch from now on.
    Lost(MessageId, Epoch),
    /// Ids up to this one may be given out.
    Reserved(MessageId),
}

/// A room as the storage has it at the start.
#[derive(Clone, Debug)]
pub struct RestoredRoom {
    /// What its history is called.
    pub epoch: Epoch,
    /// The last messages, oldest first.
    pub kept: Vec<Arc<RoomMessage>>,
    /// The last id that may have been given to anything.
    pub last_id: MessageId,
    /// The message from which on none is missing among those kept; it may be still to come.
    pub kept_from: MessageId,
    /// The last id that may be given out before the storage reserves more.
    pub reserved: MessageId,
}

/// Everything that the storage has at the start.
#[derive(Clone, Debug)]
pub struct Restored {
    /// By room.
    pub rooms: Vec<RestoredRoom>,
    /// The highest user id among the senders of messages. New users get higher ids, so no user
    /// is taken for the sender of a message from before a restart.
    pub last_author: Option<UserId>,
}
