//! The name of a connection, as it passes between shard and ring.

use std::fmt;

/// Names one connection of one shard: a slab index, and the generation of the slot that it names.
///
/// The index is reused once the connection before it has come to its end; the generation is then
/// another one, so a late completion or a late answer never reaches the wrong connection. Generations
/// wrap after 2^24 reuses of one slot, because the ring packs them into a completion's token.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId {
    /// The slot in the shard's slab.
    pub index: u32,
    /// Which use of the slot is meant; below [`ConnectionId::GENERATIONS`].
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
