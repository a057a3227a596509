//! The raw and echo connections of this shard that brought a token. They are not users, so the list of those who are signed
//! in does not have them.

use std::collections::HashMap;
use std::sync::Arc;

use uproar_ring::ConnectionId;

/// The accounts of raw and echo connections. They are looked at when one is banned.
#[derive(Debug, Default)]
pub(super) struct TokenConnections(HashMap<ConnectionId, Arc<str>>);

impl TokenConnections {
    /// Notes the account of a connection.
    pub(super) fn insert(&mut self, id: ConnectionId, account: Arc<str>) {
        self.0.insert(id, account);
    }

    /// Forgets a connection that has ended.
    pub(super) fn remove(&mut self, id: ConnectionId) {
        self.0.remove(&id);
    }

    /// The account of a connection, if it brought a token.
    pub(super) fn account(&self, id: ConnectionId) -> Option<&Arc<str>> {
        self.0.get(&id)
    }

    /// The connections of an account, in order. It looks at all connections.
    pub(super) fn of(&self, account: &str) -> Vec<ConnectionId> {
        let mut ids: Vec<_> =
            self.0.iter().filter(|(_, own)| ***own == *account).map(|(id, _)| *id).collect();
        ids.sort_unstable();
        ids
    }
}
