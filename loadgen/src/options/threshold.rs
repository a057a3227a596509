//! Conditions on a result, such as `latency.p99<20ms`: how they are written, and whether they hold.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

use crate::numbers::floor_percent;
use crate::timings::quantiles::Summary;

/// One condition.
#[derive(Clone, Debug, PartialEq)]
pub struct Threshold {
    text: String,
    metric: Metric,
    relation: Relation,
    /// In nanoseconds, or (reach) as a share.
    limit: f64,
}

/// What a condition is about.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Metric {
    /// A statistic of a time.
    Time(Time, Statistic),
    /// Received ÷ expected.
    Reach,
    /// The server's CPU time for each delivery.
    Cpu,
}

/// A time that is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Time {
    /// Intended → received.
    Latency,
    /// Actual send → received.
    Service,
    /// Intended → actual send.
    SendLag,
    /// Intended → first receiver.
    First,
    /// Intended → last receiver.
    Complete,
    /// First → last receiver.
    Spread,
}

/// What is taken of a time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Statistic {
    /// One of [`crate::timings::quantiles::QUANTILES`].
    Quantile(f64),
    /// The largest.
    Max,
    /// The mean.
    Mean,
}

const TIMES: [(&str, Time); 6] = [
    ("latency", Time::Latency),
    ("service", Time::Service),
    ("send-lag", Time::SendLag),
    ("first", Time::First),
    ("complete", Time::Complete),
    ("spread", Time::Spread),
];
const STATISTICS: [(&str, Statistic); 9] = [
    ("p50", Statistic::Quantile(0.5)),
    ("p75", Statistic::Quantile(0.75)),
    ("p90", Statistic::Quantile(0.9)),
    ("p95", Statistic::Quantile(0.95)),
    ("p99", Statistic::Quantile(0.99)),
    ("p99.9", Statistic::Quantile(0.999)),
    ("p99.99", Statistic::Quantile(0.9999)),
    ("max", Statistic::Max),
    ("mean", Statistic::Mean),
];
/// The longer names first: `us` ends with `s`, and would not be found behind it.
const UNITS: [(&str, f64); 5] = [("ns", 1.0), ("us", 1e3), ("µs", 1e3), ("ms", 1e6), ("s", 1e9)];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Relation {
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Relation {
    fn holds(self, value: f64, limit: f64) -> bool {
        match self {
            Self::Less => value < limit,
            Self::LessOrEqual => value <= limit,
            Self::Greater => value > limit,
            Self::GreaterOrEqual => value >= limit,
        }
    }
}

impl FromStr for Threshold {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text: String = text.split_whitespace().collect();
        let at = text.find(['<', '>']).ok_or("it compares with <, <=, > or >=, as in latency.p99<20ms")?;
        let (name, rest) = text.split_at(at);
        let (relation, value) = match rest.strip_prefix("<=") {
            Some(value) => (Relation::LessOrEqual, value),
            None => match (rest.strip_prefix(">="), rest.strip_prefix('<')) {
                (Some(value), _) => (Relation::GreaterOrEqual, value),
                (None, Some(value)) => (Relation::Less, value),
                (None, None) => (Relation::Greater, &rest[1..]),
            },
        };
        let metric = parse_metric(name)?;
        let limit = if metric == Metric::Reach { parse_share(value) } else { parse_time(value) };
        let limit = limit.filter(|limit| limit.is_finite() && *limit >= 0.0).ok_or_else(|| match metric {
            Metric::Reach => format!("{value:?} is no share such as 99.9% or 0.999"),
            _ => format!("{value:?} is no time such as 20ms, 1.5s or 300us"),
        })?;
        Ok(Self { metric, relation, limit, text })
    }
}

fn parse_metric(name: &str) -> Result<Metric, String> {
    let unknown = || {
        let names = |names: &[&str]| names.join(", ");
        format!(
            "{name:?} is not measured: allowed are reach, cpu, and one of {} followed by .p50 (or {})",
            names(&TIMES.map(|(name, _)| name)),
            names(&STATISTICS.map(|(name, _)| name)[1..])
        )
    };
    match name {
        "reach" => return Ok(Metric::Reach),
        "cpu" => return Ok(Metric::Cpu),
        _ => {}
    }
    let (time, statistic) = name.split_once('.').ok_or_else(unknown)?;
    let time = TIMES.iter().find(|(name, _)| *name == time).ok_or_else(unknown)?.1;
    let statistic = STATISTICS.iter().find(|(name, _)| *name == statistic).ok_or_else(unknown)?.1;
    Ok(Metric::Time(time, statistic))
}

