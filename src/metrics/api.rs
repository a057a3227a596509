//! The numbers of the HTTP API.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::{Counter, DurationHistogram, Gauge, Labelled, Mark, OrderKind, StatusClass};

/// The numbers of the HTTP API's thread.
#[derive(Debug, Default)]
pub struct ApiMetrics {
    /// Requests answered, by the class of their status.
    pub requests: Labelled<Counter, StatusClass, { StatusClass::ALL.len() }>,
    /// Requests that are not answered yet.
    pub requests_under_way: Gauge,
    /// Requests that were refused with 429 or 503, because as many as allowed were being carried out or noted on the disk.
    pub requests_refused: Counter,
    /// Open connections.
    pub connections: Gauge,
    /// Connections that were answered with 429, because all the others had a request under way.
    pub connections_refused: Counter,
    /// Open streams of events.
    pub event_streams: Gauge,
    /// Streams of events that were refused with 429, because there were as many as allowed.
    pub event_streams_refused: Counter,
    /// Idempotency keys that were forgotten before their time, because they and their answers were too many.
    pub keys_forgotten_early: Counter,
    /// Orders of backends that no single shard carries out.
    pub moderation_orders: Labelled<Counter, OrderKind, { OrderKind::ALL.len() }>,
    /// When its thread has last run: every second, unless it hangs.
    pub heartbeat: Mark,
    /// How long requests took, by the path as a pattern.
    pub durations: PathDurations,
}

/// How long requests took, by path. Only the API's own thread and scrapes lock it.
///
/// Bounded: a path is a pattern of the router, never what a caller has sent.
#[derive(Debug, Default)]
pub struct PathDurations(Mutex<BTreeMap<Arc<str>, Arc<DurationHistogram>>>);

impl PathDurations {
    /// Counts a request to this pattern.
    pub fn record(&self, pattern: &str, took: Duration) {
        // A poisoned lock is harmless: entries are only added.
        let mut paths = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match paths.get(pattern) {
            Some(durations) => durations.record(took),
            None => paths.entry(pattern.into()).or_default().record(took),
        }
    }

    /// The paths that were requested so far, in order.
    pub(super) fn all(&self) -> Vec<(Arc<str>, Arc<DurationHistogram>)> {
        let paths = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        paths.iter().map(|(path, durations)| (Arc::clone(path), Arc::clone(durations))).collect()
    }
}
