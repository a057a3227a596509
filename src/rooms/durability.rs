//! The interface between homes and the storage, for messages that must survive a restart.
//!
//! Invariant *durable before acknowledged*: the home publishes a message at once, but acknowledges it
//! to its sender only after [`RoomReceipt::Kept`]. Invariant *no id twice*: a home gives out only ids that the
//! storage has reserved on the disk, so an id that a client has seen is never given to another message, even
//! after a crash.

use std::sync::Arc;

use super::{Epoch, MessageId, RoomIndex, RoomMessage, UserId};

/// The most writes of one shard without a receipt. At this limit the shard takes no requests,
/// and its clients' input waits. A disk that takes a tenth of a second to commit still does 40,000
/// messages a second for each shard.
pub const WRITES_UNANSWERED_MAX: usize = 4_096;

/// A message on its way to the disk.
#[derive(Clone, Debug)]
pub struct Write {
    /// The message's room.
    pub room: RoomIndex,
    /// The message to write. Shared with the room's history in memory.
    pub message: Arc<RoomMessage>,
}

/// A report of the storage to a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Receipt {
    /// About one room of the shard. The receipts of a room come in the order of its messages.
    Room(RoomIndex, RoomReceipt),
    /// A write has failed: no id may be given out until the next [`RoomReceipt::Reserved`].
    Withdrawn,
}

/// A report of the storage about one room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RoomReceipt {
    /// The messages after the last receipt, up to this one, are on the disk.
    Kept(MessageId),
    /// The messages after the last receipt, up to this one, are lost, and the history gets this new epoch.
    Lost(MessageId, Epoch),
    /// Ids up to this one may be given out.
    Reserved(MessageId),
}

/// The stored state of a room, as read at the start.
#[derive(Clone, Debug)]
pub struct RestoredRoom {
    /// The epoch of its history.
    pub epoch: Epoch,
    /// The last messages, oldest first.
    pub kept: Vec<Arc<RoomMessage>>,
    /// The highest id that may have been given to a message.
    pub last_id: MessageId,
    /// The id from which on no kept message is missing. It may be the id of the next message.
    pub kept_from: MessageId,
    /// The last id that may be given out before the storage reserves more.
    pub reserved: MessageId,
}

/// The stored state of all rooms, as read at the start.
#[derive(Clone, Debug)]
pub struct Restored {
    /// By room.
    pub rooms: Vec<RestoredRoom>,
    /// The highest user id among the senders of messages. New users get higher ids, so no user
    /// is taken for the sender of a message from before a restart.
    pub last_author: Option<UserId>,
}
