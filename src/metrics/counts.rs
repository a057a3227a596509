//! The numbers of each thread, and a few of the whole process.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use super::{
    ApiMetrics, BusyTime, ClusterMetrics, Counter, Dialect, DurationHistogram, EndReason, FanOutHistogram,
    Gauge, HandshakeKind, Labelled, Mark, OrderKind, RefusalReason, SignInOutcome, TlsFailure, TokenOutcome,
};
use crate::permit::ClientPermits;

/// A handle to all numbers of the process, which is cheap to clone.
#[derive(Clone, Debug)]
pub struct Metrics {
    pub(super) shards: Arc<[Arc<ShardMetrics>]>,
    pub(super) acceptors: Arc<[Arc<AcceptorMetrics>]>,
    pub(super) storage: Arc<StorageMetrics>,
    pub(super) cluster: Arc<ClusterMetrics>,
    pub(super) api: Arc<ApiMetrics>,
    pub(super) process: Arc<ProcessMetrics>,
}

#[derive(Debug)]
pub(super) struct ProcessMetrics {
    pub(super) started: Instant,
    pub(super) client_permits: ClientPermits,
    pub(super) is_draining: AtomicBool,
    /// When the certificate in use expires, in Unix seconds; 0 without one, or where that is not known.
    pub(super) certificate_expiry: AtomicU64,
}

impl Metrics {
    /// Numbers for this many shards and acceptors, with the permits of their clients. The uptime starts.
    #[must_use]
    pub fn new(shards: usize, acceptors: usize, client_permits: ClientPermits) -> Self {
        Self {
            shards: (0..shards).map(|_| Arc::default()).collect(),
            acceptors: (0..acceptors).map(|_| Arc::default()).collect(),
            storage: Arc::default(),
            cluster: Arc::default(),
            api: Arc::default(),
            process: Arc::new(ProcessMetrics {
                started: Instant::now(),
                client_permits,
                is_draining: AtomicBool::new(false),
                certificate_expiry: AtomicU64::new(0),
            }),
        }
    }

    /// The same for a node of a cluster, with its numbers.
    #[must_use]
    pub fn with_cluster(self, cluster: impl Into<Arc<ClusterMetrics>>) -> Self {
        Self { cluster: cluster.into(), ..self }
    }

    /// The numbers that the shard of this index writes.
    ///
    /// # Panics
    ///
    /// When there is no such shard.
    #[must_use]
    pub fn shard(&self, index: usize) -> Arc<ShardMetrics> {
        Arc::clone(&self.shards[index])
    }

    /// The numbers that the acceptor of this index writes.
    ///
    /// # Panics
    ///
    /// When there is no such acceptor.
    #[must_use]
    pub fn acceptor(&self, index: usize) -> Arc<AcceptorMetrics> {
        Arc::clone(&self.acceptors[index])
    }

    /// The longest time that the current turn of any shard has taken so far.
    #[must_use]
    pub fn longest_turn(&self) -> Duration {
        self.shards.iter().map(|shard| shard.turn.elapsed()).max().unwrap_or_default()
    }

    /// The numbers that the storage writes; all zero where there is none.
    #[must_use]
    pub fn storage(&self) -> &Arc<StorageMetrics> {
        &self.storage
    }

    /// The numbers of the cluster's logs; none where the server is alone.
    #[must_use]
    pub fn cluster(&self) -> &Arc<ClusterMetrics> {
        &self.cluster
    }

    /// The numbers that the HTTP API writes; all zero where there is none.
    #[must_use]
    pub fn api(&self) -> &Arc<ApiMetrics> {
        &self.api
    }

    /// The number of clients, over all shards.
    #[must_use]
    pub fn clients(&self) -> usize {
        self.process.client_permits.taken()
    }

    /// The most clients, over all shards.
    #[must_use]
    pub fn clients_max(&self) -> usize {
        self.process.client_permits.clients_max()
    }

    /// How busy each shard has been since the start; `None` where the kernel does not tell.
    #[must_use]
    pub fn busy_times(&self) -> Vec<Option<Duration>> {
        self.shards.iter().map(|shard| shard.busy.total()).collect()
    }

    /// The number of upgraded connections of each shard.
    #[must_use]
    pub fn shard_connections(&self) -> Vec<u64> {
        self.shards.iter().map(|shard| shard.connections_of_all()).collect()
    }

    /// Notes when the certificate in use expires, in Unix seconds, if that is known.
    pub fn set_certificate_expiry(&self, end_unix: Option<u64>) {
        self.process.certificate_expiry.store(end_unix.unwrap_or(0), Relaxed);
    }

    /// Notes that the server is shutting down.
    pub fn set_draining(&self) {
        self.process.is_draining.store(true, Relaxed);
    }

    /// True from the beginning of the shutdown.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.process.is_draining.load(Relaxed)
    }

    /// How long the server has been running.
    #[must_use]
    pub fn uptime(&self) -> Duration {
        self.process.started.elapsed()
    }

    pub(super) fn sum(&self, of: impl Fn(&ShardMetrics) -> u64) -> u64 {
        self.shards.iter().map(|shard| of(shard)).sum()
    }

    pub(super) fn sum_of_acceptors(&self, of: impl Fn(&AcceptorMetrics) -> u64) -> u64 {
        self.acceptors.iter().map(|acceptor| of(acceptor)).sum()
    }
}

