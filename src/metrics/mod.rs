//! The counters of the server, and their rendering as Prometheus text.
//!
//! Each shard writes its own [`ShardMetrics`] and each acceptor its own [`AcceptorMetrics`], structs on cache lines of
//! their own; a scrape sums them. All accesses are relaxed: each value is exact by itself, and a
//! scrape is no snapshot of all of them at one instant. The hot path adds once per batch, not once per message.
//! [`Metrics`] adds the few numbers that belong to the whole process.

mod api;
mod batch_sizes;
mod busy;
mod cluster;
mod cluster_families;
mod counts;
mod durations;
mod families;
mod fan_out;
mod health;
mod labels;
mod mark;
mod numbers;
mod process;
mod scrape;

pub use api::{ApiMetrics, PathDurations};
pub use batch_sizes::BatchSizeHistogram;
pub use busy::BusyTime;
pub use cluster::ClusterMetrics;
pub use counts::{AcceptorMetrics, Metrics, ShardMetrics, StorageMetrics};
pub use durations::DurationHistogram;
pub use fan_out::FanOutHistogram;
pub use health::Health;
pub use labels::{
    Dialect, EndReason, HandshakeKind, Label, Labelled, OrderKind, ProposalRefusal, RefusalReason,
    RoomSizeClass, SignInOutcome, StatusClass, TlsFailure, TokenOutcome,
};
pub use mark::Mark;
pub use numbers::{Counter, Gauge};
pub use scrape::TEXT_TYPE;

#[cfg(test)]
mod tests;
