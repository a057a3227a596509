//! How busy each shard has been in the last seconds.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::metrics::Metrics;

/// The least time over which a share is told, since the kernel counts in steps of 10 ms.
const SPAN_MIN: Duration = Duration::from_secs(1);

/// Readings of the busy times of all shards, from which shares are told.
#[derive(Debug)]
pub(super) struct ShardLoads(Mutex<Readings>);

#[derive(Debug)]
struct Readings {
    /// The reading to compare with: that before the last one.
    before: Reading,
    last: Reading,
}

#[derive(Clone, Debug)]
struct Reading {
    at: Instant,
    busy: Vec<Option<Duration>>,
}

impl Reading {
    fn of(metrics: &Metrics) -> Self {
        Self { at: Instant::now(), busy: metrics.busy_times() }
    }
}

impl ShardLoads {
    /// The first reading.
    pub(super) fn new(metrics: &Metrics) -> Self {
        let first = Reading::of(metrics);
        Self(Mutex::new(Readings { before: first.clone(), last: first }))
    }

    /// Takes a reading, every few seconds.
    pub(super) fn note(&self, metrics: &Metrics) {
        let reading = Reading::of(metrics);
        self.with(|readings| readings.before = std::mem::replace(&mut readings.last, reading));
    }

    /// By shard, its busy share of the time since the reading before the last: 0 to 1. `None` where it is not known.
    pub(super) fn busy_shares(&self, metrics: &Metrics) -> Vec<Option<f64>> {
        let before = self.with(|readings| readings.before.clone());
        shares(&before, &Reading::of(metrics))
    }

    fn with<T>(&self, with: impl FnOnce(&mut Readings) -> T) -> T {
        // Each change is complete before anything can panic.
        with(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn shares(before: &Reading, now: &Reading) -> Vec<Option<f64>> {
    let span = now.at.saturating_duration_since(before.at);
    let share = |(before, now): (&Option<Duration>, &Option<Duration>)| {
        let busy = (*now)?.saturating_sub((*before)?);
        (span >= SPAN_MIN).then(|| (busy.as_secs_f64() / span.as_secs_f64()).min(1.0))
    };
    before.busy.iter().zip(&now.busy).map(share).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_told_over_a_second_or_more() {
        let at = Instant::now();
        let reading = |later_ms, busy_ms: [Option<u64>; 3]| Reading {
            at: at + Duration::from_millis(later_ms),
            busy: busy_ms.map(|ms| ms.map(Duration::from_millis)).to_vec(),
        };
        let before = reading(0, [Some(100), Some(0), None]);
        let share = |later_ms, busy_ms| shares(&before, &reading(later_ms, busy_ms));
        assert_eq!(share(2_000, [Some(600), Some(0), Some(10)]), [Some(0.25), Some(0.0), None]);
        assert_eq!(share(999, [Some(600), Some(0), Some(10)]), [None; 3]);
        assert_eq!(share(1_000, [Some(1_110), Some(0), None]), [Some(1.0), Some(0.0), None], "rounded");
    }
}
