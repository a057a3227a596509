//! Events of rooms and topics, before a dialect encodes them.

use std::sync::Arc;

use bytes::Bytes;
use uproar_protocol::frames::MessageKind;

use super::{
    ClientRef, EntryNumber, Epoch, FanOutTimer, MemberAccount, MessageId, NamedMember, RoomIndex, UserId,
};

/// A message as a room keeps it.
#[derive(Debug, PartialEq, Eq)]
pub struct RoomMessage {
    /// Its place in the room's order.
    pub id: MessageId,
    /// The sender.
    pub from: UserId,
    /// The sender's name at the time.
    pub from_name: Arc<str>,
    /// The account with which the sender had signed in, if it had.
    pub from_account: Option<Arc<str>>,
    /// The content.
    pub content: Content,
    /// When, in Unix seconds.
    pub timestamp: u64,
}

/// The content of a room's message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// Text; never empty.
    Text(String),
    /// The URL of an image (http or https). The server never fetches it.
    Image(String),
}

impl Content {
    /// The text, or the URL.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Text(text) | Self::Image(text) => text,
        }
    }
}

/// A place in the messages that a room keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeptMessage {
    /// The message.
    Whole(Arc<RoomMessage>),
    /// The message was deleted. Its id keeps the place, so that clients can be told.
    Deleted(MessageId),
}

impl KeptMessage {
    /// The id, which is not given to another message.
    #[must_use]
    pub fn id(&self) -> MessageId {
        match self {
            Self::Whole(message) => message.id,
            Self::Deleted(id) => *id,
        }
    }

    /// The message, unless it was deleted.
    #[must_use]
    pub fn message(&self) -> Option<&Arc<RoomMessage>> {
        match self {
            Self::Whole(message) => Some(message),
            Self::Deleted(_) => None,
        }
    }
}

/// A member as others see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberEntry {
    /// The user's id.
    pub id: UserId,
    /// The name at the time.
    pub name: Arc<str>,
    /// The account, if the user has signed in.
    pub account: Option<MemberAccount>,
    /// The time of connecting, in Unix seconds.
    pub connected_at: u64,
}

/// Members of a room, in the order in which they are listed.
#[derive(Clone, Debug)]
pub struct MemberList {
    /// Ordered by id. Shared with other lists while the room's members are the same, so that a dialect that
    /// encodes it may do so once.
    pub listed: Arc<[MemberEntry]>,
    /// The receiver of the list, if the room is too large to list all members; it is sent as the last entry.
    pub last: Option<MemberEntry>,
    /// The number of members, if the list is not complete or is a page.
    pub total: Option<usize>,
}

/// The state of a room, as sent to a new member.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The members, the newcomer included.
    pub members: MemberList,
    /// The last messages, oldest first. Shared like [`MemberList::listed`].
    pub history: Arc<[Arc<RoomMessage>]>,
    /// The epoch of their ids.
    pub epoch: Epoch,
    /// For a `resume`: what the client is told about the messages before these.
    pub resumed: Option<Resumed>,
}

/// How a history continues what a client has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resumed {
    /// True when no message is missing between the client's last one and the history.
    pub is_complete: bool,
    /// The messages up to the client's last one that were deleted, as far back as the room keeps any.
    pub deleted: Vec<MessageId>,
}

/// Part of a room's history.
#[derive(Clone, Debug)]
pub struct HistoryPage {
    /// The messages, oldest first.
    pub messages: Vec<Arc<RoomMessage>>,
    /// The epoch of their ids.
    pub epoch: Epoch,
    /// True when the room keeps older ones.
    pub has_more: bool,
}

/// An event in a room.
#[expect(missing_docs, reason = "the fields are what their names and types say")]
#[derive(Debug)]
pub enum RoomEvent {
    /// A message was sent.
    Message(Arc<RoomMessage>),
    /// A message was deleted.
    Deleted { message: MessageId, by: UserId, by_name: Arc<str> },
    /// A user joined.
    Joined { user: UserId, name: Arc<str>, account: Option<MemberAccount>, users_online: usize },
    /// A user left.
    Left { user: UserId, name: Arc<str>, users_online: usize },
    /// A user was renamed.
    Renamed { user: UserId, old_name: Arc<str>, new_name: Arc<str> },
    /// A member started or stopped typing.
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
    pub joined: Vec<NamedMember>,
    /// Users that left and were members before.
    pub left: Vec<UserId>,
    /// Users that were and are members, and have another name or role.
    pub renamed: Vec<NamedMember>,
    /// True when a list does not hold everyone.
    pub truncated: bool,
}

impl PresenceReport {
    /// The most entries of a list.
    pub const LISTED_MAX: usize = 50;
}

/// An event that a shard sends to its members.
#[expect(missing_docs, reason = "the fields are what their names and types say")]
#[derive(Debug)]
pub enum Event {
    /// An event in a room; `names` has the members whose names are sent with it, by id, if
    /// a member wants them ([`super::Member::wants_names`]).
    Room {
        room: RoomIndex,
        room_name: Arc<str>,
        event: RoomEvent,
        names: Option<Arc<[MemberEntry]>>,
        timestamp: u64,
    },
    /// A message of a topic, unchanged.
    Relay { topic: Arc<str>, kind: MessageKind, payload: Bytes },
}

/// An event on its way to everyone. One allocation, shared by all shards; dropped when the last shard has encoded
/// it, so that waiting events are held once.
#[derive(Debug)]
pub struct Publication {
    /// The event.
    pub event: Event,
    /// The client that caused it, which gets no event, or another answer.
    pub origin: Option<ClientRef>,
    /// If the client that caused it is answered only when the storage has answered: the entry that this is about.
    pub pending: Option<EntryNumber>,
    /// If the fan-out is timed: records its duration when it is dropped, after the last member has been sent the last
    /// byte.
    pub timer: Option<Arc<FanOutTimer>>,
}
