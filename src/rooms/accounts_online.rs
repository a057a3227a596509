//! Which accounts are signed in, and on which shards: looked up for private messages to an account, and for names that
//! users choose.
//!
//! A shard writes here when the first of its connections signs in with an account, and when the last one ends. Messages of
//! rooms and topics never come here. The map is papaya's, for the reasons that are given for the users.

use std::sync::Arc;

use papaya::{HashMap, Operation};

use super::ShardIndex;

/// The accounts that are signed in on any shard. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct AccountsOnline(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    by_account: HashMap<Arc<str>, OnlineAccount>,
    /// How many shards have noted a name, by the key that names which look the same share.
    names: HashMap<Arc<str>, usize>,
}

/// An account that is signed in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OnlineAccount {
    /// Its display name.
    pub name: Arc<str>,
    /// The shards that have connections of it, in order.
    pub shards: Arc<[ShardIndex]>,
}

impl AccountsOnline {
    /// Notes that a shard has connections of an account.
    pub fn insert(&self, account: &Arc<str>, name: &Arc<str>, shard: ShardIndex) {
        let only = OnlineAccount { name: Arc::clone(name), shards: Arc::new([shard]) };
        let with = |online: &OnlineAccount| {
            let others = online.shards.iter().copied().filter(|other| *other != shard);
            let mut shards: Vec<_> = others.chain([shard]).collect();
            shards.sort_unstable();
            OnlineAccount { name: Arc::clone(name), shards: shards.into() }
        };
        self.0.by_account.pin().update_or_insert(Arc::clone(account), with, only);
    }

    /// Notes that a shard has no connection of an account any more.
    pub fn remove(&self, account: &Arc<str>, shard: ShardIndex) {
        self.0.by_account.pin().compute(Arc::clone(account), |entry| {
            let Some((_, online)) = entry else { return Operation::Abort(()) };
            let shards: Arc<[_]> = online.shards.iter().copied().filter(|other| *other != shard).collect();
            match shards.is_empty() {
                true => Operation::Remove,
                false => Operation::Insert(OnlineAccount { name: Arc::clone(&online.name), shards }),
            }
        });
    }

    /// Reserves the name with this key for as long as a shard has it reserved.
    pub fn reserve(&self, key: &Arc<str>) {
        self.0.names.pin().update_or_insert(Arc::clone(key), |count| count + 1, 1);
    }

    /// Ends a reservation of [`AccountsOnline::reserve`].
    pub fn release(&self, key: &Arc<str>) {
        self.0.names.pin().compute(Arc::clone(key), |entry| match entry {
            None => Operation::Abort(()),
            Some((_, 1)) => Operation::Remove,
            Some((_, count)) => Operation::Insert(count - 1),
        });
    }

    /// True while the name with this key is reserved.
    #[must_use]
    pub fn is_reserved(&self, key: &str) -> bool {
        self.0.names.pin().contains_key(key)
    }

    /// The account of this name, if it is signed in.
    #[must_use]
    pub fn find(&self, account: &str) -> Option<OnlineAccount> {
        self.0.by_account.pin().get(account).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_reserved_until_the_last_shard_releases_it() {
        let online = AccountsOnline::default();
        let key: Arc<str> = "ann".into();
        online.reserve(&key);
        online.reserve(&key);
        online.release(&key);
        assert!(online.is_reserved("ann") && !online.is_reserved("ben"));
        online.release(&key);
        online.release(&key);
        assert!(!online.is_reserved("ann"));
    }

    #[test]
    fn an_account_is_found_on_its_shards_until_it_has_left_them() {
        let online = AccountsOnline::default();
        let (ann, name): (Arc<str>, Arc<str>) = ("ann".into(), "Ann".into());
        for shard in [3, 1, 3] {
            online.insert(&ann, &name, ShardIndex(shard));
        }
        let found = online.find("ann").unwrap();
        assert_eq!((&*found.name, &*found.shards), ("Ann", &[ShardIndex(1), ShardIndex(3)][..]));
        online.remove(&ann, ShardIndex(3));
        online.remove(&ann, ShardIndex(2));
        assert_eq!(*online.find("ann").unwrap().shards, [ShardIndex(1)]);
        online.remove(&ann, ShardIndex(1));
        online.remove(&ann, ShardIndex(1));
        assert_eq!(online.find("ann"), None);
    }
}
