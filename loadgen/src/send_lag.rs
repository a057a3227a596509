//! How late loadgen itself was, and how many late sends a run may have.
//!
//! A run is INVALID when p99 of the send lag exceeds a share of the median latency, that is, when more than
//! one send in a hundred was late. Of fewer than 1,000 broadcasts, fewer than ten decide p99, and of fewer than 100
//! the latest alone, so that one late send, which every machine has now and then, would spoil every short run.
//! There as many may be late as chance makes of one in a hundred in 95 of 100 runs: 2 of 50, 4 of 150, 15 of
//! 999. The run then says how many were.

use hdrhistogram::Histogram;

use crate::quantiles::{THIN_BELOW, count_beyond, value_at};

/// The share of sends that may be late.
const LATE_SHARE: f64 = 0.01;
/// How often a run whose true share is that large passes, where broadcasts are few.
const CONFIDENCE: f64 = 0.95;

/// What is known of the send lag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SendLag {
    /// How many broadcasts were sent.
    pub count: u64,
    /// How many of them were late by more than is allowed.
    pub late_count: u64,
    /// How many may be.
    pub late_max: u64,
    /// The lag that so many may exceed: p99 where that does not depend on a few.
    pub decisive_ns: u64,
    /// The largest lag.
    pub max_ns: u64,
}

impl SendLag {
    /// Looks at the lags, of which those over `limit_ns` are late.
    #[must_use]
    pub fn of(histogram: &Histogram<u64>, limit_ns: u64) -> Self {
        let count = histogram.len();
        let late_max = late_max(count);
        // Between two ranks, so that no rounding makes it another one.
        let quantile = (count.saturating_sub(late_max) as f64 - 0.5) / count.max(1) as f64;
        let decisive_ns = if count == 0 { 0 } else { value_at(histogram, quantile.max(0.0)) };
        let max_ns = if count == 0 { 0 } else { histogram.max() };
        Self { count, late_count: count_beyond(histogram, limit_ns), late_max, decisive_ns, max_ns }
    }

    /// True when p99 depends on so few broadcasts that they are counted instead.
    #[must_use]
    pub fn is_counted(&self) -> bool {
        is_counted(self.count)
    }
}

fn is_counted(count: u64) -> bool {
    (count as f64 * LATE_SHARE) < THIN_BELOW as f64
}

/// How many of so many sends may be late.
fn late_max(count: u64) -> u64 {
    if !is_counted(count) {
        return (count as f64 * LATE_SHARE) as u64;
    }
    // The quantile of the binomial distribution, term by term.
    let mut term = (1.0 - LATE_SHARE).powi(count as i32);
    let (mut sum, mut late) = (term, 0);
    while sum < CONFIDENCE {
        term *= (count - late) as f64 / (late + 1) as f64 * LATE_SHARE / (1.0 - LATE_SHARE);
        sum += term;
        late += 1;
    }
    late
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure;

    /// scipy 1.17.1, `scipy.stats.binom.ppf(0.95, n, 0.01)`.
    #[test]
    fn few_sends_may_be_late_as_often_as_scipys_binomial_says() {
        for (count, late) in [
            (1, 0),
            (5, 0),
            (6, 1),
            (35, 1),
            (36, 2),
            (50, 2),
            (100, 3),
            (150, 4),
            (300, 6),
            (500, 9),
            (900, 14),
            (999, 15),
        ] {
            assert_eq!(late_max(count), late, "of {count}");
        }
        assert_eq!([0, 1_000, 25_000].map(late_max), [0, 10, 250], "where p99 stands on ten");
    }

    fn lags(count: u64, late: u64) -> SendLag {
        let mut histogram = measure::histogram();
        histogram.record_n(1_000, count - late).expect("within bounds");
        histogram.record_n(1_000_000, late).expect("within bounds");
        SendLag::of(&histogram, 500_000)
    }

    #[test]
    fn the_decisive_lag_is_that_of_the_first_send_that_must_not_be_late() {
        for (count, late_max) in [(50, 2), (150, 4), (999, 15), (1_000, 10), (20_000, 200)] {
            let allowed = lags(count, late_max);
            assert_eq!((allowed.late_count, allowed.late_max), (late_max, late_max));
            assert!(allowed.decisive_ns < 500_000, "{count}: {allowed:?}");
            assert!(lags(count, late_max + 1).decisive_ns > 500_000, "{count}");
        }
    }

    #[test]
    fn nothing_sent_is_nothing_late() {
        let none = SendLag::of(&measure::histogram(), 1);
        assert_eq!((none.count, none.late_count, none.decisive_ns, none.max_ns), (0, 0, 0, 0));
    }
}
