//! The users of all shards: the counter that user ids are taken from, and the connection of each user.
//!
//! A shard registers a user when it greets the user, and removes it when the user goes. Shards look a user up for private
//! messages, admins' orders and read receipts. Messages of rooms and topics never come here.
//!
//! Only a user's own shard writes its entry, so that shard always finds the present state. A user whom another shard
//! has found may be gone when the request arrives: the user's shard decides.
//!
//! The map is papaya's. Its look-ups take no lock, and shards that write wait for each other only while the table is
//! copied into a larger or smaller one, a few entries at a time. In a map of locks (dashmap; scc), a shard that is
//! preempted while it holds one stops the others for a time slice. A registry shard would need no map, but adds a hop to
//! each private message. A look-up takes 33 ns among 10,000 users, beside 16 ns in the standard library's map.
//!
//! Memory: 60 bytes for each user. Each shard keeps at most 32 entries of users that have gone (or one for each core of
//! the machine, if that is more) until papaya frees them together. The table is halved when newcomers find it full of
//! removed entries; until then it has 9 to 18 bytes for each user of the busiest time. papaya's feature `fast-barrier`
//! stays off: with it, freeing would interrupt all cores (`membarrier`).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use papaya::HashMap;

use super::{ClientRef, UserId};

/// All users of a server, by id. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Users(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    last_id: AtomicU64,
    connections: HashMap<UserId, ClientRef>,
}

impl Users {
    /// Gives the next id to the user of this connection.
    #[must_use]
    pub fn register(&self, connection: ClientRef) -> UserId {
        let user = UserId(self.0.last_id.fetch_add(1, Ordering::Relaxed) + 1);
        let before = self.0.connections.pin().insert(user, connection).copied();
        assert_eq!(before, None, "Bug: user {user} was registered before");
        user
    }

    /// The connection of a user that is registered and not removed.
    #[must_use]
    pub fn find(&self, user: UserId) -> Option<ClientRef> {
        self.0.connections.pin().get(&user).copied()
    }

    /// Forgets a user that has gone.
    pub fn remove(&self, user: UserId) {
        self.0.connections.pin().remove(&user);
    }

    /// Gives out only ids behind this one from now on.
    pub fn continue_after(&self, last: UserId) {
        self.0.last_id.fetch_max(last.get(), Ordering::Relaxed);
    }

    /// How many users are registered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.connections.len()
    }

    /// True when no user is registered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.connections.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::thread;

    use super::*;
    use crate::rooms::ShardIndex;
    use uproar_ring::ConnectionId;

    fn connection(shard: u16, index: u32) -> ClientRef {
        ClientRef { shard: ShardIndex(shard), connection: ConnectionId { index, generation: 0 } }
    }

    #[test]
    fn ids_count_up_over_all_shards() {
        let users = Users::default();
        let ids = [3, 0, 3, 1].map(|shard| users.register(connection(shard, 0)).get());
        assert_eq!(ids, [1, 2, 3, 4]);
        users.remove(UserId(4));
        assert_eq!(users.register(connection(0, 1)).get(), 5, "no id is given twice");
    }

    #[test]
    fn ids_go_on_behind_those_of_an_earlier_life() {
        let users = Users::default();
        users.continue_after(UserId(40));
        users.continue_after(UserId(7));
        assert_eq!(users.register(connection(0, 0)).get(), 41);
    }

    #[test]
    fn users_are_found_until_they_are_removed() {
        let users = Users::default();
        let (ann, bob) = (users.register(connection(1, 5)), users.register(connection(2, 5)));
        assert_eq!(users.find(ann), Some(connection(1, 5)));
        users.remove(ann);
        assert_eq!((users.find(ann), users.find(bob)), (None, Some(connection(2, 5))));
        users.remove(bob);
        assert!(users.is_empty());
    }

    /// Each thread writes its own entries and reads those of all, while the table grows and shrinks.
    #[test]
    fn shards_register_and_find_users_at_the_same_time() {
        const SHARDS: u16 = 4;
        const USERS: u32 = 2_000;
        let users = Users::default();
        let by_shard: Vec<Vec<u64>> = thread::scope(|scope| {
            let shards = (0..SHARDS).map(|shard| {
                let users = &users;
                scope.spawn(move || {
                    let mut ids = Vec::new();
                    for index in 0..USERS {
                        let id = users.register(connection(shard, index));
                        assert_eq!(users.find(id), Some(connection(shard, index)));
                        let other = users.find(UserId(1 + id.get() / 2));
                        assert!(other.is_none_or(|other| other.shard.0 < SHARDS));
                        if index % 3 != 0 {
                            users.remove(id);
                            assert_eq!(users.find(id), None);
                        }
                        ids.push(id.get());
                    }
                    ids
                })
            });
            let shards: Vec<_> = shards.collect();
            shards.into_iter().map(|shard| shard.join().unwrap()).collect()
        });
        let all: BTreeSet<u64> = by_shard.iter().flatten().copied().collect();
        assert!(all.into_iter().eq(1..=u64::from(SHARDS) * u64::from(USERS)));
        assert!(by_shard.iter().all(|ids| ids.is_sorted()));
        assert_eq!(users.len(), usize::from(SHARDS) * USERS.div_ceil(3) as usize);
    }
}
