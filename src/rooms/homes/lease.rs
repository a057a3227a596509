//! Why a room that clients have created is kept, and until when.

use crate::rooms::ClientRef;

/// What keeps a room that clients have created.
#[derive(Debug, Default)]
pub(super) struct Lease {
    /// Clients that were told that the room is open, and have neither joined nor given up.
    pub(super) held: usize,
    /// How many members the list of rooms was told.
    pub(super) members: usize,
    /// Whether the list of rooms was told that the room may be claimed.
    pub(super) is_empty: bool,
    /// True when somebody has joined, or a backend has sent a message, and `left_ms` does not know of it yet.
    pub(super) was_used: bool,
    /// When the last member left, or the last message of a backend came to the empty room; `None` before both.
    pub(super) left_ms: Option<u64>,
    /// Its entry in `Homes::expiries`.
    pub(super) expiry_ms: Option<u64>,
    /// True while the shared log is asked to forget it.
    pub(super) is_forgetting: bool,
    /// True once it is closed: it is off the list of rooms, and forgotten as soon as it is empty.
    pub(super) is_closed: bool,
    /// The request that has closed it and how many members it had, until the storage has answered.
    pub(super) closed_by: Option<(ClientRef, usize)>,
}

impl Lease {
    /// A client that has held the room joins.
    pub(super) fn join(&mut self) {
        self.release();
        self.was_used = true;
    }

    /// A client that has held the room joins, or gives up.
    pub(super) fn release(&mut self) {
        self.held = self.held.checked_sub(1).expect("Bug: a client has joined a room that it did not hold");
    }
}
