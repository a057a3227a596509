//! The interface between homes and the storage, for messages that must survive a restart.
//!
//! Invariant *durable before acknowledged*: the home publishes a message or a deletion at once, but acknowledges it
//! to its sender only after [`RoomReceipt::Kept`]. Invariant *no id twice*: a home gives out only ids that the
//! storage has reserved on the disk, so an id that a client has seen is never given to another message of the same
//! epoch, even after a crash. A room of which nothing is on the disk needs no reservation: after a crash it has another
//! epoch.

use std::sync::Arc;

use super::{EntryNumber, Epoch, KeptMessage, MessageId, RoomIndex, RoomMessage, SharedReceipt, UserId};

/// The most writes of one shard without a receipt. At this limit the shard takes no requests,
/// and its clients' input waits. A disk that takes a tenth of a second to commit still does 40,000
/// messages a second for each shard.
pub const WRITES_UNANSWERED_MAX: usize = 4_096;

/// An order to the storage. Each gets a receipt.
#[derive(Clone, Debug)]
pub struct Write {
    /// The room.
    pub room: RoomIndex,
    /// What to do.
    pub action: WriteAction,
}

/// What the storage is to do.
#[derive(Clone, Debug)]
pub enum WriteAction {
    /// Write a change of the history, by the entry of the room's log that it comes from. Answered with
    /// [`RoomReceipt::Kept`] or [`RoomReceipt::Lost`].
    Change(EntryNumber, HistoryChange),
    /// Read the history of the room of this name. Answered with [`RoomReceipt::Opened`] or [`RoomReceipt::NotOpened`].
    Open(Arc<str>),
    /// The room is being closed: nobody is to find it by its name any more, and its history is deleted once it is forgotten.
    /// Answered with [`RoomReceipt::Closed`] or [`RoomReceipt::NotClosed`].
    Close,
    /// Forget the room, not its history. Answered with [`RoomReceipt::Forgotten`]; nothing follows about this room.
    Forget,
}

/// A change of a room's history.
#[derive(Clone, Debug)]
pub enum HistoryChange {
    /// A new message. Shared with the room's history in memory.
    Append(Arc<RoomMessage>),
    /// The deletion of this message, which was kept until then.
    Delete(Arc<RoomMessage>),
}

/// A report of the storage, or of the log that several servers share, to a shard.
#[derive(Clone, Debug)]
pub enum Receipt {
    /// Of the shared log.
    Shared(SharedReceipt),
    /// About one room of the shard. The receipts of a room come in the order of its entries.
    Room(RoomIndex, RoomReceipt),
    /// A write has failed: no id may be given out until [`Receipt::Recovered`].
    Withdrawn,
    /// Writing succeeds again, and ids may be given out as far as they are reserved.
    Recovered,
}

/// A report of the storage about one room.
#[derive(Clone, Debug)]
pub enum RoomReceipt {
    /// The writes after the last receipt, up to the one of this entry, are on the disk.
    Kept(EntryNumber),
    /// The writes after the last receipt, up to the one of this entry, are lost, and the history gets this new epoch.
    Lost(EntryNumber, Epoch),
    /// Ids up to this one may be given out.
    Reserved(MessageId),
    /// The room's history.
    Opened(Box<RestoredRoom>),
    /// The room's history cannot be read, or could not be written.
    NotOpened,
    /// That the room is being closed is on the disk.
    Closed,
    /// It could not be written. It is written when writing succeeds again, unless the room is forgotten before.
    NotClosed,
    /// The room is forgotten.
    Forgotten,
}

/// The stored state of a room, as read when it is opened.
#[derive(Clone, Debug)]
pub struct RestoredRoom {
    /// The epoch of its history.
    pub epoch: Epoch,
    /// The last messages, oldest first.
    pub kept: Vec<KeptMessage>,
    /// The highest id that may have been given to a message.
    pub last_id: MessageId,
    /// The id from which on no kept message is missing. It may be the id of the next message.
    pub kept_from: MessageId,
    /// The last id that may be given out before the storage reserves more.
    pub reserved: MessageId,
}

/// The stored state of the configured rooms, as read at the start.
#[derive(Clone, Debug)]
pub struct Restored {
    /// By configured room.
    pub rooms: Vec<RestoredRoom>,
    /// The highest user id among the senders of messages. New users get higher ids, so no user
    /// is taken for the sender of a message from before a restart.
    pub last_author: Option<UserId>,
}
