//! Members of a room as their shards name them, and positions in a room.

use std::sync::Arc;

use super::{ClientRef, EntryNumber, Epoch, MessageId, RoomIndex, UserId, Visit};

/// A user that joins a room, and where to answer.
#[derive(Clone, Debug)]
pub struct Member {
    /// Its id.
    pub user: UserId,
    /// Which of the user's connections this is.
    pub visit: Visit,
    /// Its display name.
    pub name: Arc<str>,
    /// Its account, if it has signed in.
    pub account: Option<MemberAccount>,
    /// The account that its session belongs to, where it has not signed in.
    pub owner: Option<Arc<str>>,
    /// The time at which it connected, in Unix seconds.
    pub connected_at: u64,
    /// Its connection.
    pub origin: ClientRef,
    /// True for a user that gets all names with each event, in [`super::Event::Room`].
    pub wants_names: bool,
}

/// The account of a member, as others see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberAccount {
    /// Its name.
    pub account: Arc<str>,
    /// True when it may moderate.
    pub is_admin: bool,
}

/// A member as reports of presence have it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedMember {
    /// Its id.
    pub id: UserId,
    /// Its display name.
    pub name: Arc<str>,
    /// Its account, if it has signed in.
    pub account: Option<MemberAccount>,
}

/// Part of a member list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    /// The number of members to skip.
    pub offset: usize,
    /// How many to list at most.
    pub limit: usize,
}

/// The position of a change that an answer waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RoomCursor {
    /// The room.
    pub room: RoomIndex,
    /// The change's entry in the log of that room.
    pub entry: EntryNumber,
}

/// The position from which a client resumes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResumePoint {
    /// The last message that it received; 0 for none.
    pub after: MessageId,
    /// The epoch of that id, if the client has sent it.
    pub epoch: Option<Epoch>,
}
