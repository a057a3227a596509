//! What came of each pair of servers, and in words what was wrong between two of them.

use serde::Serialize;

use crate::measure::pairs::Violations;
use crate::numbers::grouped;
use crate::timings::quantiles::Summary;

/// How many findings are told in a sentence.
const FINDINGS_SHOWN: usize = 8;

/// The deliveries from clients of one server to clients of another, or of the same.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Pair {
    /// The `--url` of the speakers.
    pub from: String,
    /// The `--url` of the receivers.
    pub to: String,
    /// Deliveries expected.
    pub expected: u64,
    /// Deliveries received.
    pub received: u64,
    /// What was wrong, the warm-up included.
    #[serde(flatten)]
    pub violations: Violations,
    /// Intended → received.
    pub latency: PairLatency,
}

/// The latency of a pair. Values of one broadcast are late together, and how many broadcasts are behind a quantile is
/// not counted here.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PairLatency {
    /// How many values there are, the undelivered included.
    pub count: u64,
    /// How many of them never arrived, and count as the time waited.
    pub undelivered: u64,
    /// The median.
    pub p50: PairTime,
    /// The 99th percentile.
    pub p99: PairTime,
    /// The largest value.
    pub max: PairTime,
}

/// One time of a pair.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct PairTime {
    /// Its value.
    pub value_ns: u64,
    /// True when the value is a lower bound, because what would lie beyond never arrived.
    pub at_least: bool,
}

impl PairLatency {
    /// What is kept of a summary.
    #[must_use]
    pub fn of(summary: &Summary) -> Self {
        let at = |quantile: f64| {
            let found = summary.quantiles.iter().find(|candidate| candidate.quantile == quantile);
            let found = found.expect("Bug: a quantile that is not reported");
            PairTime { value_ns: found.value_ns, at_least: found.at_least }
        };
        let max = PairTime { value_ns: summary.max_ns, at_least: summary.undelivered > 0 };
        let Summary { count, undelivered, .. } = *summary;
        Self { count, undelivered, p50: at(0.5), p99: at(0.99), max }
    }
}

impl Pair {
    /// True when all of it is missing.
    #[must_use]
    pub fn is_silent(&self) -> bool {
        self.expected > 0 && self.received == 0
    }

    fn between(&self) -> String {
        format!("from {} to {}", self.from, self.to)
    }
}

/// The pairs of which nothing arrived.
#[must_use]
pub fn silent(pairs: &[Pair]) -> Vec<String> {
    pairs.iter().filter(|pair| pair.is_silent()).map(Pair::between).collect()
}

/// The pairs of which something is missing.
#[must_use]
pub fn incomplete(pairs: &[Pair]) -> Vec<String> {
    let incomplete = pairs.iter().filter(|pair| pair.received < pair.expected);
    let told = |pair: &Pair| {
        let (missing, expected) = (grouped(pair.expected - pair.received), grouped(pair.expected));
        format!("{missing} of {expected} deliveries {} are missing", pair.between())
    };
    incomplete.map(told).collect()
}

/// The pairs that had another order, or something twice or in the wrong place, and how often that was.
#[must_use]
pub fn out_of_order(pairs: &[Pair]) -> (u64, Vec<String>) {
    let (mut total, mut told) = (0, Vec::new());
    for pair in pairs {
        let Violations { duplicates, disorder, misdelivered, ids_not_growing, ids_differing } =
            pair.violations;
        let (between, Pair { from, to, .. }) = (pair.between(), pair);
        let wrongs = [
            (duplicates, format!("deliveries {between} came twice")),
            (
                disorder,
                format!("deliveries {between} were overtaken by a later broadcast of the same speaker"),
            ),
            (misdelivered, format!("deliveries {between} reached clients that should not get them")),
            (ids_not_growing, format!("messages {between} had an id that did not grow")),
            (ids_differing, format!("messages had one id on {from} and another on {to}")),
        ];
        for (count, what) in wrongs.into_iter().filter(|(count, _)| *count > 0) {
            total += count;
            told.push(format!("{} {what}", grouped(count)));
        }
    }
    (total, told)
}

/// Findings in a sentence: the first of them, and how many more there are.
#[must_use]
pub fn listed(findings: &[String]) -> String {
    let shown = findings[..findings.len().min(FINDINGS_SHOWN)].join("; ");
    match findings.len().saturating_sub(FINDINGS_SHOWN) {
        0 => shown,
        more => format!("{shown}; and {more} more"),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A pair of the servers a and b.
    pub(crate) fn pair(expected: u64, received: u64, violations: Violations) -> Pair {
        let time = PairTime { value_ns: 1, at_least: false };
        let latency = PairLatency { count: expected, undelivered: 0, p50: time, p99: time, max: time };
        Pair { from: "ws://a".to_owned(), to: "ws://b".to_owned(), expected, received, violations, latency }
    }

    #[test]
    fn what_is_wrong_names_both_servers() {
        let pairs = [pair(9, 9, Violations::default()), pair(9, 0, Violations::default())];
        assert_eq!(silent(&pairs), ["from ws://a to ws://b"]);
        assert_eq!(incomplete(&pairs), ["9 of 9 deliveries from ws://a to ws://b are missing"]);
        assert_eq!(out_of_order(&pairs), (0, Vec::new()));
        let wrong = Violations { duplicates: 2, ids_differing: 3, ..Violations::default() };
        let (total, told) = out_of_order(&[pair(9, 9, wrong)]);
        assert_eq!(total, 5);
        assert_eq!(
            told,
            [
                "2 deliveries from ws://a to ws://b came twice",
                "3 messages had one id on ws://a and another on ws://b"
            ]
        );
    }

    #[test]
    fn many_findings_are_counted() {
        let findings: Vec<_> = (1..=10).map(|number| number.to_string()).collect();
        assert_eq!(listed(&findings), "1; 2; 3; 4; 5; 6; 7; 8; and 2 more");
        assert_eq!(listed(&findings[..2]), "1; 2");
    }
}