fn parse_time(text: &str) -> Option<f64> {
    let (number, unit) = UNITS.iter().find_map(|(name, unit)| Some((text.strip_suffix(name)?, unit)))?;
    Some(number.parse::<f64>().ok()? * unit)
}

fn parse_share(text: &str) -> Option<f64> {
    match text.strip_suffix('%') {
        Some(percent) => Some(percent.parse::<f64>().ok()? / 100.0),
        None => text.parse().ok(),
    }
}

impl fmt::Display for Threshold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Whether a condition held.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Verdict {
    /// The condition.
    pub threshold: String,
    /// What was measured, in nanoseconds or (reach) as a share; `None` when nothing was.
    pub value: Option<f64>,
    /// True when the value is a lower bound, because what would lie beyond never arrived.
    pub at_least: bool,
    /// True when it held. What was not measured does not hold, and a lower bound is below nothing.
    pub passed: bool,
    /// The measurement in words.
    pub finding: String,
}

impl Threshold {
    /// What it is about.
    #[must_use]
    pub fn metric(&self) -> Metric {
        self.metric
    }

    /// True when it can hold for one rate and no longer for a higher one: an upper limit of a time, or a
    /// lower one of the reach.
    #[must_use]
    pub fn limits_load(&self) -> bool {
        let is_upper = matches!(self.relation, Relation::Less | Relation::LessOrEqual);
        is_upper != (self.metric == Metric::Reach)
    }

    /// True when a loadgen that is late can only break it: an upper limit of a time that runs from an intended
    /// send on, or a lower one of the reach. (`service` leaves out the wait of what was sent late, receivers that
    /// are all read late have a smaller spread, and a server that is asked in bursts needs less CPU.)
    #[must_use]
    pub fn outlasts_lateness(&self) -> bool {
        let grows_with_lateness = match self.metric {
            Metric::Time(time, _) => {
                matches!(time, Time::Latency | Time::First | Time::Complete | Time::SendLag)
            }
            Metric::Reach => true,
            Metric::Cpu => false,
        };
        grows_with_lateness && self.limits_load()
    }

    /// Holds it against a value, which may be a lower bound.
    #[must_use]
    pub fn compare(&self, value: Option<f64>, at_least: bool) -> Verdict {
        let is_upper = matches!(self.relation, Relation::Less | Relation::LessOrEqual);
        let holds = |value| self.relation.holds(value, self.limit);
        let passed = value.is_some_and(holds) && !(at_least && is_upper);
        let bound = if at_least { "at least " } else { "" };
        let measured = match (value, self.metric) {
            (None, _) => "nothing was measured".to_owned(),
            (Some(share), Metric::Reach) => format!("{} %", floor_percent(share)),
            (Some(ns), Metric::Cpu) => format!("{:.3} µs a delivery", ns / 1e3),
            (Some(ns), Metric::Time(..)) => format!("{bound}{:.3} ms", ns / 1e6),
        };
        let finding = format!("{self}: {measured}");
        Verdict { threshold: self.text.clone(), value, at_least, passed, finding }
    }
}

