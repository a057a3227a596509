//! The raw and echo connections of this shard that brought a token. They are not users, so the list of those who are signed
//! in does not have them.

use std::collections::HashMap;
use std::sync::Arc;

use uproar_ring::ConnectionId;

use super::by_account::ByAccount;

/// The accounts of raw and echo connections. They are looked at when an order is about one.
///
/// Invariant: both have the same connections.
#[derive(Debug, Default)]
pub(super) struct TokenConnections {
    by_id: HashMap<ConnectionId, TokenConnection>,
    by_account: ByAccount,
}

#[derive(Debug)]
struct TokenConnection {
    account: Arc<str>,
    since: u64,
}

impl TokenConnections {
    /// Notes the account of a connection, and when it came, in Unix seconds.
    pub(super) fn insert(&mut self, id: ConnectionId, account: Arc<str>, since: u64) {
        self.by_account.insert(&account, id);
        self.by_id.insert(id, TokenConnection { account, since });
    }

    /// Forgets a connection that has ended.
    pub(super) fn remove(&mut self, id: ConnectionId) {
        if let Some(TokenConnection { account, .. }) = self.by_id.remove(&id) {
            self.by_account.remove(&account, id);
        }
    }

    /// The account of a connection, if it brought a token.
    pub(super) fn account(&self, id: ConnectionId) -> Option<&Arc<str>> {
        self.by_id.get(&id).map(|connection| &connection.account)
    }

    /// When a connection that brought a token came, in Unix seconds.
    pub(super) fn since(&self, id: ConnectionId) -> Option<u64> {
        self.by_id.get(&id).map(|connection| connection.since)
    }

    /// The connections, by account.
    pub(super) fn by_account(&self) -> &ByAccount {
        &self.by_account
    }
}
