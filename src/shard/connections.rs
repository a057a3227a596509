//! The slab of a shard's connections, and the generations of its slots.

use slab::Slab;
use uproar_ring::ConnectionId;

use super::connection::{Connection, Session};
use super::user::User;

/// Places that are kept when nobody is there any more.
const PLACES_KEPT: usize = 1_024;

/// A shard's connections by [`ConnectionId`].
///
/// Invariant *terminal completion*: a slot is given up only by [`Connections::remove`], which the shard
/// calls when the ring has reported the connection's end.
#[derive(Debug, Default)]
pub(super) struct Connections {
    slab: Slab<Connection>,
    generations: Vec<u32>,
}

impl Connections {
    pub(super) fn insert(&mut self, connection: Connection) -> ConnectionId {
        let index = self.slab.insert(connection);
        if self.generations.len() <= index {
            self.generations.resize(index + 1, 0);
        }
        self.id(index as u32)
    }

    /// The connection, unless the id is of an earlier use of its slot.
    pub(super) fn get_mut(&mut self, id: ConnectionId) -> Option<&mut Connection> {
        if *self.generations.get(id.index as usize)? != id.generation {
            return None;
        }
        self.slab.get_mut(id.index as usize)
    }

    /// The connection of a slot that is known to be in use.
    #[inline]
    pub(super) fn at(&mut self, index: u32) -> &mut Connection {
        &mut self.slab[index as usize]
    }

    /// The id of a slot that is in use.
    #[inline]
    pub(super) fn id(&self, index: u32) -> ConnectionId {
        ConnectionId { index, generation: self.generations[index as usize] }
    }

    pub(super) fn remove(&mut self, id: ConnectionId) -> Connection {
        let generation = &mut self.generations[id.index as usize];
        assert_eq!(*generation, id.generation, "Bug: a connection ended twice");
        *generation = (*generation + 1) % ConnectionId::GENERATIONS;
        let connection = self.slab.remove(id.index as usize);
        if self.slab.is_empty() && self.slab.capacity() > PLACES_KEPT {
            self.slab = Slab::new();
        }
        connection
    }

    pub(super) fn len(&self) -> usize {
        self.slab.len()
    }

    /// The user behind a connection, if it has one.
    pub(super) fn user(&mut self, id: ConnectionId) -> Option<&mut User> {
        match &mut self.get_mut(id)?.session {
            Session::User(user) => Some(user),
            Session::Raw { .. } | Session::Echo => None,
        }
    }

    /// All connections.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Connection> {
        self.slab.iter().map(|(_, connection)| connection)
    }

    /// The ids of all connections.
    pub(super) fn ids(&self) -> impl Iterator<Item = ConnectionId> {
        self.slab.iter().map(|(index, _)| self.id(index as u32))
    }
}
