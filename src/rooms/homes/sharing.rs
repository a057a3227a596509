//! What the homes of a server in a cluster know beside their rooms.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use crate::rooms::shared_log::Nodes;
use crate::rooms::{ClientRef, RoomCursor, RoomIndex, ShardIndex};

/// What homes of a cluster know.
#[derive(Debug)]
pub(super) struct Sharing {
    /// By partition, the epoch of its log.
    pub(super) epochs: Vec<Arc<str>>,
    pub(super) nodes: Nodes,
    /// The nodes that are gone, and the rooms in which their members are still to leave.
    pub(super) departing: Vec<(ShardIndex, Vec<RoomIndex>)>,
    /// The requests of the HTTP API that wait until a message of a topic is in the log, by ticket.
    pub(super) relays: HashMap<u64, ClientRef>,
    /// By partition, what replicas have. Empty where they are not waited for.
    pub(super) replicas: Vec<Replicas>,
    /// By partition, whether its log cannot be reached.
    pub(super) out_of_reach: Vec<bool>,
}

/// What replicas have of a partition, and the changes of this server that wait for them. Rooms may be forgotten meanwhile.
#[derive(Debug, Default)]
pub(super) struct Replicas {
    /// The last entry that enough of them have.
    through: u64,
    /// Changes behind it, by entry.
    waiting: VecDeque<(u64, RoomCursor, ClientRef)>,
}

impl Replicas {
    /// A change by this entry waits for them.
    pub(super) fn wait(&mut self, entry: u64, (cursor, to): (RoomCursor, ClientRef)) {
        self.waiting.push_back((entry, cursor, to));
    }

    /// Enough of them have the entries up to this one.
    pub(super) fn note(&mut self, through: u64) {
        self.through = through;
    }

    /// The next change that enough of them have, and who has caused it.
    pub(super) fn poll(&mut self) -> Option<(RoomCursor, ClientRef)> {
        let (entry, cursor, to) = *self.waiting.front()?;
        if entry > self.through {
            return None;
        }
        self.waiting.pop_front();
        Some((cursor, to))
    }
}

#[cfg(test)]
mod tests {
    use uproar_ring::ConnectionId;

    use super::*;
    use crate::rooms::EntryNumber;

    #[test]
    fn a_change_waits_until_replicas_have_it_whichever_is_known_first() {
        let room = RoomIndex::none_at(ShardIndex(0));
        let change = |number| {
            let connection = ConnectionId { index: 0, generation: 0 };
            (RoomCursor { room, entry: EntryNumber(number) }, ClientRef { shard: ShardIndex(0), connection })
        };
        let mut replicas = Replicas::default();
        replicas.wait(1, change(1));
        assert_eq!(replicas.poll(), None);
        replicas.note(2);
        assert_eq!(replicas.poll(), Some(change(1)));
        replicas.wait(2, change(2));
        replicas.wait(3, change(3));
        assert_eq!((replicas.poll(), replicas.poll()), (Some(change(2)), None));
    }
}
