//! The slab of a shard's clients, and the generations of its slots.

use slab::Slab;
use uproar_ring::ConnectionId;

use super::client::Client;
use super::token_connections::TokenConnections;
use crate::moderation::BanSubject;

/// The capacity that is kept when no client is left.
const PLACES_KEPT: usize = 1_024;

/// A shard's clients by [`ConnectionId`].
///
/// Invariant *terminal completion*: a slot is given up only by `Clients::remove`, which the shard
/// calls when the ring has reported the connection's end.
#[derive(Debug, Default)]
pub struct Clients {
    slab: Slab<Client>,
    generations: Vec<u32>,
}

/// A member that now has the place of one that was removed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moved {
    /// Its slot in the slab.
    pub(super) slot: u32,
    /// Its new place.
    pub(super) place: u32,
}

impl Clients {
    /// Takes a client in.
    pub(super) fn insert(&mut self, client: Client) -> ConnectionId {
        let index = self.slab.insert(client);
        if self.generations.len() <= index {
            self.generations.resize(index + 1, 0);
        }
        self.id(index as u32)
    }

    /// The client, unless the id is of an earlier use of its slot.
    pub(super) fn get_mut(&mut self, id: ConnectionId) -> Option<&mut Client> {
        if *self.generations.get(id.index as usize)? != id.generation {
            return None;
        }
        self.slab.get_mut(id.index as usize)
    }

    /// The client of a slot that is known to be in use.
    #[inline]
    pub(super) fn at(&mut self, index: u32) -> &mut Client {
        &mut self.slab[index as usize]
    }

    /// The id of a slot that is in use.
    #[inline]
    pub(super) fn id(&self, index: u32) -> ConnectionId {
        ConnectionId { index, generation: self.generations[index as usize] }
    }

    /// Gives up a client's slot.
    pub(super) fn remove(&mut self, id: ConnectionId) -> Client {
        let generation = &mut self.generations[id.index as usize];
        assert_eq!(*generation, id.generation, "Bug: a connection ended twice");
        *generation = (*generation + 1) % ConnectionId::GENERATIONS;
        let client = self.slab.remove(id.index as usize);
        if self.slab.is_empty() && self.slab.capacity() > PLACES_KEPT {
            self.slab = Slab::new();
        }
        client
    }

    /// The number of slots, of which some may be free.
    pub(super) fn slots(&self) -> u32 {
        self.generations.len() as u32
    }

    /// The client of a slot, if there is one.
    pub(super) fn in_slot(&self, slot: u32) -> Option<(ConnectionId, &Client)> {
        self.slab.get(slot as usize).map(|client| (self.id(slot), client))
    }

    /// The number of clients, including those that are closing.
    #[must_use]
    pub fn count(&self) -> usize {
        self.slab.len()
    }

    /// Notes the new place of a member that was moved in its room's or topic's list.
    pub(super) fn set_place(&mut self, moved: Option<Moved>) {
        if let Some(Moved { slot, place }) = moved {
            self.at(slot).session.set_place(place);
        }
    }

    /// The bytes charged for all queued and outgoing frames, summed over all connections: see
    /// [`SharedBytes::charged_bytes`](uproar_ring::SharedBytes::charged_bytes).
    #[must_use]
    pub fn queued_bytes(&self) -> usize {
        self.iter().map(|client| client.link.queued_bytes()).sum()
    }

    /// The largest charge of any connection's out-queue. It visits every connection, and is for tests of the
    /// invariant *everything bounded*.
    #[must_use]
    pub fn longest_queue_bytes(&self) -> usize {
        self.iter().map(|client| client.link.queued_bytes()).max().unwrap_or(0)
    }

    /// The most bytes of one connection that wait to be read; see [`Clients::longest_queue_bytes`].
    #[must_use]
    pub fn most_pending_bytes(&self) -> usize {
        self.iter().map(|client| client.link.connection.pending_bytes()).max().unwrap_or(0)
    }

    /// The connections from a network that have shown no account. It visits every connection.
    pub(super) fn without_account_at(
        &self,
        network: &BanSubject,
        token_connections: &TokenConnections,
    ) -> Vec<ConnectionId> {
        let at_network =
            self.slab.iter().filter(|(_, client)| BanSubject::address(client.link.peer.ip()) == *network);
        let ids = at_network.map(|(index, client)| (self.id(index as u32), &client.session));
        ids.filter(|(id, session)| !session.has_account(*id, token_connections)).map(|(id, _)| id).collect()
    }

    fn iter(&self) -> impl Iterator<Item = &Client> {
        self.slab.iter().map(|(_, client)| client)
    }

    /// The ids of all clients.
    pub(super) fn ids(&self) -> impl Iterator<Item = ConnectionId> {
        self.slab.iter().map(|(index, _)| self.id(index as u32))
    }
}
