//! A shutdown that closes connections at a pace.

use std::collections::VecDeque;

use uproar_ring::ConnectionId;

/// A shutdown under way.
#[derive(Debug)]
pub(super) struct Drain {
    pub(super) waiting: VecDeque<ConnectionId>,
    pub(super) step_count: usize,
    pub(super) next_ms: u64,
}

impl Drain {
    pub(super) fn next_due_ms(&self) -> Option<u64> {
        (!self.waiting.is_empty()).then_some(self.next_ms)
    }
}
