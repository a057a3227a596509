//! Which accounts are signed in, and on which shards: looked up for private messages to an account.
//!
//! A shard writes here when the first of its connections signs in with an account, and when the last one ends. Messages of
//! rooms and topics never come here. The map is papaya's, for the reasons that are given for the users.

use std::sync::Arc;

use papaya::{HashMap, Operation};

use super::ShardIndex;

/// The accounts that are signed in on any shard. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct AccountsOnline(Arc<HashMap<Arc<str>, OnlineAccount>>);

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
        self.0.pin().update_or_insert(Arc::clone(account), with, only);
    }

    /// Notes that a shard has no connection of an account any more.
    pub fn remove(&self, account: &Arc<str>, shard: ShardIndex) {
        self.0.pin().compute(Arc::clone(account), |entry| {
            let Some((_, online)) = entry else { return Operation::Abort(()) };
            let shards: Arc<[_]> = online.shards.iter().copied().filter(|other| *other != shard).collect();
            match shards.is_empty() {
                true => Operation::Remove,
                false => Operation::Insert(OnlineAccount { name: Arc::clone(&online.name), shards }),
            }
        });
    }

    /// The account of this name, if it is signed in.
    #[must_use]
    pub fn find(&self, account: &str) -> Option<OnlineAccount> {
        self.0.pin().get(account).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
