//! What the server counts, and its rendering as Prometheus text.
//!
//! Each shard writes its own [`ShardMetrics`], a struct on cache lines of its own, and nobody else's; a
//! scrape sums them. All accesses are relaxed: each value is exact by itself, and a scrape is no
//! snapshot of all of them at one instant. The hot path adds once per batch, not once per message.
//! [`Metrics`] adds the few numbers that belong to the whole process.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeGaugeValue, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use crate::permit::ClientPlaces;

/// The content type of [`Metrics::render`].
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A handle to all numbers of the process; cloning it copies a pointer or two.
#[derive(Clone, Debug)]
pub struct Metrics {
    shards: Arc<[Arc<ShardMetrics>]>,
    process: Arc<Process>,
}

#[derive(Debug)]
struct Process {
    started: Instant,
    places: ClientPlaces,
    is_draining: AtomicBool,
}

impl Metrics {
    /// Numbers for this many shards, whose clients take these places. The uptime starts.
    #[must_use]
    pub fn new(shards: usize, places: ClientPlaces) -> Self {
        Self {
            shards: (0..shards).map(|_| Arc::default()).collect(),
            process: Arc::new(Process {
                started: Instant::now(),
                places,
                is_draining: AtomicBool::new(false),
            }),
        }
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

    /// How many clients are admitted, over all shards.
    #[must_use]
    pub fn clients(&self) -> usize {
        self.process.places.taken()
    }

    /// Says that the server is shutting down. There is no way back.
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

    /// Everything as Prometheus text, version 0.0.4; see [`CONTENT_TYPE`].
    #[must_use]
    pub fn render(&self, users_online: usize) -> String {
        let mut registry = Registry::with_prefix("uproar");
        registry.register_collector(Box::new(Scrape { metrics: self.clone(), users_online }));
        let mut text = String::new();
        text::encode_registry(&mut text, &registry).expect("Bug: writing to a String does not fail");
        text
    }

    fn sum(&self, of: impl Fn(&ShardMetrics) -> u64) -> u64 {
        self.shards.iter().map(|shard| of(shard)).sum()
    }
}

/// The numbers of one shard.
///
/// Invariant: one thread writes them, any thread reads them. The alignment keeps two shards' numbers off
/// one cache line, and off the pair of lines that x86 prefetches together.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct ShardMetrics {
    /// Connections taken from the listener.
    pub connections_accepted: Counter,
    /// Connections in the lobby: accepted, and not yet upgraded or answered.
    pub lobby_connections: Gauge,
    /// Upgrades answered with 101 and admitted.
    pub upgrades: Counter,
    /// Requests and upgrades that were turned away.
    pub refused: Labelled<Counter, RefusalReason, { RefusalReason::ALL.len() }>,
    /// Upgraded connections, from 101 until the socket is closed.
    pub connections: Labelled<Gauge, Dialect, { Dialect::ALL.len() }>,
    /// Upgraded connections that came to an end.
    pub connections_ended: Labelled<Counter, EndReason, { EndReason::ALL.len() }>,
    /// Text and binary messages received, refused ones included.
    pub messages_received: Labelled<Counter, Dialect, { Dialect::ALL.len() }>,
    /// Messages queued for a connection: one broadcast counts once for each receiver.
    pub messages_delivered: Counter,
    /// Bytes received on upgraded connections, framing included.
    pub received_bytes: Counter,
    /// Bytes that the kernel took from upgraded connections, framing included.
    pub sent_bytes: Counter,
    /// Bytes that wait in out-queues, counted once for each connection that they wait for.
    pub queued_bytes: Gauge,
    /// Messages from other shards that wait in this shard's mailbox.
    pub mailbox_messages: Gauge,
    /// Events that this shard delivered to a room's members on it.
    pub broadcasts: Counter,
    /// Frames encoded; at most one per event and dialect.
    pub frames_encoded: Counter,
    /// Rooms that have their home on this shard.
    pub rooms: Gauge,
    /// Turns of the floor.
    pub ring_turns: Counter,
    /// Submissions that entered the ring.
    pub ring_submissions: Counter,
    /// Completions handled.
    pub ring_completions: Counter,
    /// Receives that found no provided buffer and had to be started again.
    pub receive_buffer_shortages: Counter,
    /// Time to deliver one event to a room's members on this shard.
    pub fan_out: FanOutHistogram,
}

