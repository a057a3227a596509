//! Axes: from times and quantiles to positions, and the ticks on them.

use std::ops::RangeInclusive;

/// How far ticks are apart at least: the height of a label, and the width of one.
const APART_UPWARDS: f64 = 16.0;
const APART_ACROSS: f64 = 50.0;

/// A logarithmic axis of times, from a 1, 2 or 5 of a decade to another.
#[derive(Debug)]
pub(crate) struct TimeScale {
    low_ns: u64,
    high_ns: u64,
    from: f64,
    to: f64,
}

impl TimeScale {
    /// An axis that has room for all values, from one position to another.
    pub(crate) fn new(values_ns: impl Iterator<Item = u64>, from: f64, to: f64) -> Self {
        let (low, high) = values_ns
            .filter(|&value| value > 0)
            .fold((u64::MAX, 0), |(low, high), value| (low.min(value), high.max(value)));
        if high == 0 {
            return Self { low_ns: 1_000_000, high_ns: 10_000_000, from, to };
        }
        let steps: Vec<u64> = steps().collect();
        let below = steps.partition_point(|&step| step <= low).saturating_sub(1);
        let above = steps.partition_point(|&step| step < high).min(steps.len() - 1);
        // Room for two ticks in between, so that the eye has something to measure by.
        let above = above.max(below + 3).min(steps.len() - 1);
        Self { low_ns: steps[below], high_ns: steps[above], from, to }
    }

    /// Where a time lies; at an end of the axis when it lies beyond.
    pub(crate) fn position(&self, ns: u64) -> f64 {
        let [low, high] = [self.low_ns, self.high_ns].map(|ns| (ns as f64).log10());
        let share = ((ns.max(1) as f64).log10() - low) / (high - low);
        self.from + share.clamp(0.0, 1.0) * (self.to - self.from)
    }

    /// Where the axis ends.
    pub(crate) fn ends(&self) -> [f64; 2] {
        [self.from, self.to]
    }

    /// The times that get a line and a label: 1, 2 and 5 of each decade, or 1 where there is no room.
    pub(crate) fn ticks(&self) -> Vec<u64> {
        let within = self.low_ns..=self.high_ns;
        let all: Vec<u64> = steps().filter(|step| within.contains(step)).collect();
        let apart = if self.to < self.from { APART_UPWARDS } else { APART_ACROSS };
        let positions: Vec<_> = all.iter().map(|tick| self.position(*tick)).collect();
        if positions.windows(2).all(|pair| (pair[1] - pair[0]).abs() >= apart) {
            return all;
        }
        all.into_iter().filter(|step| step.to_string().starts_with('1')).collect()
    }
}

/// 1, 2, 5, 10, 20, 50 ns and so on, to a hundred seconds, which is beyond what histograms hold.
fn steps() -> impl Iterator<Item = u64> {
    (0..=10).flat_map(|exponent| [1, 2, 5].map(|digit| digit * 10_u64.pow(exponent))).chain([10_u64.pow(11)])
}

/// An axis of quantiles on which each further nine is as wide as the one before it.
#[derive(Debug)]
pub(crate) struct TailScale {
    decades: f64,
    from: f64,
    to: f64,
}

impl TailScale {
    /// An axis for histograms of at most so many values: the last quantile is that of the largest.
    pub(crate) fn new(count_max: u64, from: f64, to: f64) -> Self {
        Self { decades: (count_max.max(100) as f64).log10(), from, to }
    }

    /// Where a quantile below 1 lies.
    pub(crate) fn position(&self, quantile: f64) -> f64 {
        self.from + (1.0 - quantile).recip().log10() / self.decades * (self.to - self.from)
    }

    /// The quantiles that get a line, and their labels.
    pub(crate) fn ticks(&self) -> Vec<(f64, String)> {
        let nines = (1..=self.decades as i32).map(|nines| 1.0 - 0.1_f64.powi(nines));
        [0.0, 0.5].into_iter().chain(nines).map(|quantile| (quantile, percent(quantile))).collect()
    }
}

