//! The numbers of a node in a cluster, and what is wrong with the cluster's log.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::{BatchSizeHistogram, Counter, DurationHistogram, Gauge, Labelled, Mark, ProposalRefusal};

/// The numbers of the logs of a cluster, by partition; none where the server is alone.
///
/// Invariant: one thread writes those of a partition, any thread reads them. Each method takes the partition first.
///
/// # Panics
///
/// Each of these methods, when there is no such partition.
#[derive(Debug, Default)]
pub struct ClusterMetrics {
    pub(super) partitions: Box<[PartitionMetrics]>,
}

#[derive(Debug, Default)]
pub(super) struct PartitionMetrics {
    /// From the sending of a batch to the answer that it is in the log.
    pub(super) appends: DurationHistogram,
    pub(super) batches: BatchSizeHistogram,
    pub(super) appended_bytes: Counter,
    pub(super) entries_read: Counter,
    pub(super) entries_behind: Gauge,
    pub(super) reconnects: Counter,
    pub(super) proposals_refused: Labelled<Counter, ProposalRefusal, { ProposalRefusal::ALL.len() }>,
    pub(super) proposals_unanswered: Gauge,
    /// When the last own canary was read; until the first, the start.
    pub(super) canary: Mark,
    pub(super) recoveries: Counter,
    pub(super) nodes: Gauge,
    pub(super) epoch_changes: Counter,
    pub(super) fenced: Counter,
    /// Why the log is out of reach, if it is.
    trouble: Mutex<Option<String>>,
    is_behind: AtomicBool,
}

impl ClusterMetrics {
    /// Numbers for this many partitions. The age of their canaries begins.
    #[must_use]
    pub fn new(partitions: usize) -> Self {
        let partitions: Box<[PartitionMetrics]> =
            (0..partitions).map(|_| PartitionMetrics::default()).collect();
        for partition in &partitions {
            partition.canary.set();
        }
        Self { partitions }
    }

    /// A batch of so many proposals and bytes is in the log, and its answer came this long after it was sent.
    pub fn appended(&self, partition: usize, proposals: usize, bytes: usize, round_trip: Duration) {
        let partition = &self.partitions[partition];
        partition.appends.record(round_trip);
        partition.batches.record(proposals);
        partition.appended_bytes.add(bytes as u64);
    }

    /// So many further entries were read.
    pub fn read(&self, partition: usize, entries: usize) {
        self.partitions[partition].entries_read.add(entries as u64);
    }

    /// The log has so many entries that are not read yet.
    pub fn behind(&self, partition: usize, entries: usize) {
        self.partitions[partition].entries_behind.set(entries);
    }

    /// Connections to Redis were opened in place of lost ones.
    pub fn reconnected(&self, partition: usize) {
        self.partitions[partition].reconnects.add(1);
    }

    /// So many proposals will not happen, or perhaps not.
    pub fn refused(&self, partition: usize, reason: ProposalRefusal, proposals: usize) {
        self.partitions[partition].proposals_refused.with(reason).add(proposals as u64);
    }

    /// So many proposals are without an outcome.
    pub fn unanswered(&self, partition: usize, proposals: usize) {
        self.partitions[partition].proposals_unanswered.set(proposals);
    }

    /// An own canary was read.
    pub fn canary_seen(&self, partition: usize) {
        self.partitions[partition].canary.set();
    }

    /// The log was recovered.
    pub fn recovered(&self, partition: usize) {
        self.partitions[partition].recoveries.add(1);
    }

    /// So many nodes are alive, as the log has it.
    pub fn nodes(&self, partition: usize, alive: usize) {
        self.partitions[partition].nodes.set(alive);
    }

    /// The log has another epoch: messages may be lost.
    pub fn epoch_changed(&self, partition: usize) {
        self.partitions[partition].epoch_changes.add(1);
    }

    /// The others have declared this node gone.
    pub fn fenced(&self, partition: usize) {
        self.partitions[partition].fenced.add(1);
    }

    /// Notes why the log is out of reach, or that it is not.
    pub fn set_trouble(&self, partition: usize, reason: Option<String>) {
        *self.partitions[partition].lock_trouble() = reason;
    }

    /// Notes whether the node is so far behind the log that it should get no more clients.
    pub fn set_behind(&self, partition: usize, is_behind: bool) {
        self.partitions[partition].is_behind.store(is_behind, Relaxed);
    }

    /// Why a log is out of reach, if one is: of several the first.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        self.partitions.iter().find_map(|partition| partition.lock_trouble().clone())
    }

    /// True while the node is behind in any partition.
    #[must_use]
    pub fn is_behind(&self) -> bool {
        self.partitions.iter().any(|partition| partition.is_behind.load(Relaxed))
    }
}

impl PartitionMetrics {
    pub(super) fn is_in_trouble(&self) -> bool {
        self.lock_trouble().is_some()
    }

    fn lock_trouble(&self) -> std::sync::MutexGuard<'_, Option<String>> {
        // A poisoned lock is harmless: the reason is replaced in one step.
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
