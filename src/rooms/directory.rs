//! State that every shard may read: the rooms, and the users.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::{
    AccountsOnline, Epoch, Instance, KeptMessage, ListedRoom, MessageId, RecentFanOuts, RestoredRoom,
    RoomIndex, RoomList, ShardIndex, Users,
};
use crate::config::FIRST_ROOM;
use crate::pattern::Pattern;
use crate::return_slots::ReturnSlots;

/// The rooms of a server and its users. The configured rooms are fixed while it runs, and every shard knows them; the
/// rooms that clients create are found at their homes.
#[derive(Clone, Debug)]
pub struct Directory {
    instance: Instance,
    rooms: Arc<[Arc<ListedRoom>]>,
    on_demand: RoomList,
    users_online: Arc<AtomicUsize>,
    shards: u16,
    users: Users,
    accounts: AccountsOnline,
    return_slots: ReturnSlots,
    recent_fan_outs: RecentFanOuts,
}

impl Directory {
    /// A directory of these rooms for so many shards, where clients create none. `general` is moved to the front.
    ///
    /// # Panics
    ///
    /// Without a room `general`, which the configuration refuses.
    #[must_use]
    pub fn new(names: &[String], shards: u16) -> Self {
        let general = names.iter().position(|name| name == FIRST_ROOM).expect("Bug: no room `general`");
        let mut names: Vec<&String> = names.iter().collect();
        let first = names.remove(general);
        names.insert(0, first);
        let rooms = names.into_iter().zip(0..).map(|(name, slot)| {
            let index = RoomIndex { home: home_of(name, shards), slot, generation: 0 };
            Arc::new(ListedRoom::new(name.as_str().into(), index, Epoch::random()))
        });
        Self {
            instance: Instance::random(),
            rooms: rooms.collect(),
            on_demand: RoomList::new(Vec::new(), 0),
            users_online: Arc::default(),
            shards,
            users: Users::default(),
            accounts: AccountsOnline::default(),
            return_slots: ReturnSlots::default(),
            recent_fan_outs: RecentFanOuts::default(),
        }
    }

    /// Lets clients create rooms whose names match one of these patterns, at most `rooms_max` at a time.
    #[must_use]
    pub fn with_rooms_on_demand(self, patterns: &[String], rooms_max: usize) -> Self {
        let patterns = patterns.iter().map(|text| Pattern::parse(text)).collect();
        Self { on_demand: RoomList::new(patterns, rooms_max), ..self }
    }

    /// Lets the shared log of a cluster give out the ids of users.
    #[must_use]
    pub fn in_cluster(self) -> Self {
        Self { users: Users::in_cluster(), ..self }
    }

    /// True where other servers share the rooms.
    #[must_use]
    pub fn is_in_cluster(&self) -> bool {
        self.users.blocks().is_some()
    }

    /// Has the fan-outs of the last minute noted, for somebody who collects them.
    #[must_use]
    pub fn with_recent_fan_outs(self) -> Self {
        Self { recent_fan_outs: RecentFanOuts::of_shards(self.shards), ..self }
    }

    /// The fan-outs of the last minute, if they are noted.
    #[must_use]
    pub fn recent_fan_outs(&self) -> &RecentFanOuts {
        &self.recent_fan_outs
    }

    /// This life of the server, for the names of its connections.
    #[must_use]
    pub fn instance(&self) -> Instance {
        self.instance
    }

    /// How many shards there are.
    #[must_use]
    pub fn shards(&self) -> u16 {
        self.shards
    }

    /// Every configured room, in the configured order.
    #[must_use]
    pub fn rooms(&self) -> &[Arc<ListedRoom>] {
        &self.rooms
    }

    /// The rooms that clients have created.
    #[must_use]
    pub fn on_demand(&self) -> &RoomList {
        &self.on_demand
    }

    /// True for a room that a client has created.
    #[must_use]
    pub fn is_on_demand(&self, room: RoomIndex) -> bool {
        room.slot() >= self.rooms.len()
    }

    /// The name of a configured room.
    ///
    /// # Panics
    ///
    /// When the room is not configured.
    #[must_use]
    pub fn configured_name(&self, room: RoomIndex) -> Arc<str> {
        Arc::clone(self.rooms[room.slot()].name())
    }

    /// The room `general`.
    #[must_use]
    pub fn general(&self) -> RoomIndex {
        self.rooms[0].index()
    }

    /// The configured room of this name.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<RoomIndex> {
        self.first_room(|room| room == name)
    }

    /// The room where a user starts who may join these: `general`, or else the first configured one.
    #[must_use]
    pub fn first_room(&self, may_join: impl Fn(&str) -> bool) -> Option<RoomIndex> {
        self.rooms.iter().find(|room| may_join(room.name())).map(|room| room.index())
    }

    /// The shard that orders the messages of the room or topic of this name.
    #[must_use]
    pub fn home_of(&self, name: &str) -> ShardIndex {
        home_of(name, self.shards)
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

    /// How many members all rooms have.
    #[must_use]
    pub fn users_online(&self) -> usize {
        self.users_online.load(Ordering::Acquire)
    }

    /// Restores the configured rooms from the storage. Called before the first client is admitted.
    pub fn restore(&self, rooms: &[RestoredRoom]) {
        for (room, restored) in self.rooms.iter().zip(rooms) {
            // Ids behind the last message were reserved, and perhaps given to messages that were lost.
            room.set_last_message(restored.kept.last().map_or(MessageId(0), KeptMessage::id));
            room.set_epoch(restored.epoch);
        }
    }

    pub(super) fn note_joined(&self) {
        self.users_online.fetch_add(1, Ordering::AcqRel);
    }

    pub(super) fn note_left(&self) {
        self.users_online.fetch_sub(1, Ordering::AcqRel);
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
        let listed: Vec<&str> = directory.rooms().iter().map(|room| &**room.name()).collect();
        assert_eq!(listed, ["general", "random", "gaming"]);
        assert_eq!(directory.find("gaming"), Some(directory.rooms()[2].index()));
        assert_eq!(directory.find("nowhere"), None);
        assert!(directory.rooms().iter().all(|room| room.index().home().0 < 3));
        assert!(!directory.is_on_demand(directory.general()));
    }
}
