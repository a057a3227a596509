//! When each broadcast is due.

use std::time::Duration;

/// The most broadcasts of one run: sequence numbers travel as eight hexadecimal digits.
pub const BROADCASTS_MAX: u64 = u32::MAX as u64;

/// A constant rate: broadcast k is due at `start + k / rate`, the first of them during the warm-up.
#[derive(Clone, Copy, Debug)]
pub struct Schedule {
    rate: f64,
    warmup_count: u64,
    measured_count: u64,
}

impl Schedule {
    /// Spreads broadcasts evenly over warm-up and duration. At least one is measured.
    #[must_use]
    pub fn constant(rate: f64, warmup: Duration, duration: Duration) -> Self {
        let count = |span: Duration| (rate * span.as_secs_f64()).round() as u64;
        Self { rate, warmup_count: count(warmup), measured_count: count(duration).max(1) }
    }

    /// How many broadcasts there are in all; sequence numbers are below it.
    #[must_use]
    pub fn total_count(&self) -> u64 {
        self.warmup_count + self.measured_count
    }

    /// How many of them are measured.
    #[must_use]
    pub fn measured_count(&self) -> u64 {
        self.measured_count
    }

    /// The place of a broadcast among the measured ones; `None` for one of the warm-up.
    #[must_use]
    pub fn measured_index(&self, sequence: u64) -> Option<usize> {
        let index = sequence.checked_sub(self.warmup_count)?;
        (index < self.measured_count).then_some(index as usize)
    }

    /// The sequence number of a measured broadcast.
    #[must_use]
    pub fn sequence_of(&self, measured_index: usize) -> u64 {
        self.warmup_count + measured_index as u64
    }

    /// The intended time of a broadcast, when the warm-up begins at `start_ns`.
    #[must_use]
    pub fn due_ns(&self, start_ns: u64, sequence: u64) -> u64 {
        // Exact to a nanosecond for 104 days: f64 holds whole numbers up to 2^53.
        start_ns + (sequence as f64 * 1e9 / self.rate).round() as u64
    }

    /// When measuring begins: the first measured broadcast is due.
    #[must_use]
    pub fn measure_start_ns(&self, start_ns: u64) -> u64 {
        self.due_ns(start_ns, self.warmup_count)
    }

    /// When measuring ends: one interval after the last broadcast was due.
    #[must_use]
    pub fn measure_end_ns(&self, start_ns: u64) -> u64 {
        self.due_ns(start_ns, self.total_count())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn broadcasts_are_due_at_even_distances_from_the_start() {
        let schedule = Schedule::constant(5.0, Duration::from_secs(2), Duration::from_secs(10));
        assert_eq!((schedule.total_count(), schedule.measured_count()), (60, 50));
        assert_eq!(schedule.due_ns(1_000, 0), 1_000);
        assert_eq!(schedule.due_ns(1_000, 7), 1_400_001_000);
        assert_eq!(schedule.measured_index(9), None);
        assert_eq!(schedule.measured_index(10), Some(0));
        assert_eq!(schedule.measured_index(60), None);
        assert_eq!(schedule.sequence_of(49), 59);
        assert_eq!(schedule.measure_start_ns(0), 2_000_000_000);
        assert_eq!(schedule.measure_end_ns(0), 12_000_000_000);
    }

    #[test]
    fn rounding_does_not_add_up() {
        let schedule = Schedule::constant(3.0, Duration::ZERO, Duration::from_secs(3600));
        assert_eq!(schedule.due_ns(0, 3 * 3600), 3_600_000_000_000);
    }

    #[test]
    fn a_slow_rate_still_measures_one_broadcast() {
        let schedule = Schedule::constant(0.1, Duration::ZERO, Duration::from_secs(1));
        assert_eq!(schedule.measured_count(), 1);
    }
}
