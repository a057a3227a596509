//! Quantiles with the number of independent observations behind them.
//!
//! What never arrived is in the histogram with the time that it was waited for, so a quantile at or
//! beyond that time is a lower bound. And deliveries of one broadcast are late together, so the number
//! of independent observations behind a tail is the number of broadcasts that reach into it.

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::timings::Timings;

/// The quantiles that are reported.
pub const QUANTILES: [f64; 7] = [0.5, 0.75, 0.9, 0.95, 0.99, 0.999, 0.9999];
/// A quantile with fewer broadcasts beyond it is thin.
pub const THIN_BELOW: u64 = 10;

/// The deliveries that never arrived.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Undelivered {
    /// How many values of the histogram are only lower bounds.
    pub count: u64,
    /// The smallest of these bounds.
    pub at_least_ns: u64,
}

/// One quantile.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Quantile {
    /// Which, from 0 to 1.
    pub quantile: f64,
    /// Its value.
    pub value_ns: u64,
    /// True when the value is a lower bound, because what would lie beyond never arrived.
    pub at_least: bool,
    /// How many broadcasts have a delivery beyond it.
    pub supporting_broadcasts: u64,
    /// True when these are too few to rely on.
    pub thin: bool,
}

/// The statistics of a histogram.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// How many values there are, the undelivered included.
    pub count: u64,
    /// How many of them never arrived, and count as the time waited.
    pub undelivered: u64,
    /// How many lay outside 1 ns to 60 s.
    pub clamped: u64,
    /// The smallest value.
    pub min_ns: u64,
    /// Their mean.
    pub mean_ns: f64,
    /// Their standard deviation.
    pub stdev_ns: f64,
    /// The largest value.
    pub max_ns: u64,
    /// The quantiles, in rising order.
    pub quantiles: Vec<Quantile>,
}

impl Summary {
    /// Summarises a histogram. `worst` holds the largest value of each broadcast, and is what the support
    /// of a quantile is counted in.
    #[must_use]
    pub fn new(timings: &Timings, undelivered: Undelivered, worst: &Histogram<u64>) -> Self {
        let histogram = &timings.histogram;
        let is_bound = |value_ns| {
            undelivered.count > 0 && histogram.highest_equivalent(value_ns) >= undelivered.at_least_ns
        };
        // A bucket's upper end is within three digits of a value, but it is no lower bound.
        let bounded = |value_ns| match is_bound(value_ns) {
            true => histogram.lowest_equivalent(value_ns).max(undelivered.at_least_ns),
            false => value_ns,
        };
        let quantile = |quantile| {
            let value_ns = bounded(value_at(histogram, quantile));
            let supporting_broadcasts = count_beyond(worst, value_ns);
            Quantile {
                quantile,
                value_ns,
                at_least: is_bound(value_ns),
                supporting_broadcasts,
                thin: supporting_broadcasts < THIN_BELOW,
            }
        };
        Self {
            count: histogram.len(),
            undelivered: undelivered.count,
            clamped: timings.clamped_count,
            min_ns: if histogram.is_empty() { 0 } else { histogram.min() },
            mean_ns: histogram.mean(),
            stdev_ns: histogram.stdev(),
            max_ns: bounded(histogram.max()),
            quantiles: QUANTILES.into_iter().map(quantile).collect(),
        }
    }

    /// Summarises a histogram in which each value is of another broadcast.
    #[must_use]
    pub fn independent(timings: &Timings, undelivered: Undelivered) -> Self {
        Self::new(timings, undelivered, &timings.histogram)
    }

    /// The value of one of [`QUANTILES`].
    ///
    /// # Panics
    ///
    /// When it is none of them.
    #[must_use]
    pub fn value_ns(&self, quantile: f64) -> u64 {
        let found = self.quantiles.iter().find(|candidate| candidate.quantile == quantile);
        found.expect("Bug: a quantile that is not reported").value_ns
    }
}

/// The value at a quantile; never above the maximum, which the histogram knows as a range only.
#[must_use]
pub fn value_at(histogram: &Histogram<u64>, quantile: f64) -> u64 {
    histogram.value_at_quantile(quantile).min(histogram.max())
}

/// How many values lie beyond the bucket of one.
pub(crate) fn count_beyond(histogram: &Histogram<u64>, value_ns: u64) -> u64 {
    let beyond = histogram.highest_equivalent(value_ns) + 1;
    if beyond > histogram.high() { 0 } else { histogram.count_between(beyond, histogram.high()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timings(values: impl IntoIterator<Item = u64>) -> Timings {
        let mut timings = Timings::default();
        values.into_iter().for_each(|value| timings.record(value));
        timings
    }

    #[test]
    fn what_never_arrived_makes_the_tail_a_lower_bound() {
        let mut latency = timings((1..=980).map(|value| value * 1000));
        latency.record_many(5_000_000_000, 20);
        let undelivered = Undelivered { count: 20, at_least_ns: 5_000_000_000 };
        let summary = Summary::independent(&latency, undelivered);
        let at = |quantile| {
            let found = summary.quantiles.iter().find(|candidate| candidate.quantile == quantile);
            found.map(|found| (found.value_ns / 1_000_000, found.at_least)).expect("reported")
        };
        assert_eq!(at(0.95), (0, false));
        assert_eq!(at(0.99), (5_000, true), "2 % are missing, so p99 is not known");
        assert_eq!((summary.count, summary.undelivered), (1000, 20));
    }

    #[test]
    fn support_is_counted_in_broadcasts() {
        // Two of fifty broadcasts were slow for all of their thousand receivers.
        let values = (0..50u64).flat_map(|broadcast| {
            (0..1000u64).map(move |receiver| 1_000_000 + receiver + if broadcast < 2 { 9_000_000 } else { 0 })
        });
        let worst = timings((0..50).map(|broadcast| if broadcast < 2 { 10_001_000 } else { 1_001_000 }));
        let summary = Summary::new(&timings(values), Undelivered::default(), &worst.histogram);
        let p99 = summary.quantiles.iter().find(|candidate| candidate.quantile == 0.99).expect("reported");
        assert!(p99.thin && p99.supporting_broadcasts <= 2, "{p99:?}");
        assert!(!summary.quantiles[0].thin);
    }

    #[test]
    fn an_empty_histogram_has_a_summary() {
        let summary = Summary::independent(&timings([]), Undelivered::default());
        assert_eq!((summary.count, summary.min_ns, summary.max_ns, summary.value_ns(0.5)), (0, 0, 0, 0));
    }

    #[test]
    fn support_beyond_the_largest_value_is_none() {
        let summary = Summary::independent(&timings([crate::timings::TIME_NS_MAX]), Undelivered::default());
        assert_eq!(summary.quantiles[0].supporting_broadcasts, 0);
    }
}
