//! The verdict: how far the sides are apart, how certain that is, and whether it matters.
//!
//! The datum is one run on a fresh server, since deliveries of one run are late together. A verdict takes
//! three things at once: a p value below α (Holm's for all metrics but the primary one), an interval
//! without zero, and a change beyond the noise threshold. With fewer than [`RUNS_MIN`] runs a side there
//! is none.

use serde::Serialize;

use crate::compare::bootstrap::{self, change_percent, median};
use crate::compare::holm;
use crate::compare::mann_whitney::p_value;
use crate::compare::samples::{Datum, Metric, Samples, Worse};

/// With fewer runs a side the exact test cannot fall below 0.05 by a useful margin, and a bootstrap of the
/// median has nothing to draw from.
pub const RUNS_MIN: usize = 5;

/// What a verdict needs.
#[derive(Clone, Copy, Debug)]
pub struct Criteria {
    /// The metric that is tested without a correction.
    pub primary: &'static str,
    /// The allowed rate of false positives.
    pub alpha: f64,
    /// Changes up to this do not matter.
    pub noise_percent: f64,
    /// How many resamples an interval is made from.
    pub resamples: usize,
    /// Seed of the bootstrap.
    pub seed: u64,
}

/// What is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Verdict {
    /// B is worse.
    #[serde(rename = "REGRESSED")]
    Regressed,
    /// B is better.
    #[serde(rename = "IMPROVED")]
    Improved,
    /// No difference that is both significant and large enough.
    #[serde(rename = "~")]
    Alike,
}

impl Verdict {
    /// As it is printed.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Regressed => "REGRESSED",
            Self::Improved => "IMPROVED",
            Self::Alike => "~",
        }
    }
}

/// The runs of one side.
#[derive(Clone, Debug)]
pub struct Distribution {
    /// The median over the runs.
    pub median: f64,
    /// How far the farthest run is from the median, in percent of it.
    pub spread_percent: f64,
    /// One value for each run.
    pub values: Vec<f64>,
    /// True when some of the values are lower bounds.
    pub at_least: bool,
    /// True when too few broadcasts, or too little CPU time, stand behind some of the values.
    pub thin: bool,
}

impl Distribution {
    fn of(data: &[Datum]) -> Self {
        let values: Vec<f64> = data.iter().map(|datum| datum.value).collect();
        let median = median(&values);
        let spread = |value: &f64| change_percent(median, *value).abs();
        Self {
            median,
            spread_percent: values.iter().map(spread).fold(0.0, f64::max),
            at_least: data.iter().any(|datum| datum.at_least),
            thin: data.iter().any(|datum| datum.thin),
            values,
        }
    }
}

/// How sure a difference is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Test {
    /// The bootstrap interval of the change, in percent.
    pub interval_percent: [f64; 2],
    /// The p value by itself.
    pub p: f64,
    /// The p value that is compared with α.
    pub p_adjusted: f64,
    /// What is called.
    pub verdict: Verdict,
}

/// The result for a metric.
#[derive(Clone, Debug)]
pub struct Finding {
    /// Which.
    pub metric: Metric,
    /// True for the primary metric.
    pub is_primary: bool,
    /// The first side.
    pub a: Distribution,
    /// The second side.
    pub b: Distribution,
    /// How far the median of B is from that of A, in percent of it.
    pub change_percent: f64,
    /// `None` with too few runs.
    pub test: Option<Test>,
}

/// Judges every metric.
#[must_use]
pub fn judge(samples: &[Samples], criteria: &Criteria) -> Vec<Finding> {
    let mut findings: Vec<_> = samples.iter().map(|samples| describe(samples, criteria)).collect();
    let mut secondary: Vec<&mut Test> = findings
        .iter_mut()
        .filter(|finding| !finding.is_primary)
        .filter_map(|finding| finding.test.as_mut())
        .collect();
    let adjusted = holm::adjust(&secondary.iter().map(|test| test.p).collect::<Vec<_>>());
    secondary.iter_mut().zip(adjusted).for_each(|(test, p)| test.p_adjusted = p);
    for finding in &mut findings {
        let (change, worse) = (finding.change_percent, finding.metric.worse);
        if let Some(test) = &mut finding.test {
            test.verdict = verdict(test, change, worse, criteria);
        }
    }
    findings
}

