//! Rooms, their members and what happens in them: the part of the server that knows what a chat is and
//! nothing of sockets or bytes.
//!
//! Each room has one *home*, the shard that its name hashes to. Everything that changes a room goes to its
//! home as a [`Request`]; the home numbers it, keeps it and answers every shard that has members with a
//! [`Delivery`]. One home means one order, and ids without gaps, without a lock.
//!
//! [`Homes`] holds the rooms whose home is one shard: requests and ticks go in, deliveries come out.

mod directory;
mod epoch;
mod event;
mod fan_out_timer;
mod history;
mod homes;
mod keeping;
mod message;
mod presence;
mod room;
mod roster;
mod topic;
mod users;

use std::fmt;

use serde::Serialize;

pub use directory::{Directory, RoomIndex};
pub use epoch::Epoch;
pub use event::{
    Content, Event, MemberEntry, MemberList, Origin, PresenceReport, Publication, RoomEvent, RoomMessage,
    Snapshot,
};
pub use fan_out_timer::FanOutTimer;
pub use homes::{Homes, Settings};
pub use keeping::{Receipt, Restored, RestoredRoom, WRITES_UNANSWERED_MAX, Write};
pub use message::{Audience, Delivery, Measure, Member, Order, Page, Place, Private, Request, ResumePoint};
pub use presence::PresencePolicy;
pub use users::Users;

/// A user, for as long as the server runs: 1, 2, 3 … in the order in which users are greeted. Never 0, which stands for
/// the system itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct UserId(u64);

/// A message of a room: 1, 2, 3 …, without gaps while the server runs and its storage works.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct MessageId(pub u64);

/// One shard of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardIndex(pub u16);

impl MessageId {
    /// The highest id: beyond it, a client's numbers would no longer be exact.
    pub const MAX: Self = Self((1 << 53) - 1);
}

impl UserId {
    /// The user that a client names, if such a number can name one.
    #[must_use]
    pub fn from_wire(number: u64) -> Option<Self> {
        (number > 0).then_some(Self(number))
    }

    /// The number that clients see.
    #[must_use]
    pub fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
