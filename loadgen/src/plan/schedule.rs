//! When each broadcast is due.
//!
//! A run is a warm-up followed by stages, each with a rate of its own. Counted in broadcasts instead of
//! seconds, all stages look alike: one broadcast a unit. So arrivals are made on that axis (one every
//! unit, or with exponential gaps of one unit on average) and then mapped to times, which keeps both
//! kinds exact at the boundaries of stages.

use std::ops::Range;
use std::time::Duration;

use crate::options::arrivals::{Arrivals, Stage};

/// All due times of a run, counted from the beginning of its warm-up.
#[derive(Clone, Debug)]
pub struct Schedule {
    /// The warm-up, if it has any broadcast, and the stages; never empty.
    segments: Vec<Segment>,
    warmup_count: u64,
    measured_count: u64,
    measured_ns: Range<u64>,
    /// For each stage, the place of the first measured broadcast behind it.
    stage_ends: Vec<usize>,
    /// The due times where they are random.
    random_ns: Option<Vec<u64>>,
}

/// A stretch at one rate, from a unit (a broadcast at even distances) and a time on.
#[derive(Clone, Copy, Debug)]
struct Segment {
    begin_units: f64,
    begin_ns: f64,
    rate: f64,
}

impl Schedule {
    /// A warm-up at the first stage's rate, and then the stages. Every stage takes the time of its whole
    /// number of broadcasts, at least one.
    ///
    /// # Panics
    ///
    /// Without a stage.
    #[must_use]
    pub fn new(warmup: Duration, stages: &[Stage], arrivals: Arrivals, seed: u64) -> Self {
        let first = stages.first().expect("Bug: a run without a stage");
        let warmup = Stage { duration: warmup, rate: first.rate };
        let (mut segments, mut units, mut ns) = (Vec::new(), 0.0, 0.0);
        let counts = stages.iter().map(|stage| (stage.rate, stage.count().max(1)));
        for (rate, count) in std::iter::once((warmup.rate, warmup.count())).chain(counts) {
            segments.push(Segment { begin_units: units, begin_ns: ns, rate });
            units += count as f64;
            ns += count as f64 * 1e9 / rate;
        }
        let warmup_count = warmup.count();
        let mut schedule = Self {
            segments,
            warmup_count,
            measured_count: units as u64 - warmup_count,
            measured_ns: 0..0,
            stage_ends: Vec::new(),
            random_ns: None,
        };
        let begins = schedule.segments[1..].iter().map(|segment| segment.begin_units);
        let end_units: Vec<f64> = begins.skip(1).chain([units]).collect();
        schedule.stage_ends = end_units.iter().map(|&units| units as usize - warmup_count as usize).collect();
        schedule.measured_ns = schedule.time_ns(warmup_count as f64)..schedule.time_ns(units);
        if arrivals == Arrivals::Poisson {
            schedule.randomise(units, &end_units, seed);
        }
        schedule
    }

    /// Replaces even distances by exponential ones. At least one broadcast is measured.
    fn randomise(&mut self, end_units: f64, stage_end_units: &[f64], seed: u64) {
        let mut random = fastrand::Rng::with_seed(seed);
        let begin_units = self.warmup_count as f64;
        // In (0, 1], so that its logarithm is finite.
        let mut gap = || -(1.0 - random.f64()).ln();
        let mut arrivals = Vec::with_capacity((end_units * 1.1) as usize + 64);
        let mut units = gap();
        while units < end_units {
            arrivals.push(units);
            units += gap();
        }
        if arrivals.last().is_none_or(|&last| last < begin_units) {
            arrivals.push(begin_units + random.f64() * (end_units - begin_units));
        }
        self.warmup_count = arrivals.partition_point(|&units| units < begin_units) as u64;
        self.measured_count = arrivals.len() as u64 - self.warmup_count;
        let behind = |end: &f64| arrivals.partition_point(|units| units < end) - self.warmup_count as usize;
        self.stage_ends = stage_end_units.iter().map(behind).collect();
        let floor = |units: f64| if units < begin_units { 0 } else { self.measured_ns.start };
        self.random_ns = Some(arrivals.iter().map(|&units| self.time_ns(units).max(floor(units))).collect());
    }

