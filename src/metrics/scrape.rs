//! Renders all numbers as Prometheus text.

use std::fmt;
use std::sync::atomic::Ordering::Relaxed;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use super::Metrics;
use super::cluster_families;
use super::families::Families;
use super::process::ProcessCollector;
use crate::log_queue;

/// The content type of the text.
pub const TEXT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

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
        to.build_info()?;
        to.one("uptime_seconds", "Time since the start", Gauge, metrics.uptime().as_secs_f64())?;
        to.one("draining", "1 while the server shuts down", Gauge, u64::from(metrics.is_draining()))?;
        to.one("clients", "Connected clients", Gauge, metrics.clients() as u64)?;
        to.one("clients_max", "The most clients that may connect", Gauge, clients_max)?;
        to.one("users_online", "Users in all rooms", Gauge, *users_online as u64)?;
        let certificate_expiry = metrics.process.certificate_expiry.load(Relaxed);
        if certificate_expiry > 0 {
            to.one(
                "certificate_expiry_timestamp_seconds",
                "When the TLS certificate in use expires, in Unix seconds",
                Gauge,
                certificate_expiry,
            )?;
        }
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
        to.numbered(
            "shard_connections",
            "Upgraded connections of each shard",
            Gauge,
            "shard",
            &metrics.shards,
            |shard| shard.connections_of_all(),
        )?;
        to.busy(
            "shard_busy_seconds_total",
            "Time in which the thread of a shard worked or waited for its core, without busy polling",
            metrics,
        )?;
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
        to.each("token_checks_total", "Tokens checked", Counter, |outcome| {
            metrics.sum(|s| s.token_checks.with(outcome).get())
                + metrics.sum_of_acceptors(|a| a.token_checks.with(outcome).get())
        })?;
        to.each("moderation_orders_total", "Orders of admins that were carried out", Counter, |order| {
            metrics.sum(|s| s.moderation_orders.with(order).get())
                + metrics.api().moderation_orders.with(order).get()
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
        to.one(
            "events_lost_total",
            "Events left out of /events, because a queue was full",
            Counter,
            metrics.sum(|s| s.events_lost.get()),
        )?;
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
            "storage_failing",
            "1 while messages are rejected because they cannot be written",
            Gauge,
            storage.is_failing.get(),
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

        cluster_families::encode(metrics.cluster(), &mut to)?;

        let api = metrics.api();
        to.each("api_requests_total", "Requests to the HTTP API answered", Counter, |class| {
            api.requests.with(class).get()
        })?;
        to.one(
            "api_requests_under_way",
            "Requests to the HTTP API that are not answered yet",
            Gauge,
            api.requests_under_way.get(),
        )?;
        to.one(
            "api_requests_refused_total",
            "Requests to the HTTP API refused, because too many were being carried out or noted on the disk",
            Counter,
            api.requests_refused.get(),
        )?;
        to.paths("api_request_seconds", "Time to answer a request to the HTTP API", &api.durations)?;
        to.one("api_connections", "Open connections of the HTTP API", Gauge, api.connections.get())?;
        to.one(
            "api_connections_refused_total",
            "Connections of the HTTP API refused, because all others had a request under way",
            Counter,
            api.connections_refused.get(),
        )?;
        to.one("api_event_streams", "Open event streams of the HTTP API", Gauge, api.event_streams.get())?;
        to.one(
            "api_event_streams_refused_total",
            "Event streams of the HTTP API refused, because there were as many as allowed",
            Counter,
            api.event_streams_refused.get(),
        )?;
        to.one(
            "api_idempotency_keys_forgotten_total",
            "Idempotency keys forgotten before their time, because they and their answers were too many",
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
        let mut registry = Registry::default();
        registry.sub_registry_with_prefix("process").register_collector(Box::new(ProcessCollector));
        let own = registry.sub_registry_with_prefix("uproar");
        own.register_collector(Box::new(Scrape { metrics: self.clone(), users_online }));
        let mut text = String::new();
        text::encode_registry(&mut text, &registry).expect("Bug: writing to a String does not fail");
        text
    }
}