/// A number that only grows, and that one thread writes.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `count`. With one writer a load and a store do, and cost a tenth of a locked addition.
    pub fn add(&self, count: u64) {
        self.0.store(self.0.load(Relaxed) + count, Relaxed);
    }

    /// The sum so far.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// A number that grows and shrinks, is never below zero, and that one thread writes.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU64);

impl Gauge {
    /// Sets the number.
    pub fn set(&self, value: usize) {
        self.0.store(value as u64, Relaxed);
    }

    /// Adds `count`.
    pub fn add(&self, count: usize) {
        self.0.store(self.0.load(Relaxed) + count as u64, Relaxed);
    }

    /// Takes away `count`, which has been added before.
    pub fn sub(&self, count: usize) {
        let before = self.0.load(Relaxed);
        debug_assert!(before >= count as u64, "what is taken from a gauge was added before");
        self.0.store(before.saturating_sub(count as u64), Relaxed);
    }

    /// The number now.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// A closed set of values of one label.
pub trait Label: Copy + 'static {
    /// The label's name.
    const NAME: &'static str;
    /// All values, in the order of their indices.
    const VALUES: &'static [Self];

    /// The position in [`Label::VALUES`].
    fn index(self) -> usize;

    /// The value as Prometheus sees it.
    fn as_str(self) -> &'static str;
}

/// One counter or gauge for each value of a label.
#[derive(Debug)]
pub struct Labelled<T, L, const N: usize> {
    values: [T; N],
    label: std::marker::PhantomData<L>,
}

impl<T: Default, L, const N: usize> Default for Labelled<T, L, N> {
    fn default() -> Self {
        Self { values: std::array::from_fn(|_| T::default()), label: std::marker::PhantomData }
    }
}

impl<T, L: Label, const N: usize> Labelled<T, L, N> {
    /// The one of this value.
    #[must_use]
    pub fn with(&self, label: L) -> &T {
        &self.values[label.index()]
    }
}

