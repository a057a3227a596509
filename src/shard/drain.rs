//! A shutdown that closes connections at a pace.

use std::collections::VecDeque;

use uproar_ring::ConnectionId;

/// How often a shutdown closes a few more connections.
const STEP_MS: u64 = 10;

/// The least number of connections that are closed in a step.
const STEP_COUNT_MIN: usize = 50;

/// The gradual closing of all connections.
#[derive(Debug)]
pub(super) struct Drain {
    waiting: VecDeque<ConnectionId>,
    step_count: usize,
    next_ms: u64,
}

impl Drain {
    /// Begins to close these connections, all of them within half of the timeout.
    pub(super) fn begin(waiting: VecDeque<ConnectionId>, timeout_ms: u64, now_ms: u64) -> Self {
        let steps = (timeout_ms / 2 / STEP_MS).max(1);
        let step_count = waiting.len().div_ceil(steps as usize).max(STEP_COUNT_MIN);
        Self { waiting, step_count, next_ms: now_ms }
    }

    /// The connections that are to be closed now.
    pub(super) fn take_step(&mut self, now_ms: u64) -> Vec<ConnectionId> {
        if now_ms < self.next_ms {
            return Vec::new();
        }
        self.next_ms = now_ms + STEP_MS;
        let count = self.step_count.min(self.waiting.len());
        self.waiting.drain(..count).collect()
    }

    /// When [`Drain::take_step`] has something.
    pub(super) fn next_due_ms(&self) -> Option<u64> {
        (!self.waiting.is_empty()).then_some(self.next_ms)
    }
}