/// A quantile as a percentage, without trailing zeros.
pub(crate) fn percent(quantile: f64) -> String {
    let digits = format!("{:.7}", quantile * 100.0);
    format!("{} %", digits.trim_end_matches('0').trim_end_matches('.'))
}

/// A time with three significant digits, in the unit that suits it.
pub(crate) fn time(ns: u64) -> String {
    const UNITS: [(f64, &str); 4] = [(1.0, "ns"), (1e3, "µs"), (1e6, "ms"), (1e9, "s")];
    let ns = ns as f64;
    // 999.6 µs reads 1.00 ms.
    let fits = |unit: &&(f64, &str)| ns / unit.0 >= 0.9995;
    let (unit, name) = UNITS.iter().rev().find(fits).unwrap_or(&UNITS[0]);
    let value = ns / unit;
    let decimals = match value {
        _ if *unit == 1.0 => 0,
        ..9.995 => 2,
        ..99.95 => 1,
        _ => 0,
    };
    format!("{value:.decimals$} {name}")
}

/// A time that is a tick, without decimals.
pub(crate) fn tick_time(ns: u64) -> String {
    let units = [(1_000_000_000, "s"), (1_000_000, "ms"), (1_000, "µs")];
    let (unit, name) = units.into_iter().find(|(unit, _)| ns >= *unit).unwrap_or((1, "ns"));
    format!("{} {name}", ns / unit)
}

/// Every how many seconds a timeline gets a tick.
pub(crate) fn seconds_step(range: &RangeInclusive<f64>) -> f64 {
    let length = range.end() - range.start();
    let steps = [1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0, 7200.0];
    steps.into_iter().find(|step| length / step <= 12.0).unwrap_or(length / 12.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_axis_of_times_ends_at_ticks_around_all_values() {
        let scale = TimeScale::new([1_300_000, 15_700_000].into_iter(), 300.0, 0.0);
        assert_eq!(scale.ticks(), [1_000_000, 2_000_000, 5_000_000, 10_000_000, 20_000_000]);
        assert_eq!((scale.position(1_000_000), scale.position(20_000_000)), (300.0, 0.0));
        assert_eq!(scale.position(1), 300.0);
        let low = TimeScale::new([1_300_000, 15_700_000].into_iter(), 50.0, 0.0);
        assert_eq!(low.ticks(), [1_000_000, 10_000_000], "no room for 2 and 5");
    }

    #[test]
    fn one_value_or_none_has_an_axis_too() {
        assert_eq!(TimeScale::new([7].into_iter(), 0.0, 400.0).ticks(), [5, 10, 20, 50]);
        assert_eq!(TimeScale::new([].into_iter(), 0.0, 400.0).ticks().len(), 4);
        assert_eq!(
            TimeScale::new([60_000_000_000].into_iter(), 0.0, 1.0).position(60_000_000_000).signum(),
            1.0
        );
    }

    #[test]
    fn each_nine_is_as_wide_as_the_one_before() {
        let scale = TailScale::new(10_000, 0.0, 400.0);
        let ticks = scale.ticks();
        let labels: Vec<_> = ticks.iter().map(|(_, label)| label.as_str()).collect();
        assert_eq!(labels, ["0 %", "50 %", "90 %", "99 %", "99.9 %", "99.99 %"]);
        let positions: Vec<_> = ticks.iter().map(|(quantile, _)| scale.position(*quantile).round()).collect();
        assert_eq!(positions, [0.0, 30.0, 100.0, 200.0, 300.0, 400.0]);
    }

    #[test]
    fn times_have_three_digits() {
        let times = [0, 7, 999, 1_234, 56_780, 999_600, 2_001_000, 15_737_000, 160_825_000, 60_000_000_000];
        assert_eq!(
            times.map(time),
            [
                "0 ns", "7 ns", "999 ns", "1.23 µs", "56.8 µs", "1.00 ms", "2.00 ms", "15.7 ms", "161 ms",
                "60.0 s"
            ]
        );
        assert_eq!(tick_time(500_000), "500 µs");
    }
}