/// Declares a label: its values with their documentation and their text.
macro_rules! label {
    (
        $(#[$about:meta])*
        $name:ident as $label:literal { $($(#[$doc:meta])* $value:ident = $text:literal,)* }
    ) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$doc])* $value,)* }

        impl $name {
            /// All values.
            pub const ALL: &'static [Self] = &[$(Self::$value,)*];
        }

        impl Label for $name {
            const NAME: &'static str = $label;
            const VALUES: &'static [Self] = Self::ALL;

            fn index(self) -> usize {
                self as usize
            }

            fn as_str(self) -> &'static str {
                match self { $(Self::$value => $text,)* }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

label! {
    /// The language that a connection speaks.
    Dialect as "dialect" {
        /// JSON messages with rooms, names and history.
        Chat = "chat",
        /// Messages that go unchanged to everybody on a topic.
        Raw = "raw",
        /// Messages that come back unchanged.
        Echo = "echo",
    }
}

label! {
    /// Why a request or an upgrade was turned away.
    RefusalReason as "reason" {
        /// There are as many clients as allowed.
        Full = "full",
        /// The origin is not allowed.
        Origin = "origin",
        /// The server is shutting down.
        Draining = "draining",
        /// The head or the upgrade is malformed.
        BadRequest = "bad_request",
        /// The path wants an upgrade, or one of another version.
        UpgradeRequired = "upgrade_required",
        /// There is nothing at the path.
        NotFound = "not_found",
        /// The method is neither GET nor HEAD.
        MethodNotAllowed = "method_not_allowed",
        /// The head is longer than allowed.
        HeadTooLarge = "head_too_large",
        /// The head did not arrive in time.
        HandshakeTimeout = "handshake_timeout",
    }
}

label! {
    /// Why an upgraded connection came to its end.
    EndReason as "reason" {
        /// The peer closed it, or asked the server to.
        Closed = "closed",
        /// The peer was gone without a close.
        Lost = "lost",
        /// More waited for it than its send queue may hold.
        SlowConsumer = "slow_consumer",
        /// Nothing came from it within the idle timeout.
        Idle = "idle",
        /// It broke the WebSocket protocol.
        ProtocolError = "protocol_error",
        /// A message was longer than a frame may be.
        TooBig = "too_big",
        /// Text was not UTF-8.
        InvalidUtf8 = "invalid_utf8",
        /// The server shut down.
        Shutdown = "shutdown",
    }
}

label! {
    /// How many members a room has.
    RoomSizeClass as "room_size" {
        /// Up to 10, an empty room included.
        UpTo10 = "1-10",
        /// 11 to 100.
        UpTo100 = "11-100",
        /// 101 to 1,000.
        UpTo1000 = "101-1000",
        /// More.
        Above1000 = "1001+",
    }
}

impl RoomSizeClass {
    /// The class of a room with this many members.
    #[must_use]
    pub fn of(members: usize) -> Self {
        match members {
            0..=10 => Self::UpTo10,
            11..=100 => Self::UpTo100,
            101..=1000 => Self::UpTo1000,
            _ => Self::Above1000,
        }
    }
}

/// How long it takes to deliver an event, by the size of the room.
#[derive(Debug, Default)]
pub struct FanOutHistogram {
    series: Labelled<FanOutSeries, RoomSizeClass, { RoomSizeClass::ALL.len() }>,
}

#[derive(Debug, Default)]
struct FanOutSeries {
    /// One for each bound, and the last for what is above all of them.
    counts: [AtomicU64; FanOutHistogram::BOUNDS_NS.len() + 1],
    sum_ns: AtomicU64,
}

impl FanOutHistogram {
    /// The inclusive upper bounds in nanoseconds, each about twice the one before.
    ///
    /// A delivery costs some microseconds: the first bounds tell small rooms apart, the last ones are a
    /// room of 10,000 members on a busy core.
    pub const BOUNDS_NS: [u64; 15] = [
        50_000,
        100_000,
        250_000,
        500_000,
        1_000_000,
        2_500_000,
        5_000_000,
        10_000_000,
        25_000_000,
        50_000_000,
        100_000_000,
        250_000_000,
        500_000_000,
        1_000_000_000,
        2_500_000_000,
    ];

    /// Counts one delivery that took this long.
    pub fn record(&self, class: RoomSizeClass, took: Duration) {
        let took_ns = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let series = self.series.with(class);
        let bucket = Self::BOUNDS_NS.partition_point(|bound| *bound < took_ns);
        // The thread that sends the last byte records, and that may be another shard's.
        series.counts[bucket].fetch_add(1, Relaxed);
        series.sum_ns.fetch_add(took_ns, Relaxed);
    }
}

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

    fn fan_out(&mut self, name: &str, help: &str, shards: &[Arc<ShardMetrics>]) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Histogram)?;
        for class in RoomSizeClass::ALL {
            let series = || shards.iter().map(|shard| shard.fan_out.series.with(*class));
            let bounds = FanOutHistogram::BOUNDS_NS.iter().map(|ns| *ns as f64 / 1e9);
            let buckets: Vec<(f64, u64)> = bounds
                .chain([f64::INFINITY])
                .enumerate()
                .map(|(bucket, bound)| {
                    (bound, series().map(|series| series.counts[bucket].load(Relaxed)).sum())
                })
                .collect();
            let count = buckets.iter().map(|(_, count)| count).sum();
            let sum_ns: u64 = series().map(|series| series.sum_ns.load(Relaxed)).sum();
            let labels = [(RoomSizeClass::NAME, class.as_str())];
            family.encode_family(&labels)?.encode_histogram::<NoLabelSet>(
                sum_ns as f64 / 1e9,
                count,
                &buckets,
                None,
            )?;
        }
        Ok(())
    }
}

