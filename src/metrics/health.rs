//! Whether the server works, as `/healthz` and `/readyz` tell.

use std::time::Duration;

use super::Metrics;

/// When a shard's turn takes longer, the server is not ready for more clients. The longest turns that clients can cause
/// take some 10 ms.
const READY_TURN_MAX: Duration = Duration::from_secs(2);

/// When a shard's turn takes longer, the server should be restarted: no machine is that slow, so the shard hangs.
const HEALTHY_TURN_MAX: Duration = Duration::from_secs(30);

/// The problem when a turn takes longer.
const STALLED: &str = "shard stalled";

/// What tells whether the server works.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// The longest time that the current turn of any shard has taken so far.
    pub longest_turn: Duration,
    /// True while messages are rejected because they cannot be stored.
    pub has_storage_failed: bool,
}

impl Health {
    /// Why the server should be restarted, if it should.
    #[must_use]
    pub fn problem(&self) -> Option<&'static str> {
        (self.longest_turn >= HEALTHY_TURN_MAX).then_some(STALLED)
    }

    /// Why the server should not get more clients, if it should not.
    #[must_use]
    pub fn readiness_problem(&self) -> Option<&'static str> {
        if self.has_storage_failed {
            return Some("storage failed");
        }
        (self.longest_turn >= READY_TURN_MAX).then_some(STALLED)
    }
}

impl Metrics {
    /// Whether the server works at this moment.
    #[must_use]
    pub fn health(&self) -> Health {
        Health { longest_turn: self.longest_turn(), has_storage_failed: self.storage().is_failing.get() == 1 }
    }
}
