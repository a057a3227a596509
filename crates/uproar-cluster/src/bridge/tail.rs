//! The last entries, which this node can bring back when Redis has lost them.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::{Chain, Entry};

/// How much is kept, in bytes as the log counts them. What a primary loses in a failover is what its replicas lag
/// behind, mostly well under a second.
const BYTES_MAX: u64 = 16 << 20;

/// The last entries of the log, in their order.
#[derive(Clone, Debug, Default)]
pub(super) struct Tail(VecDeque<Arc<Entry>>);

impl Tail {
    pub(super) fn push(&mut self, entry: Arc<Entry>) {
        let total = entry.total_bytes;
        self.0.push_back(entry);
        while self.0.front().is_some_and(|first| total - first.total_bytes.min(total) > BYTES_MAX) {
            self.0.pop_front();
        }
    }

    /// The entries behind this one. `None` when they are not all here, or do not follow it.
    pub(super) fn behind(&self, kept: &Chain) -> Option<Vec<Arc<Entry>>> {
        let start = self.0.iter().position(|entry| entry.number == kept.number() + 1)?;
        let first = &self.0[start];
        (first.previous.as_ref() == kept.tag()).then(|| self.0.range(start..).cloned().collect())
    }

    /// False when the last entry has the number of this one, and was appended at another time.
    pub(super) fn has_not_another(&self, entry: &Entry) -> bool {
        self.0.back().is_none_or(|last| last.number != entry.number || last.time_ms == entry.time_ms)
    }

    /// All that are here.
    pub(super) fn all(&self) -> Vec<Arc<Entry>> {
        self.0.iter().cloned().collect()
    }
}
