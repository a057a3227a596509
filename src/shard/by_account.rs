//! Connections of this shard, by account.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use uproar_ring::ConnectionId;

/// The connections of each account. They are looked up for private messages, orders and changes of accounts only.
#[derive(Debug, Default)]
pub(super) struct ByAccount {
    /// Accounts without connections are removed.
    by_account: HashMap<Arc<str>, BTreeSet<ConnectionId>>,
}

impl ByAccount {
    /// The connections of an account, in order.
    pub(super) fn of(&self, account: &str) -> impl Iterator<Item = ConnectionId> {
        self.by_account.get(account).into_iter().flatten().copied()
    }

    /// How many connections an account has.
    pub(super) fn count(&self, account: &str) -> usize {
        self.by_account.get(account).map_or(0, BTreeSet::len)
    }

    /// Adds a connection, if it is not there yet.
    pub(super) fn insert(&mut self, account: &Arc<str>, id: ConnectionId) {
        self.by_account.entry(Arc::clone(account)).or_default().insert(id);
    }

    /// Removes a connection. True if it was the account's last.
    pub(super) fn remove(&mut self, account: &str, id: ConnectionId) -> bool {
        let Some(ids) = self.by_account.get_mut(account) else { return false };
        ids.remove(&id);
        let is_last = ids.is_empty();
        if is_last {
            self.by_account.remove(account);
        }
        is_last
    }
}
