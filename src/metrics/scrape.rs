//! Renders all numbers as Prometheus text.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeGaugeValue, MetricEncoder, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use super::{Dialect, DurationHistogram, Label, Metrics, RoomSizeClass, ShardMetrics};
use crate::log_queue;

/// The content type of the text.
pub const TEXT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Writes families by hand: the crate's own counters are OpenMetrics, whose TYPE line leaves out the
/// `_total` that a sample has. To a reader of version 0.0.4 the two would be different families.
struct Families<'a>(DescriptorEncoder<'a>);

impl Families<'_> {
    fn one(&mut self, name: &str, help: &str, kind: MetricType, value: impl EncodeGaugeValue) -> fmt::Result {
        self.0.encode_descriptor(name, help, None, kind)?.encode_gauge(&value)
    }

    fn each<L: Label>(
        &mut self,
        name: &str,
        help: &str,
        kind: MetricType,
        value: impl Fn(L) -> u64,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, kind)?;
        for label in L::VALUES {
            let labels = [(L::NAME, label.as_str())];
            family.encode_family(&labels)?.encode_gauge(&value(*label))?;
        }
        Ok(())
    }

    fn shards(
        &mut self,
        name: &str,
        help: &str,
        shards: &[Arc<ShardMetrics>],
        value: impl Fn(&ShardMetrics) -> u64,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (index, shard) in shards.iter().enumerate() {
            let labels = [("shard", index.to_string())];
            family.encode_family(&labels)?.encode_gauge(&value(shard))?;
        }
        Ok(())
    }

    fn fan_out(&mut self, name: &str, help: &str, shards: &[Arc<ShardMetrics>]) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Histogram)?;
        for class in RoomSizeClass::ALL {
            let series = || shards.iter().map(|shard| shard.fan_out.series.with(*class));
            let labels = [(RoomSizeClass::NAME, class.as_str())];
            histogram(family.encode_family(&labels)?, series)?;
        }
        Ok(())
    }

    fn durations(&mut self, name: &str, help: &str, durations: &DurationHistogram) -> fmt::Result {
        let family = self.0.encode_descriptor(name, help, None, MetricType::Histogram)?;
        histogram(family, || std::iter::once(durations))
    }
}

/// Writes the sum of histograms.
fn histogram<'a, I: Iterator<Item = &'a DurationHistogram>>(
    mut to: MetricEncoder<'_>,
    series: impl Fn() -> I,
) -> fmt::Result {
    let mut buckets: Vec<(f64, u64)> =
        DurationHistogram::BOUNDS_NS.iter().map(|ns| (*ns as f64 / 1e9, 0)).collect();
    buckets.push((f64::INFINITY, 0));
    for durations in series() {
        for ((_, sum), count) in buckets.iter_mut().zip(durations.counts()) {
            *sum += count;
        }
    }
    let count = buckets.iter().map(|(_, count)| count).sum();
    let sum = series().map(DurationHistogram::sum_seconds).sum();
    to.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
}

/// One scrape: the numbers, and values from elsewhere.
#[derive(Debug)]
pub(super) struct Scrape {
    pub(super) metrics: Metrics,
    pub(super) users_online: usize,
}

impl Collector for Scrape {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        use MetricType::{Counter, Gauge};
        let mut to = Families(encoder);
        let Self { metrics, users_online } = self;

        let clients_max = metrics.process.client_permits.clients_max() as u64;
        to.one("uptime_seconds", "Time since the start", Gauge, metrics.uptime().as_secs_f64())?;
        to.one("draining", "1 while the server shuts down", Gauge, u64::from(metrics.is_draining()))?;
        to.one("clients", "Connected clients", Gauge, metrics.clients() as u64)?;
        to.one("clients_max", "The most clients that may connect", Gauge, clients_max)?;
        to.one("users_online", "Users in all rooms", Gauge, *users_online as u64)?;
        to.one(
            "log_lines_dropped_total",
            "Log lines dropped because the reader of the log was too slow",
            Counter,
            log_queue::lines_dropped(),
        )?;

        to.one(
            "connections_accepted_total",
            "Connections accepted",
            Counter,
            metrics.sum_of_acceptors(|a| a.connections_accepted.get()),
        )?;
        to.one(
            "accepts_failed_total",
            "Attempts to accept that failed",
            Counter,
            metrics.sum_of_acceptors(|a| a.accepts_failed.get()),
        )?;
        to.one(
            "pending_connections",
            "Connections not yet upgraded or answered",
            Gauge,
            metrics.sum_of_acceptors(|a| a.pending_connections.get()),
        )?;
        to.each("tls_handshakes_total", "TLS handshakes completed", Counter, |kind| {
            metrics.sum_of_acceptors(|a| a.tls_handshakes.with(kind).get())
        })?;
        to.each(
            "tls_failures_total",
            "Connections that failed in TLS before their upgrade",
            Counter,
            |reason| metrics.sum_of_acceptors(|a| a.tls_failures.with(reason).get()),
        )?;
        to.one(
            "tls_connections",
            "Upgraded connections over TLS",
            Gauge,
            metrics.sum(|s| s.tls_connections.get()),
        )?;
        to.one("upgrades_total", "Upgrades admitted", Counter, metrics.sum(|s| s.upgrades.get()))?;
        to.each("refused_total", "Requests and upgrades rejected", Counter, |reason| {
            metrics.sum_of_acceptors(|a| a.refused.with(reason).get())
        })?;
        to.each("connections", "Upgraded connections", Gauge, |dialect| {
            metrics.sum(|s| s.connections.with(dialect).get())
        })?;
        to.shards("shard_connections", "Upgraded connections of each shard", &metrics.shards, |shard| {
            Dialect::ALL.iter().map(|dialect| shard.connections.with(*dialect).get()).sum()
        })?;
        to.each("connections_ended_total", "Upgraded connections ended", Counter, |reason| {
            metrics.sum(|s| s.connections_ended.with(reason).get())
        })?;

