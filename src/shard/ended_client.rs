//! Clients whose connections have ended, until that is reported: some in each turn, so that a crowd that ends at once delays
//! nobody. Each is reported while its socket is open, because the kernel knows nothing of a closed one.

use std::collections::{HashMap, VecDeque};

use uproar_ring::ConnectionId;

use crate::events::ConnectionFacts;
use crate::metrics::EndReason;

/// What is known of a client whose connection has ended. What the kernel knows is added ahead of the report.
#[derive(Debug)]
pub(super) struct EndedClient {
    pub(super) facts: ConnectionFacts,
    pub(super) reason: EndReason,
    /// `Some` when a line is to be logged, with the number of those left out before it.
    pub(super) left_out: Option<u64>,
}

/// The ends that are to be reported, at most one of each client.
#[derive(Debug, Default)]
pub(super) struct EndedClients {
    /// In the order in which they ended. Those that are no longer in `clients` are skipped.
    order: VecDeque<ConnectionId>,
    clients: HashMap<ConnectionId, EndedClient>,
}

impl EndedClients {
    pub(super) fn is_empty(&self) -> bool {
        self.clients.is_empty()
    }

    pub(super) fn push(&mut self, ended: EndedClient) {
        let id = ended.facts.name.client.connection;
        self.order.push_back(id);
        self.clients.insert(id, ended);
    }

    /// One that has ended, if that is not reported yet.
    pub(super) fn get(&self, id: ConnectionId) -> Option<&EndedClient> {
        self.clients.get(&id)
    }

    /// Takes the one that ended first.
    pub(super) fn pop(&mut self) -> Option<EndedClient> {
        while let Some(id) = self.order.pop_front() {
            if let Some(ended) = self.take(id) {
                return Some(ended);
            }
        }
        None
    }

    /// Takes one out of its turn.
    pub(super) fn take(&mut self, id: ConnectionId) -> Option<EndedClient> {
        self.clients.remove(&id)
    }
}