/// The numbers of one shard.
///
/// Invariant: one thread writes them, any thread reads them. The alignment keeps two shards' numbers off
/// one cache line, and off the pair of lines that x86 prefetches together.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct ShardMetrics {
    /// When the current turn began; none while the shard waits.
    pub turn: Mark,
    /// How long it has worked.
    pub busy: BusyTime,
    /// Upgraded connections over TLS.
    pub tls_connections: Gauge,
    /// Upgrades answered with 101 and admitted.
    pub upgrades: Counter,
    /// Upgraded connections, from 101 until the socket is closed.
    pub connections: Labelled<Gauge, Dialect, { Dialect::ALL.len() }>,
    /// Upgraded connections that came to an end.
    pub connections_ended: Labelled<Counter, EndReason, { EndReason::ALL.len() }>,
    /// Users that came back with their session.
    pub sessions_resumed: Counter,
    /// Sessions that were forgotten before their time, because too many had ended.
    pub sessions_forgotten: Counter,
    /// Attempts to sign in that were answered.
    pub sign_ins: Labelled<Counter, SignInOutcome, { SignInOutcome::ALL.len() }>,
    /// Tokens that were checked after the upgrade.
    pub token_checks: Labelled<Counter, TokenOutcome, { TokenOutcome::ALL.len() }>,
    /// Orders of admins that were carried out.
    pub moderation_orders: Labelled<Counter, OrderKind, { OrderKind::ALL.len() }>,
    /// Text and binary messages received, refused ones included.
    pub messages_received: Labelled<Counter, Dialect, { Dialect::ALL.len() }>,
    /// Messages dropped because their connection had sent more than its rate.
    pub messages_over_rate: Labelled<Counter, Dialect, { Dialect::ALL.len() }>,
    /// Text and binary messages queued for a connection: one broadcast counts once for each receiver.
    pub messages_delivered: Counter,
    /// Bytes received on upgraded connections, framing and TLS included.
    pub received_bytes: Counter,
    /// Bytes that the kernel took from upgraded connections, framing and TLS included.
    pub sent_bytes: Counter,
    /// Bytes waiting in out-queues, with their overhead, once for each connection.
    pub queued_bytes: Gauge,
    /// Messages from other shards that wait in this shard's mailbox.
    pub mailbox_messages: Gauge,
    /// Messages that this shard's rooms have given to the storage without a receipt so far.
    pub writes_unanswered: Gauge,
    /// Events that this shard delivered to a room's members on it.
    pub broadcasts: Counter,
    /// Events that those who watch the server were not told of, because the queue was full.
    pub events_lost: Counter,
    /// Frames encoded; at most one per event and dialect.
    pub frames_encoded: Counter,
    /// Rooms and topics that have their home on this shard.
    pub rooms: Gauge,
    /// Turns of the event loop.
    pub ring_turns: Counter,
    /// Submissions that entered the ring.
    pub ring_submissions: Counter,
    /// Completions handled.
    pub ring_completions: Counter,
    /// Receives that found no provided buffer and had to be started again.
    pub receive_buffer_shortages: Counter,
    /// Time from a home's publishing to the last member's completed send, wherever the members are.
    pub fan_out: FanOutHistogram,
}

impl ShardMetrics {
    /// Upgraded connections of all dialects.
    pub(super) fn connections_of_all(&self) -> u64 {
        Dialect::ALL.iter().map(|dialect| self.connections.with(*dialect).get()).sum()
    }
}

/// The numbers of one acceptor.
///
/// Invariant and alignment as for [`ShardMetrics`].
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct AcceptorMetrics {
    /// Connections taken from the listener.
    pub connections_accepted: Counter,
    /// Attempts to accept that failed, for example because the process has no descriptor left.
    pub accepts_failed: Counter,
    /// Connections that were accepted, and not yet upgraded or answered.
    pub pending_connections: Gauge,
    /// TLS handshakes completed.
    pub tls_handshakes: Labelled<Counter, HandshakeKind, { HandshakeKind::ALL.len() }>,
    /// Connections that ended in their TLS handshake, or between it and the end of their request.
    pub tls_failures: Labelled<Counter, TlsFailure, { TlsFailure::ALL.len() }>,
    /// Tokens of upgrades that were checked.
    pub token_checks: Labelled<Counter, TokenOutcome, { TokenOutcome::ALL.len() }>,
    /// Requests and upgrades that were rejected.
    pub refused: Labelled<Counter, RefusalReason, { RefusalReason::ALL.len() }>,
}

/// The numbers of the storage thread.
#[derive(Debug, Default)]
pub struct StorageMetrics {
    /// 1 while messages are written to the disk; 0 without `--data`, or when that fails.
    pub is_durable: Gauge,
    /// 1 while messages are rejected because they cannot be written.
    pub is_failing: Gauge,
    /// Messages that are on the disk.
    pub messages_kept: Counter,
    /// Messages that members have seen, and that could not be written.
    pub messages_lost: Counter,
    /// Attempts to write that failed.
    pub failures: Counter,
    /// How long batches took, from the first statement until they were on the disk.
    pub commits: DurationHistogram,
}