/// One scrape: the numbers, and what was read elsewhere for it.
#[derive(Debug)]
struct Scrape {
    metrics: Metrics,
    users_online: usize,
}

impl Collector for Scrape {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        use MetricType::{Counter, Gauge};
        let mut to = Families(encoder);
        let Self { metrics, users_online } = self;

        let clients_max = metrics.process.places.clients_max() as u64;
        to.one("uptime_seconds", "Time since the start", Gauge, metrics.uptime().as_secs_f64())?;
        to.one("draining", "1 while the server shuts down", Gauge, u64::from(metrics.is_draining()))?;
        to.one("clients", "Clients admitted", Gauge, metrics.clients() as u64)?;
        to.one("clients_max", "The most clients that are admitted", Gauge, clients_max)?;
        to.one("users_online", "Users in all rooms", Gauge, *users_online as u64)?;

        to.one(
            "connections_accepted_total",
            "Connections accepted",
            Counter,
            metrics.sum(|s| s.connections_accepted.get()),
        )?;
        to.one(
            "lobby_connections",
            "Connections not yet upgraded or answered",
            Gauge,
            metrics.sum(|s| s.lobby_connections.get()),
        )?;
        to.one("upgrades_total", "Upgrades admitted", Counter, metrics.sum(|s| s.upgrades.get()))?;
        to.each("refused_total", "Requests and upgrades turned away", Counter, |reason| {
            metrics.sum(|s| s.refused.with(reason).get())
        })?;
        to.each("connections", "Upgraded connections", Gauge, |dialect| {
            metrics.sum(|s| s.connections.with(dialect).get())
        })?;
        to.each("connections_ended_total", "Upgraded connections ended", Counter, |reason| {
            metrics.sum(|s| s.connections_ended.with(reason).get())
        })?;

        to.each("messages_received_total", "Messages received", Counter, |dialect| {
            metrics.sum(|s| s.messages_received.with(dialect).get())
        })?;
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
            "Bytes waiting in out-queues, once for each receiver",
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
        to.one("rooms", "Rooms", Gauge, metrics.sum(|s| s.rooms.get()))?;
        to.fan_out(
            "fan_out_seconds",
            "Time to deliver an event to the members on one shard",
            &metrics.shards,
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

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};

    use super::*;

    fn metrics(shards: usize, clients_max: usize) -> Metrics {
        Metrics::new(shards, ClientPlaces::new(clients_max))
    }

