//! The id of a connection.

use std::fmt;

/// The id of one connection of one shard: a slab index, and the generation of that slot.
///
/// The index is reused after a connection has ended, with another generation, so a late completion or answer never
/// reaches the wrong connection. Generations
/// wrap after 2^24 reuses of one slot, because the ring packs them into a completion's token.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId {
    /// The slot in the shard's slab.
    pub index: u32,
    /// The use of the slot; below [`ConnectionId::GENERATIONS`].
    pub generation: u32,
}

impl ConnectionId {
    /// How many generations a slot has before they repeat.
    pub const GENERATIONS: u32 = 1 << 24;
}

impl fmt::Debug for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.index, self.generation)
    }
}