impl Statistic {
    /// The value in nanoseconds, and whether it is a lower bound.
    ///
    /// # Panics
    ///
    /// For a quantile that is not reported.
    #[must_use]
    pub fn of(self, summary: &Summary) -> (f64, bool) {
        match self {
            Self::Quantile(quantile) => {
                let found = summary.quantiles.iter().find(|candidate| candidate.quantile == quantile);
                let found = found.expect("Bug: a quantile that is not reported");
                (found.value_ns as f64, found.at_least)
            }
            Self::Max => (summary.max_ns as f64, summary.undelivered > 0),
            Self::Mean => (summary.mean_ns, summary.undelivered > 0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::timings::Timings;
    use crate::timings::quantiles::{QUANTILES, Undelivered};

    fn parse(text: &str) -> Threshold {
        text.parse().unwrap_or_else(|why| panic!("{text}: {why}"))
    }

    #[test]
    fn conditions_are_read_with_their_units() {
        for (text, metric, limit) in [
            ("latency.p99<20ms", Metric::Time(Time::Latency, Statistic::Quantile(0.99)), 20e6),
            ("send-lag.max <= 1.5s", Metric::Time(Time::SendLag, Statistic::Max), 1.5e9),
            ("spread.p99.9<300us", Metric::Time(Time::Spread, Statistic::Quantile(0.999)), 300e3),
            ("first.mean>5µs", Metric::Time(Time::First, Statistic::Mean), 5e3),
            ("complete.p50>=7ns", Metric::Time(Time::Complete, Statistic::Quantile(0.5)), 7.0),
            ("reach>=99.9%", Metric::Reach, 0.999),
            ("reach>0.5", Metric::Reach, 0.5),
            ("cpu<5us", Metric::Cpu, 5e3),
        ] {
            let threshold = parse(text);
            assert_eq!(threshold.metric, metric, "{text}");
            assert!((threshold.limit - limit).abs() < limit * 1e-9, "{text}: {}", threshold.limit);
        }
        assert_eq!(parse("latency.p99 < 20ms").to_string(), "latency.p99<20ms");
    }

    #[test]
    fn what_is_no_condition_is_refused_with_what_is_allowed() {
        for (text, why) in [
            ("latency.p99", "compares"),
            ("latency<1s", "not measured"),
            ("latency.p98<1s", "p99.99"),
            ("jitter.p50<1s", "send-lag"),
            ("latency.p99<20", "no time"),
            ("latency.p99<", "no time"),
            ("latency.p99<-1ms", "no time"),
            ("latency.p99==1ms", "compares"),
            ("reach>=20ms", "no share"),
        ] {
            let refusal = text.parse::<Threshold>().expect_err(text);
            assert!(refusal.contains(why), "{text}: {refusal}");
        }
    }

    #[test]
    fn a_condition_holds_on_its_own_side_of_the_limit() {
        for (text, value, passed) in [
            ("latency.p99<20ms", 19.9e6, true),
            ("latency.p99<20ms", 20e6, false),
            ("latency.p99<=20ms", 20e6, true),
            ("latency.p99>20ms", 20e6, false),
            ("latency.p99>=20ms", 20e6, true),
        ] {
            assert_eq!(parse(text).compare(Some(value), false).passed, passed, "{text} {value}");
        }
        let verdict = parse("latency.p99<20ms").compare(Some(31.25e6), false);
        assert_eq!(verdict.finding, "latency.p99<20ms: 31.250 ms");
    }

    #[test]
    fn what_was_not_measured_and_what_never_arrived_pass_no_upper_limit() {
        assert!(!parse("first.p50<1s").compare(None, false).passed);
        assert!(!parse("latency.p99<60s").compare(Some(5e9), true).passed);
        assert!(parse("latency.p99>1s").compare(Some(5e9), true).passed);
        let mut timings = Timings::default();
        timings.record_many(1_000_000, 99);
        timings.record_many(5_000_000_000, 1);
        let summary = Summary::independent(&timings, Undelivered { count: 1, at_least_ns: 5_000_000_000 });
        assert!(Statistic::Max.of(&summary).1 && Statistic::Mean.of(&summary).1);
        assert!(!Statistic::Quantile(0.5).of(&summary).1);
    }

    #[test]
    fn every_quantile_that_is_reported_can_be_named() {
        for quantile in QUANTILES {
            assert!(STATISTICS.iter().any(|(_, statistic)| *statistic == Statistic::Quantile(quantile)));
        }
    }

    #[test]
    fn only_what_grows_worse_with_the_rate_can_be_searched_with() {
        let limits = ["latency.p99<1s", "cpu<=1us", "reach>=99%", "latency.p99>1s", "reach<1"]
            .map(|text| parse(text).limits_load());
        assert_eq!(limits, [true, true, true, false, false]);
    }

    #[test]
    fn only_what_a_late_loadgen_makes_worse_outlasts_its_lateness() {
        let outlast =
            ["latency.p99<1s", "complete.max<1s", "reach>=99%", "service.p50<1s", "spread.p50<1s", "cpu<1us"]
                .map(|text| parse(text).outlasts_lateness());
        assert_eq!(outlast, [true, true, true, false, false, false]);
    }
}
