//! Times as histograms with fixed bounds, and the quantiles that are read off them.

pub mod quantiles;

use hdrhistogram::Histogram;

/// The largest time that is told apart, in nanoseconds. What takes longer counts as this long.
pub const TIME_NS_MAX: u64 = 60_000_000_000;
const SIGNIFICANT_DIGITS: u8 = 3;

/// An empty histogram of nanoseconds, 1 ns to 60 s with three digits.
#[must_use]
pub fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, TIME_NS_MAX, SIGNIFICANT_DIGITS).expect("Bug: the bounds are constants")
}

/// A histogram of nanoseconds that knows how many values lay outside its bounds.
#[derive(Clone, Debug)]
pub struct Timings {
    /// The values, clamped.
    pub histogram: Histogram<u64>,
    /// How many values were clamped.
    pub clamped_count: u64,
}

impl Default for Timings {
    fn default() -> Self {
        Self { histogram: histogram(), clamped_count: 0 }
    }
}

impl Timings {
    /// Records one value.
    pub fn record(&mut self, nanoseconds: u64) {
        self.record_many(nanoseconds, 1);
    }

    /// Records one value several times, or not at all.
    pub fn record_many(&mut self, nanoseconds: u64, count: u64) {
        if count == 0 {
            // The histogram would still take it for a new maximum.
            return;
        }
        let clamped = nanoseconds.clamp(1, TIME_NS_MAX);
        self.clamped_count += if clamped == nanoseconds { 0 } else { count };
        self.histogram.saturating_record_n(clamped, count);
    }

    /// Adds what another thread has recorded.
    pub fn merge(&mut self, other: &Self) {
        self.histogram.add(&other.histogram).expect("Bug: all histograms have the same bounds");
        self.clamped_count += other.clamped_count;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_outside_the_bounds_is_clamped_and_counted() {
        let mut timings = Timings::default();
        for value in [0, 1, TIME_NS_MAX, TIME_NS_MAX + 1] {
            timings.record(value);
        }
        assert_eq!((timings.histogram.len(), timings.clamped_count), (4, 2));
    }
}
