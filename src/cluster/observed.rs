//! What the metrics tell of a partition's log.

use std::sync::Arc;
use std::time::Duration;

use uproar_cluster::client::Observer;

use crate::metrics::{ClusterMetrics, ProposalRefusal};

/// A node that is further behind than so many entries should get no new clients.
const BEHIND_MAX: u64 = 10_000;

/// Counts what the driver of a partition tells.
#[derive(Debug)]
pub(super) struct Observed {
    metrics: Arc<ClusterMetrics>,
    partition: usize,
    /// False until there was a connection.
    was_connected: bool,
}

impl Observed {
    pub(super) fn new(metrics: &Arc<ClusterMetrics>, partition: u16) -> Self {
        Self { metrics: Arc::clone(metrics), partition: usize::from(partition), was_connected: false }
    }
}

impl Observer for Observed {
    fn connected(&mut self) {
        if std::mem::replace(&mut self.was_connected, true) {
            self.metrics.reconnected(self.partition);
        }
    }

    fn appended(&mut self, proposals: usize, payload_bytes: usize, round_trip: Duration) {
        self.metrics.appended(self.partition, proposals, payload_bytes, round_trip);
    }

    fn read(&mut self, entries: usize) {
        self.metrics.read(self.partition, entries);
    }

    fn behind(&mut self, entries: u64) {
        self.metrics.behind(self.partition, usize::try_from(entries).unwrap_or(usize::MAX));
        self.metrics.set_behind(self.partition, entries > BEHIND_MAX);
    }

    fn unanswered(&mut self, proposals: usize) {
        self.metrics.unanswered(self.partition, proposals);
    }

    fn canary_seen(&mut self) {
        self.metrics.canary_seen(self.partition);
    }

    fn timed_out(&mut self, proposals: usize) {
        self.metrics.refused(self.partition, ProposalRefusal::OutOfReach, proposals);
    }

    fn recovery_ended(&mut self) {
        self.metrics.recovered(self.partition);
    }
}