/// Everything but what depends on the other metrics.
fn describe(samples: &Samples, criteria: &Criteria) -> Finding {
    let (a, b) = (Distribution::of(&samples.a), Distribution::of(&samples.b));
    let enough = a.values.len().min(b.values.len()) >= RUNS_MIN;
    let test = enough.then(|| {
        let p = p_value(&a.values, &b.values);
        let interval_percent = bootstrap::interval(
            &a.values,
            &b.values,
            1.0 - criteria.alpha,
            criteria.resamples,
            criteria.seed,
        );
        Test { interval_percent, p, p_adjusted: p, verdict: Verdict::Alike }
    });
    Finding {
        metric: samples.metric,
        is_primary: samples.metric.name == criteria.primary,
        change_percent: change_percent(a.median, b.median),
        a,
        b,
        test,
    }
}

fn verdict(test: &Test, change_percent: f64, worse: Worse, criteria: &Criteria) -> Verdict {
    let [low, high] = test.interval_percent;
    let certain = test.p_adjusted < criteria.alpha && (low > 0.0 || high < 0.0);
    if !certain || change_percent.abs() <= criteria.noise_percent {
        return Verdict::Alike;
    }
    match (change_percent > 0.0) == (worse == Worse::Higher) {
        true => Verdict::Regressed,
        false => Verdict::Improved,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::samples::METRICS;
    use fastrand::Rng;

    const CRITERIA: Criteria =
        Criteria { primary: "latency.p99", alpha: 0.05, noise_percent: 5.0, resamples: 500, seed: 1 };

    fn samples(name: &str, a: &[f64], b: &[f64]) -> Samples {
        let metric = METRICS.into_iter().find(|metric| metric.name == name).expect("a metric");
        let data = |values: &[f64]| {
            values.iter().map(|&value| Datum { value, at_least: false, thin: false }).collect()
        };
        Samples { metric, a: data(a), b: data(b) }
    }

    fn verdict_of(name: &str, a: &[f64], b: &[f64]) -> Option<Verdict> {
        judge(&[samples(name, a, b)], &CRITERIA)[0].test.map(|test| test.verdict)
    }

    const LOW: [f64; 6] = [10.0, 10.1, 10.2, 10.3, 10.4, 10.5];
    const HIGH: [f64; 6] = [12.0, 12.1, 12.2, 12.3, 12.4, 12.5];

    #[test]
    fn worse_depends_on_the_metric() {
        assert_eq!(verdict_of("latency.p99", &LOW, &HIGH), Some(Verdict::Regressed));
        assert_eq!(verdict_of("latency.p99", &HIGH, &LOW), Some(Verdict::Improved));
        assert_eq!(verdict_of("deliveries", &LOW, &HIGH), Some(Verdict::Improved));
        assert_eq!(verdict_of("deliveries", &HIGH, &LOW), Some(Verdict::Regressed));
    }

    #[test]
    fn a_certain_change_within_the_noise_threshold_is_none() {
        let barely = LOW.map(|value| value * 1.049 + 0.0001);
        let finding = &judge(&[samples("latency.p99", &LOW, &barely)], &CRITERIA)[0];
        assert!(finding.test.is_some_and(|test| test.p < 0.05 && test.interval_percent[0] > 0.0));
        assert_eq!(finding.test.map(|test| test.verdict), Some(Verdict::Alike));
    }

    #[test]
    fn a_large_change_that_is_not_certain_is_none() {
        let (a, b) = ([10.0, 20.0, 30.0, 40.0, 50.0], [15.0, 25.0, 45.0, 48.0, 60.0]);
        assert_eq!(verdict_of("latency.p99", &a, &b), Some(Verdict::Alike));
    }

    #[test]
    fn four_runs_a_side_get_no_verdict() {
        let finding = &judge(&[samples("latency.p99", &LOW[..4], &HIGH)], &CRITERIA)[0];
        assert_eq!(finding.test, None);
        assert!((finding.change_percent - 20.69).abs() < 0.01, "{}", finding.change_percent);
    }

    #[test]
    fn only_secondary_metrics_are_corrected() {
        let all: Vec<_> =
            ["latency.p50", "latency.p99", "spread.p50"].map(|name| samples(name, &LOW, &HIGH)).into();
        let findings = judge(&all, &CRITERIA);
        let tests: Vec<_> = findings.iter().filter_map(|finding| finding.test).collect();
        assert_eq!(tests[1].p_adjusted, tests[1].p);
        assert_eq!([tests[0].p_adjusted, tests[2].p_adjusted], [2.0 * tests[0].p; 2]);
    }

    #[test]
    fn a_median_of_zero_has_no_relative_change_but_a_verdict() {
        let finding = &judge(&[samples("server.cpu", &[0.0; 6], &HIGH)], &CRITERIA)[0];
        assert_eq!(finding.change_percent, f64::INFINITY);
        assert_eq!(finding.test.map(|test| test.verdict), Some(Verdict::Regressed));
        assert_eq!(verdict_of("server.cpu", &[0.0; 6], &[0.0; 6]), Some(Verdict::Alike));
    }

    /// Latencies as they are in practice: skewed to the right.
    fn skewed(rng: &mut Rng, scale: f64) -> f64 {
        let normal = (0..12).map(|_| rng.f64()).sum::<f64>() - 6.0;
        scale * (0.3 * normal).exp()
    }

    /// The goal: α is what it says. No run differs from another but by chance, and nothing is too small to
    /// matter, so every call is a false one.
    #[test]
    fn runs_of_one_server_are_called_different_no_more_often_than_alpha() {
        const TRIALS: usize = 1_000;
        for (a, b) in [(5, 5), (10, 10), (6, 12)] {
            let mut rng = Rng::with_seed(0x5eed + a as u64);
            let criteria = Criteria { noise_percent: 0.0, resamples: 200, ..CRITERIA };
            let mut draw = |count: usize| (0..count).map(|_| skewed(&mut rng, 1.0)).collect::<Vec<_>>();
            let calls = (0..TRIALS)
                .filter(|_| {
                    let findings = judge(&[samples("latency.p99", &draw(a), &draw(b))], &criteria);
                    findings[0].test.is_some_and(|test| test.verdict != Verdict::Alike)
                })
                .count();
            // Three standard deviations of a binomial count above its mean: 5 % of 1,000 ± 21.
            assert!(calls <= 50 + 21, "{calls} of {TRIALS} with {a} and {b} runs");
        }
    }

    /// The same for the whole family of secondary metrics: any call among them is a false one.
    #[test]
    fn no_secondary_metric_is_called_more_often_than_alpha_in_all() {
        const TRIALS: usize = 500;
        let mut rng = Rng::with_seed(0xfa_417);
        let criteria = Criteria { noise_percent: 0.0, resamples: 200, ..CRITERIA };
        let mut draw = || (0..8).map(|_| skewed(&mut rng, 1.0)).collect::<Vec<_>>();
        let calls = (0..TRIALS)
            .filter(|_| {
                let secondary = METRICS.iter().filter(|metric| metric.name != CRITERIA.primary);
                let all: Vec<_> = secondary.map(|metric| samples(metric.name, &draw(), &draw())).collect();
                let tests = judge(&all, &criteria).into_iter().filter_map(|finding| finding.test);
                tests.into_iter().any(|test| test.verdict != Verdict::Alike)
            })
            .count();
        // 5 % of 500, and three standard deviations.
        assert!(calls <= 25 + 15, "{calls} of {TRIALS}");
    }

    #[test]
    fn a_server_that_is_half_slower_is_nearly_always_found() {
        let mut rng = Rng::with_seed(0xbad);
        let mut draw = |scale| (0..10).map(|_| skewed(&mut rng, scale)).collect::<Vec<_>>();
        let found = (0..100)
            .filter(|_| verdict_of("latency.p99", &draw(1.0), &draw(1.6)) == Some(Verdict::Regressed));
        assert!(found.count() >= 80);
    }
}
