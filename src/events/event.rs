//! An event, as a reader gets it.

use std::net::IpAddr;
use std::sync::Arc;

use super::connection::{ConnectionFacts, ConnectionPhase};
use crate::rooms::{ConnectionName, ObservedEvent, ObservedKind, UserId};

/// What has happened.
#[derive(Debug)]
pub enum Event {
    /// A room has published a message, somebody has joined or left it, or a message was deleted by another user or a backend; also in rooms so large that members are told of
    /// joins in batches.
    Room(ObservedEvent),
    /// An admin or a backend has moderated.
    Moderation(ModerationEvent),
    /// A connection has begun or ended.
    Connection {
        /// When, in Unix seconds.
        at: u64,
        /// Which of both.
        phase: ConnectionPhase,
        /// What is known of it.
        connection: Arc<ConnectionFacts>,
    },
    /// Events are missing here: a queue was full, or the reader has fallen behind.
    Gap {
        /// How many, of all kinds; `None` where that is not known.
        lost: Option<u64>,
    },
}

/// The kind of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// A message in a room.
    Message,
    /// A user has joined a room.
    Join,
    /// A user has left a room.
    Leave,
    /// An order of an admin or a backend was carried out.
    Moderation,
    /// A connection has begun or ended.
    Connection,
    /// Events are missing.
    Gap,
}

impl EventKind {
    /// All kinds.
    pub const ALL: [Self; 6] =
        [Self::Message, Self::Join, Self::Leave, Self::Moderation, Self::Connection, Self::Gap];

    /// Its name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Message => "message",
            Self::Join => "join",
            Self::Leave => "leave",
            Self::Moderation => "moderation",
            Self::Connection => "connection",
            Self::Gap => "gap",
        }
    }
}

impl Event {
    /// Its kind.
    #[must_use]
    pub fn kind(&self) -> EventKind {
        match self {
            Self::Room(ObservedEvent { kind: ObservedKind::Message { .. }, .. }) => EventKind::Message,
            Self::Room(ObservedEvent { kind: ObservedKind::Joined { .. }, .. }) => EventKind::Join,
            Self::Room(ObservedEvent { kind: ObservedKind::Left { .. }, .. }) => EventKind::Leave,
            Self::Room(ObservedEvent { kind: ObservedKind::Deleted { .. }, .. }) | Self::Moderation(_) => {
                EventKind::Moderation
            }
            Self::Connection { .. } => EventKind::Connection,
            Self::Gap { .. } => EventKind::Gap,
        }
    }

    /// The room that it is about, if it is about one.
    #[must_use]
    pub fn room(&self) -> Option<&str> {
        match self {
            Self::Room(ObservedEvent { room, .. }) => Some(room),
            Self::Moderation(ModerationEvent { target, .. }) => target.room.as_deref(),
            Self::Connection { connection, .. } => connection.room.as_deref(),
            Self::Gap { .. } => None,
        }
    }

    /// About how many bytes it takes, with what it points at.
    pub(super) fn bytes(&self) -> usize {
        // The values of the event and of what it points at, and their allocations.
        const FIXED: usize = 512;
        match self {
            Self::Room(ObservedEvent { kind: ObservedKind::Message { message, .. }, .. }) => {
                FIXED + message.content.as_str().len()
            }
            Self::Moderation(event) => FIXED + event.reason.as_ref().map_or(0, String::len),
            Self::Room(_) | Self::Connection { .. } | Self::Gap { .. } => FIXED,
        }
    }
}

/// A moderation order that was carried out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ModerationEvent {
    /// When, in Unix seconds.
    pub at: u64,
    /// What was done, such as `mute`.
    pub action: &'static str,
    /// Who ordered it, as lists of bans name admins: `account:boss`, `user:7` or `key:shop`.
    pub by: Arc<str>,
    /// To whom.
    pub target: ModerationTarget,
    /// For how long; 0 for good.
    pub seconds: Option<u32>,
    /// The reason given.
    pub reason: Option<String>,
}

/// Whom or what an order was about: everything that is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ModerationTarget {
    /// An account.
    pub account: Option<Arc<str>>,
    /// An address, or a network by its first address.
    pub address: Option<IpAddr>,
    /// A user.
    pub user: Option<UserId>,
    /// The user's display name.
    pub name: Option<Arc<str>>,
    /// A connection.
    pub connection: Option<ConnectionName>,
    /// A room.
    pub room: Option<Arc<str>>,
    /// A message of that room.
    pub message: Option<u64>,
}
