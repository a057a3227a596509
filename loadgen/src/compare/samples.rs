//! What is compared: each metric with one value for every run. The values of a run come from the
//! histogram of the whole run; percentiles are never averaged.

use serde::Serialize;

use crate::saved::{LATENCY, SavedRun};
use crate::timings::quantiles::{THIN_BELOW, value_at};

/// Something that a run measures.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// Its name on the command line and in results.
    pub name: &'static str,
    /// What its values are counted in.
    pub unit: &'static str,
    /// Which way is worse.
    pub worse: Worse,
    source: Source,
}

/// Which way is worse.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Worse {
    /// Times and costs.
    Higher,
    /// Throughput.
    Lower,
}

#[derive(Clone, Copy, Debug)]
enum Source {
    Quantile(&'static str, f64),
    Max(&'static str),
    CpuPerDelivery,
    CoreCpuPerDelivery,
    ResidentEnd,
    DeliveriesPerSecond,
}

/// All metrics, in the order in which they are shown.
pub const METRICS: [Metric; 13] = [
    time("latency.p50", Source::Quantile(LATENCY, 0.5)),
    time("latency.p90", Source::Quantile(LATENCY, 0.9)),
    time("latency.p99", Source::Quantile(LATENCY, 0.99)),
    time("latency.p99.9", Source::Quantile(LATENCY, 0.999)),
    time("latency.max", Source::Max(LATENCY)),
    time("complete.p50", Source::Quantile("complete", 0.5)),
    time("complete.p99", Source::Quantile("complete", 0.99)),
    time("spread.p50", Source::Quantile("spread", 0.5)),
    time("service.p99", Source::Quantile("service", 0.99)),
    Metric { name: "server.cpu", unit: "µs/delivery", worse: Worse::Higher, source: Source::CpuPerDelivery },
    Metric {
        name: "server.core_cpu",
        unit: "µs/delivery",
        worse: Worse::Higher,
        source: Source::CoreCpuPerDelivery,
    },
    Metric { name: "server.rss", unit: "MiB", worse: Worse::Higher, source: Source::ResidentEnd },
    Metric { name: "deliveries", unit: "1/s", worse: Worse::Lower, source: Source::DeliveriesPerSecond },
];

const fn time(name: &'static str, source: Source) -> Metric {
    Metric { name, unit: "ms", worse: Worse::Higher, source }
}

/// One run's value of a metric.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Datum {
    /// The value, in the metric's unit.
    pub value: f64,
    /// True when it is a lower bound, because what would lie beyond never arrived.
    pub at_least: bool,
    /// True when fewer broadcasts than needed stand behind it, or so little CPU time that it cannot be exact.
    pub thin: bool,
}

/// All runs' values of a metric.
#[derive(Clone, Debug)]
pub struct Samples {
    /// Which.
    pub metric: Metric,
    /// One for each run of the first side.
    pub a: Vec<Datum>,
    /// One for each run of the second side.
    pub b: Vec<Datum>,
}

impl Samples {
    /// The samples of every metric that all runs have, and the names of those that only some have.
    #[must_use]
    pub fn of(a: &[SavedRun], b: &[SavedRun]) -> (Vec<Self>, Vec<&'static str>) {
        let (mut complete, mut partial) = (Vec::new(), Vec::new());
        for metric in METRICS {
            let data = |runs: &[SavedRun]| runs.iter().filter_map(|run| metric.of(run)).collect::<Vec<_>>();
            let samples = Self { metric, a: data(a), b: data(b) };
            if (samples.a.len(), samples.b.len()) == (a.len(), b.len()) {
                complete.push(samples);
            } else if !(samples.a.is_empty() && samples.b.is_empty()) {
                partial.push(metric.name);
            }
        }
        (complete, partial)
    }
}

/// What a run lacks to rely on a quantile: of independent broadcasts, [`THIN_BELOW`] are to lie beyond it.
/// `None` where they do, and for a metric that is no quantile.
#[must_use]
pub fn shortage(metric: &str, rate: f64, seconds: f64) -> Option<String> {
    let metric = METRICS.into_iter().find(|candidate| candidate.name == metric)?;
    let Source::Quantile(_, quantile) = metric.source else { return None };
    let needed = (THIN_BELOW as f64 / (1.0 - quantile)).round();
    let count = (rate * seconds).round();
    (count < needed).then(|| {
        format!(
            "{} of {count} broadcasts is one of few; {needed} make it reliable: --duration {:.0}s, or --rate {:.0}",
            metric.name,
            (needed / rate).ceil(),
            (needed / seconds).ceil()
        )
    })
}

impl Metric {
    /// The value of a run; `None` when the run did not measure it.
    fn of(&self, run: &SavedRun) -> Option<Datum> {
        let exact = |value| Datum { value, at_least: false, thin: false };
        let milliseconds = |nanoseconds: u64| nanoseconds as f64 / 1e6;
        match self.source {
            Source::Quantile(name, quantile) => {
                let value = milliseconds(value_at(run.log.histogram(name)?, quantile));
                let support =
                    run.result.summary(name)?.quantiles.iter().find(|found| found.quantile == quantile);
                let (at_least, thin) = support.map_or((false, true), |found| (found.at_least, found.thin));
                Some(Datum { value, at_least, thin })
            }
            // The largest value is one broadcast's, in every run: a mark on it would say nothing.
            Source::Max(name) => {
                let value = milliseconds(run.log.histogram(name)?.max());
                Some(Datum { value, at_least: run.result.summary(name)?.undelivered > 0, thin: false })
            }
            Source::CpuPerDelivery => {
                let server = run.result.server.as_ref()?;
                server.cpu_us_per_delivery.map(|us| Datum { thin: server.cpu_thin, ..exact(us) })
            }
            // Where others worked on them, too, it is no cost of the server's.
            Source::CoreCpuPerDelivery => {
                let cores = run.result.server.as_ref()?.cores.as_ref().filter(|cores| cores.are_own())?;
                cores.us_per_delivery.map(|us| Datum { thin: cores.thin, ..exact(us) })
            }
            Source::ResidentEnd => {
                let bytes = run.result.server.as_ref()?.resident_end?;
                Some(exact(bytes as f64 / f64::from(1 << 20)))
            }
            // Not what --duration asked for: a run takes the time of a whole number of broadcasts, and one that
            // ended early less.
            Source::DeliveriesPerSecond => {
                Some(exact(run.result.deliveries.received_in_window as f64 / run.result.measured_seconds))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_broadcasts_are_to_lie_beyond_a_quantile() {
        let short = shortage("latency.p99", 5.0, 30.0).expect("150 are too few");
        assert_eq!(
            short,
            "latency.p99 of 150 broadcasts is one of few; 1000 make it reliable: --duration 200s, or --rate 34"
        );
        assert_eq!(shortage("latency.p99", 5.0, 200.0), None);
        assert!(shortage("latency.p99.9", 50.0, 199.0).is_some_and(|why| why.contains("--rate 51")));
        assert_eq!(shortage("latency.p50", 5.0, 30.0), None);
        assert_eq!(shortage("server.cpu", 1.0, 1.0), None);
    }
}
