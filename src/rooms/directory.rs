//! State that every shard may read: the rooms, each with its home, number of members and last message, and the
//! users.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{AccountsOnline, Epoch, KeptMessage, MessageId, RestoredRoom, RoomIndex, ShardIndex, Users};
use crate::config::FIRST_ROOM;
use crate::return_slots::ReturnSlots;

/// The rooms of a server and its users. The list of rooms is fixed while it runs; only numbers and epochs change, each
/// written by the room's home alone.
#[derive(Clone, Debug)]
pub struct Directory {
    rooms: Arc<[Entry]>,
    shards: u16,
    users: Users,
    accounts: AccountsOnline,
    return_slots: ReturnSlots,
}

#[derive(Debug)]
struct Entry {
    name: Arc<str>,
    home: ShardIndex,
    online: AtomicUsize,
    last_message: AtomicU64,
    /// Locked only to copy it (for a list of rooms) or to replace it (after messages were lost).
    epoch: Mutex<Epoch>,
}

impl Entry {
    fn epoch(&self) -> MutexGuard<'_, Epoch> {
        // A poisoned lock is harmless: the value is only copied or replaced as a whole.
        self.epoch.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Directory {
    /// A directory of these rooms for so many shards. `general` is moved to the front.
    ///
    /// # Panics
    ///
    /// Without a room `general`, or with more than 65,535 rooms; the configuration refuses both.
    #[must_use]
    pub fn new(names: &[String], shards: u16) -> Self {
        let general = names.iter().position(|name| name == FIRST_ROOM).expect("Bug: no room `general`");
        let mut names: Vec<&String> = names.iter().collect();
        let first = names.remove(general);
        names.insert(0, first);
        assert!(names.len() <= usize::from(u16::MAX));
        let rooms = names.into_iter().map(|name| Entry {
            name: name.as_str().into(),
            home: home_of(name, shards),
            online: AtomicUsize::new(0),
            last_message: AtomicU64::new(0),
            epoch: Mutex::new(Epoch::random()),
        });
        Self {
            rooms: rooms.collect(),
            shards,
            users: Users::default(),
            accounts: AccountsOnline::default(),
            return_slots: ReturnSlots::default(),
        }
    }

    /// How many shards there are.
    #[must_use]
    pub fn shards(&self) -> u16 {
        self.shards
    }

    /// How many rooms there are.
    #[must_use]
    pub fn room_count(&self) -> usize {
        self.rooms.len()
    }

    /// Every room, in the configured order.
    pub fn rooms(&self) -> impl Iterator<Item = RoomIndex> {
        (0..self.rooms.len() as u16).map(RoomIndex)
    }

    /// The room of this name.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<RoomIndex> {
        self.rooms().find(|&room| &**self.name(room) == name)
    }

    /// The room where a user starts who may join these: `general`, or else the first configured one.
    #[must_use]
    pub fn first_room(&self, may_join: impl Fn(&str) -> bool) -> Option<RoomIndex> {
        self.rooms().find(|&room| may_join(self.name(room)))
    }

    /// A room's name.
    #[must_use]
    pub fn name(&self, room: RoomIndex) -> &Arc<str> {
        &self.rooms[room.get()].name
    }

    /// The shard that orders a room's messages.
    #[must_use]
    pub fn home(&self, room: RoomIndex) -> ShardIndex {
        self.rooms[room.get()].home
    }

    /// The shard that orders a topic's messages.
    #[must_use]
    pub fn topic_home(&self, topic: &str) -> ShardIndex {
        home_of(topic, self.shards)
    }

    /// The users of all shards.
    #[must_use]
    pub fn users(&self) -> &Users {
        &self.users
    }

    /// The accounts that are signed in.
    #[must_use]
    pub fn accounts(&self) -> &AccountsOnline {
        &self.accounts
    }

    /// When clients return that the server closes.
    #[must_use]
    pub fn return_slots(&self) -> &ReturnSlots {
        &self.return_slots
    }

    /// How many members a room has.
    #[must_use]
    pub fn online(&self, room: RoomIndex) -> usize {
        self.rooms[room.get()].online.load(Ordering::Acquire)
    }

    /// How many members all rooms have.
    #[must_use]
    pub fn users_online(&self) -> usize {
        self.rooms().map(|room| self.online(room)).sum()
    }

    /// The id of a room's last message; 0 when there is none.
    #[must_use]
    pub fn last_message(&self, room: RoomIndex) -> MessageId {
        MessageId(self.rooms[room.get()].last_message.load(Ordering::Acquire))
    }

    /// The epoch of a room's history.
    #[must_use]
    pub fn epoch(&self, room: RoomIndex) -> Epoch {
        *self.rooms[room.get()].epoch()
    }

    /// Restores the rooms from the storage. Called before the first client is admitted.
    pub fn restore(&self, rooms: &[RestoredRoom]) {
        for (room, restored) in self.rooms().zip(rooms) {
            // Ids behind the last message were reserved, and perhaps given to messages that were lost.
            self.set_last_message(room, restored.kept.last().map_or(MessageId(0), KeptMessage::id));
            self.set_epoch(room, restored.epoch);
        }
    }

    pub(super) fn set_last_message(&self, room: RoomIndex, last: MessageId) {
        self.rooms[room.get()].last_message.store(last.0, Ordering::Release);
    }

    pub(super) fn set_epoch(&self, room: RoomIndex, epoch: Epoch) {
        *self.rooms[room.get()].epoch() = epoch;
    }

    pub(super) fn set_online(&self, room: RoomIndex, online: usize) {
        self.rooms[room.get()].online.store(online, Ordering::Release);
    }
}

/// FNV-1a, which spreads short names well enough over a handful of shards and is the same on every run.
fn home_of(name: &str, shards: u16) -> ShardIndex {
    let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    ShardIndex((hash % u64::from(shards)) as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn general_comes_first_and_others_keep_their_order() {
        let names = ["random", "general", "gaming"].map(String::from);
        let directory = Directory::new(&names, 3);
        let listed: Vec<&str> = directory.rooms().map(|room| &**directory.name(room)).collect();
        assert_eq!(listed, ["general", "random", "gaming"]);
        assert_eq!(directory.find("gaming"), directory.rooms().nth(2));
        assert_eq!(directory.find("nowhere"), None);
        assert!(directory.rooms().all(|room| directory.home(room).0 < 3));
    }
}
