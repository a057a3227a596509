//! The connections of this shard that are signed in, by account.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use uproar_ring::ConnectionId;

use super::client_io::Context;
use crate::accounts::Identity;

/// The connections of each account. They are few, and looked up for private messages and changes of accounts only.
#[derive(Debug, Default)]
pub(super) struct SignedIn {
    by_account: HashMap<Arc<str>, BTreeSet<ConnectionId>>,
}

impl SignedIn {
    /// The connections of an account, in order.
    pub(super) fn of(&self, account: &str) -> Vec<ConnectionId> {
        self.by_account.get(account).into_iter().flatten().copied().collect()
    }
}

impl Context {
    /// Notes that a connection is signed in.
    pub(super) fn note_signed_in(&mut self, identity: &Identity, id: ConnectionId) {
        let Identity { account, name, .. } = identity;
        let connections = self.signed_in.by_account.entry(Arc::clone(account)).or_default();
        if connections.is_empty() {
            self.directory.accounts().insert(account, name, self.settings.index);
        }
        connections.insert(id);
    }

    /// Notes that a connection has ended or changed its account.
    pub(super) fn note_signed_out(&mut self, account: &Arc<str>, id: ConnectionId) {
        let connections = self.signed_in.by_account.get_mut(account).expect("Bug: it had signed in");
        connections.remove(&id);
        if connections.is_empty() {
            self.signed_in.by_account.remove(account);
            self.directory.accounts().remove(account, self.settings.index);
        }
    }
}
