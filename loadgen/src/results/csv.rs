//! The result as one line of comma-separated values (RFC 4180), under a line of names. The lines of
//! several runs can be put below one another: all have the same columns, and at the end more for each pair of servers
//! where there are several.

use crate::outcome::pairs::Pair;
use crate::outcome::{Outcome, Server, ServerCores};
use crate::timings::quantiles::Summary;

/// The columns, in order.
fn columns(outcome: &Outcome) -> Vec<(String, String)> {
    let settings = &outcome.settings;
    let deliveries = &outcome.deliveries;
    let counts = &deliveries.counts;
    let mut columns: Vec<(String, String)> = vec![
        ("started_unix_seconds".into(), format!("{:.3}", outcome.started_unix_seconds)),
        ("url".into(), quoted(&settings.url)),
        ("dialect".into(), settings.dialect.to_owned()),
        ("clients".into(), settings.clients.to_string()),
        ("rooms".into(), settings.rooms.to_string()),
        ("senders".into(), settings.speakers.to_string()),
        ("rate".into(), settings.rate.to_string()),
        ("payload_bytes".into(), settings.payload_bytes.to_string()),
        ("measured_seconds".into(), format!("{:.3}", outcome.measured_seconds)),
        ("valid".into(), outcome.validity.valid.to_string()),
        ("thresholds_passed".into(), outcome.thresholds.iter().all(|verdict| verdict.passed).to_string()),
        ("sent".into(), counts.sent.to_string()),
        ("expected".into(), deliveries.expected.to_string()),
        ("received".into(), counts.received.to_string()),
        ("reach".into(), format!("{:.6}", deliveries.reach)),
        ("duplicates".into(), counts.duplicates.to_string()),
        ("disorder".into(), counts.disorder.to_string()),
    ];
    let times = [
        ("latency", Some(&outcome.latency)),
        ("service", Some(&outcome.service)),
        ("send_lag", Some(&outcome.send_lag)),
        ("first", outcome.first.as_ref()),
        ("complete", outcome.complete.as_ref()),
        ("spread", outcome.spread.as_ref()),
    ];
    for (name, summary) in times {
        for (statistic, value) in statistics(summary) {
            columns.push((format!("{name}_{statistic}_ms"), value));
        }
    }
    columns.extend(costs(outcome.server.as_ref()).map(|(name, value)| (name.to_owned(), value)));
    let servers = outcome.pairs.len().isqrt();
    for (index, pair) in outcome.pairs.iter().enumerate() {
        let name = format!("pair_{}_{}", index / servers + 1, index % servers + 1);
        columns.extend(pair_columns(pair).map(|(column, value)| (format!("{name}_{column}"), value)));
    }
    columns
}

/// The deliveries from one server to another.
fn pair_columns(pair: &Pair) -> [(&'static str, String); 5] {
    let latency = &pair.latency;
    let milliseconds = |ns: u64| match latency.count {
        0 => String::new(),
        _ => format!("{:.6}", ns as f64 / 1e6),
    };
    [
        ("expected", pair.expected.to_string()),
        ("received", pair.received.to_string()),
        ("p50_ms", milliseconds(latency.p50.value_ns)),
        ("p99_ms", milliseconds(latency.p99.value_ns)),
        ("max_ms", milliseconds(latency.max.value_ns)),
    ]
}

/// Nothing was measured where there is no summary, or none of a single value, and the fields stay empty.
fn statistics(summary: Option<&Summary>) -> impl Iterator<Item = (&'static str, String)> {
    let summary = summary.filter(|summary| summary.count > 0);
    let milliseconds = |ns: f64| format!("{:.6}", ns / 1e6);
    let quantiles = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999)];
    let quantiles = quantiles
        .map(|(name, quantile)| (name, summary.map(|summary| summary.value_ns(quantile) as f64)))
        .into_iter();
    let max = ("max", summary.map(|summary| summary.max_ns as f64));
    let mean = ("mean", summary.map(|summary| summary.mean_ns));
    quantiles.chain([max, mean]).map(move |(name, ns)| (name, ns.map_or(String::new(), milliseconds)))
}

/// What the server cost, as far as it is known.
fn costs(server: Option<&Server>) -> [(&'static str, String); 6] {
    let cores = server.and_then(|server| server.cores.as_ref());
    let each = |us: Option<f64>| us.map_or(String::new(), |us| format!("{us:.3}"));
    let flag = |flag: Option<bool>| flag.map_or(String::new(), |flag| flag.to_string());
    [
        ("cpu_us_per_delivery", each(server.and_then(|server| server.cpu_us_per_delivery))),
        ("cpu_thin", flag(server.map(|server| server.cpu_thin))),
        ("core_cpu_us_per_delivery", each(cores.and_then(|cores| cores.us_per_delivery))),
        ("core_cpu_thin", flag(cores.map(|cores| cores.thin))),
        ("cores_are_own", flag(cores.map(ServerCores::are_own))),
        ("served_before", flag(server.map(|server| server.served_before.is_some()))),
    ]
}

fn quoted(field: &str) -> String {
    match field.contains([',', '"', '\r', '\n']) {
        true => format!("\"{}\"", field.replace('"', "\"\"")),
        false => field.to_owned(),
    }
}

/// The line of names, and the line of values.
#[must_use]
pub fn lines(outcome: &Outcome) -> [String; 2] {
    let (names, values): (Vec<_>, Vec<_>) = columns(outcome).into_iter().unzip();
    [names.join(",") + "\n", values.join(",") + "\n"]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::timings::Timings;
    use crate::timings::quantiles::Undelivered;

    #[test]
    fn a_field_with_a_comma_or_a_quote_is_quoted() {
        assert_eq!(["a", "a,b", "a\"b"].map(quoted), ["a", "\"a,b\"", "\"a\"\"b\""]);
    }

    #[test]
    fn what_was_not_measured_is_empty() {
        let empty = Summary::independent(&Timings::default(), Undelivered::default());
        for nothing in [None, Some(&empty)] {
            assert!(statistics(nothing).all(|(_, value)| value.is_empty()));
        }
    }
}
