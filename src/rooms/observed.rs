//! What homes tell of their rooms to those who watch the server.

use std::sync::Arc;

use super::{Epoch, RoomMessage, UserId};

/// An event of a room, as it was published; joins and leaves singly, also where members are told of them in batches.
#[derive(Debug)]
pub struct ObservedEvent {
    /// When, in Unix seconds.
    pub at: u64,
    /// The room's name.
    pub room: Arc<str>,
    /// What has happened.
    pub kind: ObservedKind,
}

/// What has happened in a room.
#[expect(missing_docs, reason = "the fields are what their names and types say")]
#[derive(Debug)]
pub enum ObservedKind {
    /// A message was published.
    Message { message: Arc<RoomMessage>, epoch: Epoch },
    /// A user has joined.
    Joined { user: UserId, name: Arc<str>, account: Option<Arc<str>> },
    /// A message was deleted by another user than its author, or by a backend.
    Deleted { message: Arc<RoomMessage>, by: Arc<str> },
    /// A user has left.
    Left { user: UserId, name: Arc<str>, account: Option<Arc<str>> },
}
