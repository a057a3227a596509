//! What happens in a bridge beside its events, for metrics.

use std::collections::VecDeque;

/// Something that happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Observation {
    Appended { proposals: usize, payload_bytes: usize },
    Waited { replicas: u64, is_enough: bool },
    Read { entries: usize },
    Behind { entries: u64 },
    CanarySeen,
    TimedOut { proposals: usize },
    Damaged { proposals: usize },
    RecoveryBegan,
    RecoveryEnded,
}

/// How much is kept for one who looks later. One who never looks costs no more than that.
const OBSERVATIONS_MAX: usize = 256;

/// What nobody has looked at yet, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Observed(VecDeque<Observation>);

impl Observed {
    pub(super) fn push(&mut self, observation: Observation) {
        if self.0.len() == OBSERVATIONS_MAX {
            self.0.pop_front();
        }
        self.0.push_back(observation);
    }

    pub(super) fn pop(&mut self) -> Option<Observation> {
        self.0.pop_front()
    }
}