        to.one(
            "sessions_resumed_total",
            "Users that came back with their session",
            Counter,
            metrics.sum(|s| s.sessions_resumed.get()),
        )?;
        to.one(
            "sessions_forgotten_total",
            "Sessions that were forgotten early, because too many had ended",
            Counter,
            metrics.sum(|s| s.sessions_forgotten.get()),
        )?;
        to.each("sign_ins_total", "Attempts to sign in", Counter, |outcome| {
            metrics.sum(|s| s.sign_ins.with(outcome).get())
        })?;
        to.each("moderation_orders_total", "Orders of admins that were carried out", Counter, |order| {
            metrics.sum(|s| s.moderation_orders.with(order).get())
        })?;

        to.each("messages_received_total", "Messages received", Counter, |dialect| {
            metrics.sum(|s| s.messages_received.with(dialect).get())
        })?;
        to.each(
            "messages_over_rate_total",
            "Messages dropped because their connection had sent more than its rate",
            Counter,
            |dialect| metrics.sum(|s| s.messages_over_rate.with(dialect).get()),
        )?;
        to.one(
            "messages_delivered_total",
            "Messages queued, once for each receiver",
            Counter,
            metrics.sum(|s| s.messages_delivered.get()),
        )?;
        to.one(
            "received_bytes_total",
            "Bytes received on upgraded connections",
            Counter,
            metrics.sum(|s| s.received_bytes.get()),
        )?;
        to.one(
            "sent_bytes_total",
            "Bytes sent on upgraded connections",
            Counter,
            metrics.sum(|s| s.sent_bytes.get()),
        )?;
        to.one(
            "queued_bytes",
            "Bytes waiting in out-queues, with their overhead, once for each receiver",
            Gauge,
            metrics.sum(|s| s.queued_bytes.get()),
        )?;
        to.one(
            "mailbox_messages",
            "Messages waiting between shards",
            Gauge,
            metrics.sum(|s| s.mailbox_messages.get()),
        )?;

        to.one(
            "broadcasts_total",
            "Events delivered to a room, once for each shard with members",
            Counter,
            metrics.sum(|s| s.broadcasts.get()),
        )?;
        to.one("frames_encoded_total", "Frames encoded", Counter, metrics.sum(|s| s.frames_encoded.get()))?;
        to.one("rooms", "Rooms and topics", Gauge, metrics.sum(|s| s.rooms.get()))?;
        to.fan_out(
            "fan_out_seconds",
            "Time from publishing a message to its last member's completed send, of at most 50 messages a second \
             (100 at once) for each shard and room size",
            &metrics.shards,
        )?;

        let storage = metrics.storage();
        to.one(
            "storage_durable",
            "1 while messages are written to the disk",
            Gauge,
            storage.is_durable.get(),
        )?;
        to.one(
            "storage_waiting_messages",
            "Messages on their way to the disk",
            Gauge,
            metrics.sum(|s| s.writes_unanswered.get()),
        )?;
        to.one("storage_messages_total", "Messages written", Counter, storage.messages_kept.get())?;
        to.one(
            "storage_messages_lost_total",
            "Messages that could not be written, though members had seen them",
            Counter,
            storage.messages_lost.get(),
        )?;
        to.one("storage_failures_total", "Batches and retries that failed", Counter, storage.failures.get())?;
        to.durations(
            "storage_commit_seconds",
            "Time to write a batch of messages and have it on the disk",
            &storage.commits,
        )?;

        let api = metrics.api();
        to.each("api_requests_total", "Requests to the HTTP API answered", Counter, |class| {
            api.requests.with(class).get()
        })?;
        to.one(
            "api_idempotency_keys_forgotten_total",
            "Idempotency keys forgotten before their time, because there were too many",
            Counter,
            api.keys_forgotten_early.get(),
        )?;

        to.one("ring_turns_total", "Turns of the event loops", Counter, metrics.sum(|s| s.ring_turns.get()))?;
        to.one(
            "ring_submissions_total",
            "Submissions that entered the rings",
            Counter,
            metrics.sum(|s| s.ring_submissions.get()),
        )?;
        to.one(
            "ring_completions_total",
            "Completions handled",
            Counter,
            metrics.sum(|s| s.ring_completions.get()),
        )?;
        to.one(
            "receive_buffer_shortages_total",
            "Receives that found no provided buffer",
            Counter,
            metrics.sum(|s| s.receive_buffer_shortages.get()),
        )
    }
}

impl Metrics {
    /// Everything as Prometheus text, version 0.0.4.
    #[must_use]
    pub fn render(&self, users_online: usize) -> String {
        let mut registry = Registry::with_prefix("uproar");
        registry.register_collector(Box::new(Scrape { metrics: self.clone(), users_online }));
        let mut text = String::new();
        text::encode_registry(&mut text, &registry).expect("Bug: writing to a String does not fail");
        text
    }
}
