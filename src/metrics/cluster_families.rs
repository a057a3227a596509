//! Renders the numbers of a cluster.

use std::fmt;

use prometheus_client::metrics::MetricType;

use super::ClusterMetrics;
use super::families::{Families, batch_sizes, histogram};

/// The label of a family's samples.
const LABEL: &str = "partition";

/// Writes all families; none where the server is alone.
pub(super) fn encode(cluster: &ClusterMetrics, to: &mut Families<'_>) -> fmt::Result {
    use MetricType::{Counter, Gauge};
    let partitions = &cluster.partitions;
    if partitions.is_empty() {
        return Ok(());
    }
    to.numbered(
        "cluster_out_of_reach",
        "1 while messages are delayed or refused because the log is out of reach",
        Gauge,
        LABEL,
        partitions,
        |partition| u64::from(partition.is_in_trouble()),
    )?;
    to.numbered_histograms(
        "cluster_append_seconds",
        "Time from sending a batch to the answer that it is in the log",
        LABEL,
        partitions,
        |partition, to| histogram(to, || std::iter::once(&partition.appends)),
    )?;
    to.numbered_histograms(
        "cluster_batch_proposals",
        "Proposals of a batch",
        LABEL,
        partitions,
        |partition, to| batch_sizes(to, &partition.batches),
    )?;
    to.numbered(
        "cluster_appended_bytes_total",
        "Bytes of the batches that this node appended",
        Counter,
        LABEL,
        partitions,
        |partition| partition.appended_bytes.get(),
    )?;
    to.numbered(
        "cluster_entries_read_total",
        "Entries of the log read, own ones included",
        Counter,
        LABEL,
        partitions,
        |partition| partition.entries_read.get(),
    )?;
    to.numbered(
        "cluster_entries_behind",
        "Entries of the log that are not read yet",
        Gauge,
        LABEL,
        partitions,
        |partition| partition.entries_behind.get(),
    )?;
    to.numbered(
        "cluster_reconnects_total",
        "Times that connections to Redis were opened in place of lost ones",
        Counter,
        LABEL,
        partitions,
        |partition| partition.reconnects.get(),
    )?;
    to.numbered_each(
        "cluster_proposals_refused_total",
        "Messages, joins and other proposals refused because the log was out of reach, or lost with the node's place",
        Counter,
        LABEL,
        partitions,
        |partition, reason| partition.proposals_refused.with(reason).get(),
    )?;
    to.numbered(
        "cluster_proposals_unanswered",
        "Proposals without an outcome yet",
        Gauge,
        LABEL,
        partitions,
        |partition| partition.proposals_unanswered.get(),
    )?;
    to.numbered(
        "cluster_canary_age_seconds",
        "Time since this node last read its own canary, of which it appends one a second",
        Gauge,
        LABEL,
        partitions,
        |partition| partition.canary.elapsed().as_secs_f64(),
    )?;
    to.numbered(
        "cluster_recoveries_total",
        "Recoveries of the log after a restart or a failover of Redis",
        Counter,
        LABEL,
        partitions,
        |partition| partition.recoveries.get(),
    )?;
    to.numbered(
        "cluster_nodes",
        "Nodes that are alive, as the log has it",
        Gauge,
        LABEL,
        partitions,
        |partition| partition.nodes.get(),
    )?;
    to.numbered(
        "cluster_epoch_changes_total",
        "Changes of the log's epoch: messages may have been lost",
        Counter,
        LABEL,
        partitions,
        |partition| partition.epoch_changes.get(),
    )?;
    to.numbered(
        "cluster_fenced_total",
        "Times that the other nodes have declared this one gone",
        Counter,
        LABEL,
        partitions,
        |partition| partition.fenced.get(),
    )
}
