//! The ids of users, messages, rooms, shards and connections.

use std::fmt;

use serde::Serialize;
use uproar_ring::ConnectionId;

/// A user: 1, 2, 3 … in the order in which users are greeted. No id is given twice while the server runs, and with
/// `--data` none after a restart either. 0 stands for the system itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct UserId(pub(super) u64);

/// A message of a room: 1, 2, 3 …, without gaps while the server runs and its storage works.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct MessageId(pub u64);

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// An entry of a room's log: 1, 2, 3 …, without gaps while the server runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryNumber(pub u64);

/// One shard of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardIndex(pub u16);

impl ShardIndex {
    /// The HTTP API, which takes part like a shard without rooms and clients of its own.
    pub const API: Self = Self(u16::MAX);

    /// The first of those that stand for other servers of a cluster.
    const ELSEWHERE: u16 = 1 << 15;

    /// The number of the server that this stands for, if it is another one: what is sent there is dropped, since each server
    /// tells its own clients.
    #[must_use]
    pub fn elsewhere(self) -> Option<usize> {
        (self != Self::API).then(|| self.0.checked_sub(Self::ELSEWHERE).map(usize::from)).flatten()
    }
}

impl MessageId {
    /// The highest id: beyond it, a client's numbers would no longer be exact.
    pub const MAX: Self = Self((1 << 53) - 1);
}

impl UserId {
    /// The system itself, which also speaks for backends.
    pub const SYSTEM: Self = Self(0);

    /// The user id in a client's message; `None` for a number that no user can have.
    #[must_use]
    pub fn from_wire(number: u64) -> Option<Self> {
        (number > 0).then_some(Self(number))
    }

    /// The author of a stored message; 0 for the system.
    #[must_use]
    pub fn from_stored(number: u64) -> Self {
        Self(number)
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

/// A chat room: its slot at its home. Once a room is forgotten, its slot is given to another one, with the next generation,
/// and mail for the earlier one is dropped. It never leaves the process: clients name rooms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RoomIndex {
    pub(super) home: ShardIndex,
    /// Configured rooms have, at every home, their place in the configured list.
    pub(super) slot: u32,
    pub(super) generation: u32,
}

impl RoomIndex {
    /// No room, at this home.
    pub(super) fn none_at(home: ShardIndex) -> Self {
        Self { home, slot: u32::MAX, generation: 0 }
    }

    /// The room `general` of a server with one shard.
    #[cfg(test)]
    pub(crate) const GENERAL: Self = Self { home: ShardIndex(0), slot: 0, generation: 0 };

    /// A room that clients create, of a server with one shard.
    #[cfg(test)]
    pub(crate) fn example(slot: u32) -> Self {
        Self { slot, ..Self::GENERAL }
    }

    /// The shard that orders its messages.
    #[must_use]
    pub fn home(self) -> ShardIndex {
        self.home
    }

    /// Its slot at its home; for a configured room, its place in the list.
    #[must_use]
    pub fn slot(self) -> usize {
        self.slot as usize
    }
}

/// A connection and its shard: the address of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ClientRef {
    /// Its shard.
    pub shard: ShardIndex,
    /// Its id on that shard.
    pub connection: ConnectionId,
}

impl ClientRef {
    /// A client of another server of a cluster, where it does not matter which.
    pub const ELSEWHERE: Self = Self {
        shard: ShardIndex(ShardIndex::ELSEWHERE),
        connection: ConnectionId { index: 0, generation: 0 },
    };

    /// Stands for the clients of another server of a cluster, which has this number.
    pub(super) fn elsewhere(number: usize) -> Self {
        let number = u16::try_from(number).ok().filter(|number| *number < ShardIndex::ELSEWHERE - 1);
        let shard = ShardIndex(ShardIndex::ELSEWHERE + number.expect("Bug: too many servers"));
        Self { shard, connection: ConnectionId { index: 0, generation: 0 } }
    }
}