    fn time_ns(&self, units: f64) -> u64 {
        let later = self.segments.partition_point(|segment| segment.begin_units <= units);
        let segment = &self.segments[later.saturating_sub(1)];
        // Exact to a nanosecond for 104 days: f64 holds whole numbers up to 2^53.
        (segment.begin_ns + (units - segment.begin_units) * 1e9 / segment.rate).round() as u64
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

    /// The sequence numbers that are measured.
    #[must_use]
    pub fn measured(&self) -> Range<u64> {
        self.warmup_count..self.total_count()
    }

    /// The place of a broadcast among the measured ones; `None` for one of the warm-up.
    #[must_use]
    pub fn measured_index(&self, sequence: u64) -> Option<usize> {
        let index = sequence.checked_sub(self.warmup_count)?;
        (index < self.measured_count).then_some(index as usize)
    }

    /// The places of each stage's broadcasts among the measured ones.
    #[must_use]
    pub fn stages(&self) -> Vec<Range<usize>> {
        let begins = std::iter::once(&0).chain(&self.stage_ends);
        begins.zip(&self.stage_ends).map(|(begin, end)| *begin..*end).collect()
    }

    /// The stage of a measured broadcast.
    #[must_use]
    pub fn stage_of(&self, measured_index: usize) -> usize {
        self.stage_ends.partition_point(|&end| end <= measured_index)
    }

    /// The sequence number of a measured broadcast.
    #[must_use]
    pub fn sequence_of(&self, measured_index: usize) -> u64 {
        self.warmup_count + measured_index as u64
    }

    /// The intended time of a broadcast, when the warm-up begins at `start_ns`. It never falls as the
    /// sequence number grows.
    #[must_use]
    pub fn due_ns(&self, start_ns: u64, sequence: u64) -> u64 {
        let due_ns = match &self.random_ns {
            Some(random_ns) => random_ns[sequence as usize],
            None => self.time_ns(sequence as f64),
        };
        start_ns + due_ns
    }

    /// The first broadcast that is due at `time_ns` or later; the total count when there is none.
    #[must_use]
    pub fn first_due_from(&self, start_ns: u64, time_ns: u64) -> u64 {
        let (mut low, mut high) = (0, self.total_count());
        while low < high {
            let middle = low + (high - low) / 2;
            if self.due_ns(start_ns, middle) < time_ns {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }

    /// When work of another kind disturbs the least: half-way between the broadcasts before and after
    /// `time_ns`, since deliveries follow a broadcast at once.
    #[must_use]
    pub fn calm_ns(&self, start_ns: u64, time_ns: u64) -> u64 {
        let next = self.first_due_from(start_ns, time_ns + 1);
        let Some(last) = next.checked_sub(1) else { return time_ns };
        let end_ns = self.measure_end_ns(start_ns);
        let next_ns = if next == self.total_count() { end_ns } else { self.due_ns(start_ns, next) };
        self.due_ns(start_ns, last).midpoint(next_ns)
    }

    /// When measuring begins.
    #[must_use]
    pub fn measure_start_ns(&self, start_ns: u64) -> u64 {
        start_ns + self.measured_ns.start
    }

    /// When measuring ends: at even distances, one interval after the last broadcast was due.
    #[must_use]
    pub fn measure_end_ns(&self, start_ns: u64) -> u64 {
        start_ns + self.measured_ns.end
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::arrivals::Stages;

    const SECOND: u64 = 1_000_000_000;

    fn constant(rate: f64, warmup: u64, duration: u64) -> Schedule {
        let stage = Stage { duration: Duration::from_secs(duration), rate };
        Schedule::new(Duration::from_secs(warmup), &[stage], Arrivals::Constant, 0)
    }

    #[test]
    fn broadcasts_are_due_at_even_distances_from_the_start() {
        let schedule = constant(5.0, 2, 10);
        assert_eq!((schedule.total_count(), schedule.measured_count()), (60, 50));
        assert_eq!(schedule.due_ns(1_000, 0), 1_000);
        assert_eq!(schedule.due_ns(1_000, 7), 1_400_001_000);
        assert_eq!(schedule.measured_index(9), None);
        assert_eq!(schedule.measured_index(10), Some(0));
        assert_eq!(schedule.measured_index(60), None);
        assert_eq!(schedule.sequence_of(49), 59);
        assert_eq!(schedule.measure_start_ns(0), 2 * SECOND);
        assert_eq!(schedule.measure_end_ns(0), 12 * SECOND);
    }

    #[test]
    fn it_is_calm_half_way_between_two_broadcasts() {
        let schedule = constant(10.0, 0, 1);
        let at = |milliseconds: u64| 5_000 + milliseconds * 1_000_000;
        assert_eq!(schedule.calm_ns(5_000, at(300)), at(350));
        assert_eq!(schedule.calm_ns(5_000, at(399)), at(350));
        assert_eq!(schedule.calm_ns(5_000, at(400)), at(450));
        assert_eq!(schedule.calm_ns(5_000, at(900)), at(950), "the last one");
        assert_eq!(schedule.calm_ns(5_000, 4_000), 4_000, "ahead of the first one");
    }

    #[test]
    fn rounding_does_not_add_up() {
        assert_eq!(constant(3.0, 0, 3601).due_ns(0, 3 * 3600), 3600 * SECOND);
    }

    #[test]
    fn a_slow_rate_still_measures_one_broadcast() {
        assert_eq!(constant(0.1, 0, 1).measured_count(), 1);
    }

    #[test]
    fn a_stage_begins_when_the_one_before_it_ends() {
        let stages: Stages = "2s:10,500ms:100, 1m:1".parse().expect("parses");
        assert_eq!(stages.to_string(), "2s:10,500ms:100,1m:1");
        let schedule = Schedule::new(Duration::from_secs(1), &stages.0, Arrivals::Constant, 0);
        assert_eq!((schedule.total_count(), schedule.measured_count()), (10 + 20 + 50 + 60, 130));
        let due = |index| schedule.due_ns(0, schedule.sequence_of(index));
        assert_eq!((due(0), due(19)), (SECOND, 2_900_000_000));
        assert_eq!((due(20), due(21), due(69)), (3 * SECOND, 3_010_000_000, 3_490_000_000));
        assert_eq!((due(70), due(71)), (3_500_000_000, 4_500_000_000));
        assert_eq!(schedule.measure_end_ns(0), 63_500_000_000);
        assert_eq!(schedule.stages(), [0..20, 20..70, 70..130]);
        assert_eq!([0, 19, 20, 69, 70, 129].map(|index| schedule.stage_of(index)), [0, 0, 1, 1, 2, 2]);
    }

    #[test]
    fn the_first_broadcast_from_a_moment_on_is_found() {
        let schedule = constant(10.0, 1, 1);
        for (time_ns, sequence) in [(0, 0), (1, 1), (100_000_000, 1), (100_000_001, 2), (u64::MAX, 20)] {
            assert_eq!(schedule.first_due_from(0, time_ns), sequence, "{time_ns}");
        }
    }

    #[test]
    fn random_arrivals_are_those_of_a_poisson_process_and_of_their_seed() {
        let stage = Stage { duration: Duration::from_secs(100), rate: 200.0 };
        let poisson = |seed| Schedule::new(Duration::from_secs(2), &[stage], Arrivals::Poisson, seed);
        let schedule = poisson(7);
        let due = |schedule: &Schedule| -> Vec<_> {
            (0..schedule.total_count()).map(|sequence| schedule.due_ns(0, sequence)).collect()
        };
        let times = due(&schedule);
        assert_eq!(times, due(&poisson(7)));
        assert_ne!(times, due(&poisson(8)));
        assert!(times.is_sorted() && times.last() < Some(&schedule.measure_end_ns(0)));
        // 20,000 expected: four standard deviations are 566.
        assert!(schedule.measured_count().abs_diff(20_000) < 566, "{}", schedule.measured_count());
        let gaps: Vec<_> = times.windows(2).map(|pair| (pair[1] - pair[0]) as f64 / 1e6).collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let variance = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
        // An exponential distribution deviates by as much as its mean, and 1/e of it lies beyond.
        assert!((4.85..5.15).contains(&mean), "{mean} ms");
        assert!((0.95..1.05).contains(&(variance.sqrt() / mean)), "{}", variance.sqrt() / mean);
        let beyond = gaps.iter().filter(|gap| **gap > mean).count() as f64 / gaps.len() as f64;
        assert!((0.355..0.381).contains(&beyond), "{beyond}");
        // Counts of a second vary like a Poisson distribution: their variance is their mean.
        let mut counts = [0.0; 100];
        times.iter().filter(|&&ns| ns >= 2 * SECOND).for_each(|ns| counts[(ns / SECOND) as usize - 2] += 1.0);
        let dispersion = counts.iter().map(|count| (count - 200.0_f64).powi(2)).sum::<f64>() / 100.0 / 200.0;
        assert!((0.5..1.6).contains(&dispersion), "{dispersion}");
    }

    #[test]
    fn random_arrivals_keep_to_their_stages_and_at_least_one_is_measured() {
        let stages: Stages = "10s:10,10s:1000".parse().expect("parses");
        let schedule = Schedule::new(Duration::ZERO, &stages.0, Arrivals::Poisson, 3);
        let early = schedule.first_due_from(0, 10 * SECOND);
        assert!((60..140).contains(&early), "{early}");
        assert!((9_600..10_400).contains(&(schedule.total_count() - early)));
        assert_eq!(schedule.stages(), [0..early as usize, early as usize..schedule.total_count() as usize]);
        let rare = Stage { duration: Duration::from_secs(1), rate: 0.001 };
        for seed in 0..20 {
            let schedule = Schedule::new(Duration::from_secs(60), &[rare], Arrivals::Poisson, seed);
            assert!(schedule.measured_count() >= 1);
            let first = schedule.due_ns(0, schedule.sequence_of(0));
            assert!(first >= schedule.measure_start_ns(0));
        }
    }
}
