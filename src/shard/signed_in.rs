//! The connections of this shard that are signed in, by account.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use uproar_ring::ConnectionId;

use crate::accounts::Identity;
use crate::name;

/// The connections of each account. They are looked up for private messages and changes of accounts only.
#[derive(Debug, Default)]
pub(super) struct SignedIn {
    /// Accounts without connections are removed.
    by_account: HashMap<Arc<str>, Connections>,
}

/// The connections of one account on this shard.
#[derive(Debug, Default)]
struct Connections {
    ids: BTreeSet<ConnectionId>,
    /// The keys of names that are reserved while there are connections.
    reserved: [Arc<str>; 2],
}

impl SignedIn {
    /// The connections of an account, in order.
    pub(super) fn of(&self, account: &str) -> Vec<ConnectionId> {
        self.by_account.get(account).into_iter().flat_map(|connections| &connections.ids).copied().collect()
    }

    /// Adds a connection. If it is the account's first, returns the keys of the names that are to be reserved: that of the
    /// account, and the one that others see.
    pub(super) fn insert(&mut self, identity: &Identity, id: ConnectionId) -> Option<&[Arc<str>; 2]> {
        let connections = self.by_account.entry(Arc::clone(&identity.account)).or_default();
        let is_first = connections.ids.is_empty();
        connections.ids.insert(id);
        if is_first {
            connections.reserved = [&identity.account, &identity.name].map(|name| name::key(name).into());
        }
        is_first.then_some(&connections.reserved)
    }

    /// Removes a connection. If it was the account's last, returns the keys of [`SignedIn::insert`].
    pub(super) fn remove(&mut self, account: &Arc<str>, id: ConnectionId) -> Option<[Arc<str>; 2]> {
        let connections = self.by_account.get_mut(account)?;
        connections.ids.remove(&id);
        let is_last = connections.ids.is_empty();
        is_last.then(|| self.by_account.remove(account).map(|last| last.reserved))?
    }
}