    /// Reads text of version 0.0.4 as strictly as its rules are: each sample belongs to the family whose
    /// HELP and TYPE came right before it, no family comes twice, and every line ends.
    fn read(text: &str) -> HashMap<String, f64> {
        assert!(text.ends_with('\n'));
        let mut samples = HashMap::new();
        let mut families = HashSet::new();
        let (mut family, mut kind) = (String::new(), String::new());
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                family = rest.split_once(' ').unwrap().0.to_owned();
                assert!(families.insert(family.clone()), "{family} comes twice");
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, of) = rest.split_once(' ').unwrap();
                assert_eq!(name, family);
                assert!(["counter", "gauge", "histogram"].contains(&of));
                assert_eq!(of == "counter", name.ends_with("_total"), "{name}");
                kind = of.to_owned();
            } else {
                assert!(!line.starts_with('#'), "{line}");
                let (series, value) = line.rsplit_once(' ').unwrap();
                let name = series.split('{').next().unwrap();
                let suffix = name.strip_prefix(family.as_str()).unwrap();
                match kind.as_str() {
                    "histogram" => assert!(["_sum", "_count", "_bucket"].contains(&suffix)),
                    _ => assert_eq!(suffix, ""),
                }
                let value = value.parse().unwrap();
                assert!(samples.insert(series.to_owned(), value).is_none(), "{series} comes twice");
            }
        }
        samples
    }

    #[test]
    fn shards_are_summed_and_labels_kept_apart() {
        let metrics = metrics(2, 10);
        for (shard, count) in [(0, 3), (1, 4)] {
            let shard = metrics.shard(shard);
            shard.connections_accepted.add(count);
            shard.messages_received.with(Dialect::Raw).add(count);
            shard.connections.with(Dialect::Echo).add(5);
            shard.connections.with(Dialect::Echo).sub(2);
            shard.queued_bytes.set(100);
        }
        metrics.shard(0).connections_ended.with(EndReason::SlowConsumer).add(1);
        metrics.shard(1).refused.with(RefusalReason::Origin).add(2);

        let samples = read(&metrics.render(6));
        assert_eq!(samples["uproar_connections_accepted_total"], 7.0);
        assert_eq!(samples["uproar_messages_received_total{dialect=\"raw\"}"], 7.0);
        assert_eq!(samples["uproar_messages_received_total{dialect=\"chat\"}"], 0.0);
        assert_eq!(samples["uproar_connections{dialect=\"echo\"}"], 6.0);
        assert_eq!(samples["uproar_queued_bytes"], 200.0);
        assert_eq!(samples["uproar_connections_ended_total{reason=\"slow_consumer\"}"], 1.0);
        assert_eq!(samples["uproar_refused_total{reason=\"origin\"}"], 2.0);
        assert_eq!(samples["uproar_users_online"], 6.0);
        assert_eq!(samples["uproar_clients_max"], 10.0);
        assert!(samples["uproar_uptime_seconds"] >= 0.0);
    }

    #[test]
    fn counters_are_typed_under_the_name_that_their_samples_have() {
        let text = metrics(1, 1).render(6);
        let wanted = "# HELP uproar_upgrades_total Upgrades admitted\n\
                      # TYPE uproar_upgrades_total counter\n\
                      uproar_upgrades_total 0\n";
        assert!(text.contains(wanted), "{text}");
        assert!(!text.contains("# EOF"));
    }

    #[test]
    fn fan_out_buckets_are_cumulative_and_their_bounds_inclusive() {
        let metrics = metrics(2, 1);
        let record = |shard, micros| {
            let shard: Arc<ShardMetrics> = metrics.shard(shard);
            shard.fan_out.record(RoomSizeClass::UpTo100, Duration::from_micros(micros));
        };
        record(0, 0);
        record(0, 50);
        record(1, 51);
        record(1, 1_000);
        record(0, 3_000_000);

        let samples = read(&metrics.render(6));
        let bucket = |le: &str| {
            let wanted: f64 = le.parse().unwrap();
            let (_, count) = samples
                .iter()
                .find(|(series, _)| {
                    series
                        .strip_prefix("uproar_fan_out_seconds_bucket{le=\"")
                        .and_then(|rest| rest.strip_suffix("\",room_size=\"11-100\"}"))
                        .is_some_and(|le| le.parse::<f64>().unwrap() == wanted)
                })
                .unwrap();
            *count
        };
        assert_eq!(bucket("0.00005"), 2.0);
        assert_eq!(bucket("0.0001"), 3.0);
        assert_eq!(bucket("0.0005"), 3.0);
        assert_eq!(bucket("0.001"), 4.0);
        assert_eq!(bucket("2.5"), 4.0);
        assert_eq!(bucket("+Inf"), 5.0);
        assert_eq!(samples["uproar_fan_out_seconds_count{room_size=\"11-100\"}"], 5.0);
        let sum = samples["uproar_fan_out_seconds_sum{room_size=\"11-100\"}"];
        assert!((sum - 3.001_101).abs() < 1e-9, "{sum}");
        assert_eq!(samples["uproar_fan_out_seconds_count{room_size=\"1-10\"}"], 0.0);
    }

    #[test]
    fn rooms_fall_into_the_class_of_their_size() {
        let classes = [0, 10, 11, 100, 101, 1000, 1001].map(|members| RoomSizeClass::of(members).as_str());
        assert_eq!(classes, ["1-10", "1-10", "11-100", "11-100", "101-1000", "101-1000", "1001+"]);
    }

    #[test]
    fn shards_share_no_cache_line() {
        assert_eq!(align_of::<ShardMetrics>(), 128);
        assert_eq!(size_of::<ShardMetrics>() % 128, 0);
    }
}
