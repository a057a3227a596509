//! Whether the server works, as `/healthz` and `/readyz` tell.

use std::borrow::Cow;
use std::time::Duration;

use super::Metrics;

/// When a shard's turn takes longer, the server is not ready for more clients. The longest turns that clients can cause
/// take some 10 ms.
const READY_TURN_MAX: Duration = Duration::from_secs(2);

/// When a shard's turn takes longer, the server should be restarted: no machine is that slow, so the shard hangs.
const HEALTHY_TURN_MAX: Duration = Duration::from_secs(30);

/// When the thread of the HTTP API has not run for so long, though it should every second, the API does not answer.
const API_SILENCE_MAX: Duration = Duration::from_secs(10);

/// The problem when a turn takes longer.
const STALLED: &str = "shard stalled";

/// What tells whether the server works.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// The longest time that the current turn of any shard has taken so far.
    pub longest_turn: Duration,
    /// True while messages are rejected because they cannot be stored.
    pub has_storage_failed: bool,
    /// Why the log of the cluster is out of reach, if it is.
    pub cluster_trouble: Option<String>,
    /// True while this node is too far behind that log.
    pub is_behind: bool,
    /// How long the thread of the HTTP API has not run.
    pub api_silence: Duration,
}

impl Health {
    /// Why the server should be restarted, if it should.
    #[must_use]
    pub fn problem(&self) -> Option<&'static str> {
        (self.longest_turn >= HEALTHY_TURN_MAX).then_some(STALLED)
    }

    /// Why the server should not get more clients, if it should not.
    #[must_use]
    pub fn readiness_problem(&self) -> Option<Cow<'static, str>> {
        if self.has_storage_failed {
            return Some("storage failed".into());
        }
        if let Some(reason) = &self.cluster_trouble {
            return Some(format!("the cluster's log is out of reach: {reason}").into());
        }
        if self.longest_turn >= READY_TURN_MAX {
            return Some(STALLED.into());
        }
        if self.is_behind {
            return Some("this node is behind".into());
        }
        (self.api_silence >= API_SILENCE_MAX).then_some("api stalled".into())
    }
}

impl Metrics {
    /// Whether the server works at this moment.
    #[must_use]
    pub fn health(&self) -> Health {
        Health {
            longest_turn: self.longest_turn(),
            has_storage_failed: self.storage().is_failing.get() == 1,
            cluster_trouble: self.cluster().trouble(),
            is_behind: self.cluster().is_behind(),
            api_silence: self.api().heartbeat.elapsed(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::ClusterMetrics;
    use crate::permit::ClientPermits;

    #[test]
    fn an_api_that_does_not_answer_makes_the_server_unready_and_not_unhealthy() {
        let silent = |seconds| Health { api_silence: Duration::from_secs(seconds), ..Health::default() };
        assert_eq!(silent(9).readiness_problem(), None);
        assert_eq!(silent(10).readiness_problem().as_deref(), Some("api stalled"));
        assert_eq!(silent(10).problem(), None);
    }

    #[test]
    fn a_node_without_the_log_or_behind_it_is_unready_and_not_unhealthy() {
        let metrics = Metrics::new(1, 1, ClientPermits::new(1)).with_cluster(ClusterMetrics::new(2));
        let unready = || metrics.health().readiness_problem();
        assert_eq!(unready(), None);
        metrics.cluster().set_behind(1, true);
        assert_eq!(unready().as_deref(), Some("this node is behind"));
        metrics.cluster().set_trouble(1, Some("no answer within 5 s".into()));
        let wanted = "the cluster's log is out of reach: no answer within 5 s";
        assert_eq!(unready().as_deref(), Some(wanted));
        assert_eq!(metrics.health().problem(), None);
        metrics.cluster().set_trouble(1, None);
        metrics.cluster().set_behind(1, false);
        assert_eq!(unready(), None);
    }
}
