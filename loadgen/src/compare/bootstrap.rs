//! The difference of two medians and its confidence interval: a percentile bootstrap over runs.

use fastrand::Rng;

/// How many resamples an interval is made from: enough for its ends to be stable to a few hundredths of
/// its width.
pub const RESAMPLES: usize = 10_000;

/// The median; the mean of the middle two when there is no middle one. NaN of nothing.
#[must_use]
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    median_of(&mut sorted)
}

fn median_of(values: &mut [f64]) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => f64::NAN,
        len if len % 2 == 1 => values[middle],
        _ => f64::midpoint(values[middle - 1], values[middle]),
    }
}

/// How far `to` is from `from`, in percent of it. Infinite when something came from nothing.
#[must_use]
pub fn change_percent(from: f64, to: f64) -> f64 {
    if from == to { 0.0 } else { (to - from) / from * 100.0 }
}

/// The interval that holds the change of the median from `a` to `b`, in percent, with this confidence.
///
/// Each side is resampled by itself, with replacement. The same seed gives the same interval.
///
/// # Panics
///
/// When a side is empty.
#[must_use]
pub fn interval(a: &[f64], b: &[f64], confidence: f64, resamples: usize, seed: u64) -> [f64; 2] {
    assert!(!a.is_empty() && !b.is_empty(), "Bug: there is nothing to resample");
    let mut rng = Rng::with_seed(seed);
    let (mut a_drawn, mut b_drawn) = (a.to_vec(), b.to_vec());
    let mut draw = |from: &[f64], to: &mut [f64]| {
        to.iter_mut().for_each(|value| *value = from[rng.usize(..from.len())]);
        median_of(to)
    };
    let mut changes: Vec<f64> =
        (0..resamples).map(|_| change_percent(draw(a, &mut a_drawn), draw(b, &mut b_drawn))).collect();
    changes.sort_unstable_by(f64::total_cmp);
    let beyond = (1.0 - confidence) / 2.0;
    let at = |quantile: f64| changes[(quantile * (changes.len() - 1) as f64).round() as usize];
    [at(beyond), at(1.0 - beyond)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_an_even_number_lies_between_the_middle_two() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0, 3.0, 2.0]), 2.5);
        assert!(median(&[]).is_nan());
    }

    #[test]
    fn a_change_from_nothing_is_infinite_unless_nothing_changed() {
        assert_eq!(change_percent(0.0, 0.0), 0.0);
        assert_eq!(change_percent(0.0, 1.0), f64::INFINITY);
        assert_eq!(change_percent(4.0, 3.0), -25.0);
    }

    const A: [f64; 10] = [10.2, 9.8, 10.5, 10.1, 9.9, 10.4, 10.0, 10.3, 9.7, 10.6];
    const B: [f64; 10] = [11.0, 10.9, 11.8, 11.2, 10.7, 11.5, 11.1, 11.4, 10.8, 11.9];

    /// scipy 1.17.1, `scipy.stats.bootstrap((a, b), statistic, method='percentile', n_resamples=200000,
    /// confidence_level=0.95, random_state=1)` with the change of the median in percent as the statistic.
    #[test]
    fn the_interval_is_that_of_scipy() {
        let [low, high] = interval(&A, &B, 0.95, RESAMPLES, 1);
        assert!((low - 5.853_658).abs() < 0.2, "{low}");
        assert!((high - 15.075_377).abs() < 0.2, "{high}");
    }

    #[test]
    fn the_seed_decides() {
        let noisy = |seed| interval(&A, &B, 0.99, 500, seed);
        assert_eq!(noisy(7), noisy(7));
        assert!((1..20).any(|seed| noisy(seed) != noisy(7)));
    }

    #[test]
    fn more_confidence_takes_a_wider_interval() {
        let [[low, high], [lower, higher]] =
            [0.8, 0.99].map(|confidence| interval(&A, &B, confidence, RESAMPLES, 1));
        assert!(lower < low && high < higher);
    }
}
