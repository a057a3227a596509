//! What members are told, before any dialect has put it into bytes.

use std::sync::Arc;

use bytes::Bytes;
use uproar_protocol::frames::MessageKind;

use super::{ClientRef, Epoch, FanOutTimer, MessageId, RoomIndex, UserId};

/// A message as a room keeps it.
#[derive(Debug, PartialEq, Eq)]
pub struct RoomMessage {
    /// Its place in the room's order.
    pub id: MessageId,
    /// The sender.
    pub from: UserId,
    /// The sender's name at the time.
    pub from_name: Arc<str>,
    /// The content.
    pub content: Content,
    /// When, in Unix seconds.
    pub timestamp: u64,
}

/// What a message of a room holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// Words; never empty.
    Text(String),
    /// The address of an image, http or https, which the server never looks at.
    Image(String),
}

/// A member as others see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberEntry {
    /// The user's id.
    pub id: UserId,
    /// The name at the time.
    pub name: Arc<str>,
    /// Since when connected, in Unix seconds.
    pub connected_at: u64,
}

/// Members of a room, in the order in which they are listed.
#[derive(Clone, Debug)]
pub struct MemberList {
    /// Ordered by id. Shared with other lists while the room's members are the same, so that a dialect that
    /// encodes it may do so once.
    pub listed: Arc<[MemberEntry]>,
    /// The newcomer of a room too large to be listed whole, in the last place.
    pub last: Option<MemberEntry>,
    /// How many members there are, where not all of them are listed or a page was asked for.
    pub total: Option<usize>,
}

/// What a newcomer is told of a room.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The members, the newcomer included.
    pub members: MemberList,
    /// The last messages, oldest first. Shared like [`MemberList::listed`].
    pub history: Arc<[Arc<RoomMessage>]>,
    /// What their ids belong to.
    pub epoch: Epoch,
    /// For a `resume`: true when no message is missing between the client's last one and these.
    pub complete: Option<bool>,
}

/// What happened in a room.
#[expect(missing_docs, reason = "the fields are what their names and types say")]
#[derive(Debug)]
pub enum RoomEvent {
    /// A message was sent.
    Message(Arc<RoomMessage>),
    /// Somebody came.
    Joined { user: UserId, name: Arc<str>, users_online: usize },
    /// Somebody went.
    Left { user: UserId, name: Arc<str>, users_online: usize },
    /// Somebody is called otherwise now.
    Renamed { user: UserId, old_name: Arc<str>, new_name: Arc<str> },
    /// Somebody has begun to write, or has stopped.
    Typing { user: UserId, name: Arc<str>, is_typing: bool },
    /// Joins, leaves and renames together, in a room that is too large for one event each.
    Presence(PresenceReport),
}

/// The changes of one interval; each list is cut at [`PresenceReport::LISTED_MAX`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PresenceReport {
    /// Members now.
    pub users_online: usize,
    /// Users that joined and are still members.
    pub joined: Vec<(UserId, Arc<str>)>,
    /// Users that left and were members before.
    pub left: Vec<UserId>,
    /// Users that were and are members, and have another name.
    pub renamed: Vec<(UserId, Arc<str>)>,
    /// True when a list does not hold everyone.
    pub truncated: bool,
}

impl PresenceReport {
    /// The most entries of a list.
    pub const LISTED_MAX: usize = 50;
}

/// What a shard delivers to its members.
#[expect(missing_docs, reason = "the fields are what their names and types say")]
#[derive(Debug)]
pub enum Event {
    /// Something that happened in a room; `names` has the members whose names are told with it, by id, where
    /// somebody wants them ([`super::Member::wants_names`]).
    Room { room: RoomIndex, event: RoomEvent, names: Option<Arc<[MemberEntry]>>, timestamp: u64 },
    /// A message of a topic, passed on as it came.
    Relay { topic: Arc<str>, kind: MessageKind, payload: Bytes },
}

/// An event on its way to everyone. One allocation, shared by all shards; dropped when the last shard has encoded
/// it, so that what waits for members is held once.
#[derive(Debug)]
pub struct Publication {
    /// What happened.
    pub event: Event,
    /// The client that caused it, which gets no event, or another answer.
    pub origin: Option<ClientRef>,
    /// Measures the fan-out, if it is timed, by being dropped at its end: when the last member has been sent the last
    /// byte.
    pub timer: Option<Arc<FanOutTimer>>,
}
