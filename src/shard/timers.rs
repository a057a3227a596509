//! Deadlines of connections: one heap for a shard, no task and no timer for a connection.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use uproar_ring::ConnectionId;

/// The number of stale entries that are not worth removing.
const ENTRIES_FREE: usize = 1_024;

/// The deadlines of connections, earliest first.
///
/// The connection remembers its next deadline, and an entry of another time is stale. So moving a deadline
/// costs nothing until it comes. Stale entries are removed when they have become the most.
#[derive(Debug, Default)]
pub(super) struct Timers {
    heap: BinaryHeap<Reverse<(u64, ConnectionId)>>,
}

impl Timers {
    /// Adds a deadline of a connection.
    pub(super) fn schedule(&mut self, due_ms: u64, id: ConnectionId) {
        self.heap.push(Reverse((due_ms, id)));
    }

    /// Removes the entries for which `is_current` is false, once there are more than `entries_max` entries and
    /// a few: the heap stays within a small factor of the connections, at a constant price for each entry.
    pub(super) fn shrink(
        &mut self,
        entries_max: usize,
        mut is_current: impl FnMut(u64, ConnectionId) -> bool,
    ) {
        if self.heap.len() > entries_max + ENTRIES_FREE {
            self.heap.retain(|Reverse((due_ms, id))| is_current(*due_ms, *id));
        }
    }

    /// The earliest deadline.
    #[must_use]
    pub(super) fn next_due_ms(&self) -> Option<u64> {
        self.heap.peek().map(|Reverse((due_ms, _))| *due_ms)
    }

    /// The next entry whose time has come, earliest first, with the time it was scheduled for.
    #[must_use]
    pub(super) fn poll(&mut self, now_ms: u64) -> Option<(u64, ConnectionId)> {
        if self.next_due_ms()? > now_ms {
            return None;
        }
        self.heap.pop().map(|Reverse(entry)| entry)
    }
}
