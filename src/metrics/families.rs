//! Families of metrics, as Prometheus text has them.

use std::fmt;
use std::sync::Arc;

use prometheus_client::encoding::{DescriptorEncoder, EncodeGaugeValue, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;

use super::{
    BatchSizeHistogram, DurationHistogram, Label, Metrics, PathDurations, RoomSizeClass, ShardMetrics,
};

/// Writes families by hand: the crate's own counters are OpenMetrics, whose TYPE line leaves out the
/// `_total` that a sample has. To a reader of version 0.0.4 the two would be different families.
pub(super) struct Families<'a>(pub(super) DescriptorEncoder<'a>);

impl Families<'_> {
    pub(super) fn one(
        &mut self,
        name: &str,
        help: &str,
        kind: MetricType,
        value: impl EncodeGaugeValue,
    ) -> fmt::Result {
        self.0.encode_descriptor(name, help, None, kind)?.encode_gauge(&value)
    }

    pub(super) fn each<L: Label>(
        &mut self,
        name: &str,
        help: &str,
        kind: MetricType,
        value: impl Fn(L) -> u64,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, kind)?;
        for label in L::VALUES {
            let labels = [(L::NAME, label.as_str())];
            family.encode_family(&labels)?.encode_gauge(&value(*label))?;
        }
        Ok(())
    }

    /// One for each of several parts, which `label` numbers.
    pub(super) fn numbered<T, V: EncodeGaugeValue>(
        &mut self,
        name: &str,
        help: &str,
        kind: MetricType,
        label: &'static str,
        parts: &[T],
        value: impl Fn(&T) -> V,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, kind)?;
        for (index, part) in parts.iter().enumerate() {
            let labels = [(label, index.to_string())];
            family.encode_family(&labels)?.encode_gauge(&value(part))?;
        }
        Ok(())
    }

    /// One for each value of a label in each of several parts.
    pub(super) fn numbered_each<T, L: Label>(
        &mut self,
        name: &str,
        help: &str,
        kind: MetricType,
        label: &'static str,
        parts: &[T],
        value: impl Fn(&T, L) -> u64,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, kind)?;
        for (index, part) in parts.iter().enumerate() {
            for of_label in L::VALUES {
                let labels = [(label, index.to_string()), (L::NAME, of_label.as_str().to_owned())];
                family.encode_family(&labels)?.encode_gauge(&value(part, *of_label))?;
            }
        }
        Ok(())
    }

    /// A histogram for each of several parts.
    pub(super) fn numbered_histograms<T>(
        &mut self,
        name: &str,
        help: &str,
        label: &'static str,
        parts: &[T],
        write: impl Fn(&T, MetricEncoder<'_>) -> fmt::Result,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Histogram)?;
        for (index, part) in parts.iter().enumerate() {
            let labels = [(label, index.to_string())];
            write(part, family.encode_family(&labels)?)?;
        }
        Ok(())
    }

    /// Leaves out the shards of which the kernel tells nothing.
    pub(super) fn busy(&mut self, name: &str, help: &str, metrics: &Metrics) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (index, busy) in metrics.busy_times().into_iter().enumerate() {
            if let Some(busy) = busy {
                let labels = [("shard", index.to_string())];
                family.encode_family(&labels)?.encode_gauge(&busy.as_secs_f64())?;
            }
        }
        Ok(())
    }

    pub(super) fn build_info(&mut self) -> fmt::Result {
        let mut family = self.0.encode_descriptor(
            "build_info",
            "1, with the version of the program",
            None,
            MetricType::Gauge,
        )?;
        let labels = [
            ("version", env!("CARGO_PKG_VERSION")),
            // Packagers set it; a build from an archive has none.
            ("revision", option_env!("UPROAR_REVISION").unwrap_or_default()),
        ];
        family.encode_family(&labels)?.encode_gauge(&1)
    }

    pub(super) fn paths(&mut self, name: &str, help: &str, durations: &PathDurations) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Histogram)?;
        for (path, durations) in durations.all() {
            let labels = [("path", &*path)];
            histogram(family.encode_family(&labels)?, || std::iter::once(&*durations))?;
        }
        Ok(())
    }

    pub(super) fn fan_out(&mut self, name: &str, help: &str, shards: &[Arc<ShardMetrics>]) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Histogram)?;
        for class in RoomSizeClass::ALL {
            let series = || shards.iter().map(|shard| shard.fan_out.series.with(*class));
            let labels = [(RoomSizeClass::NAME, class.as_str())];
            histogram(family.encode_family(&labels)?, series)?;
        }
        Ok(())
    }

    pub(super) fn durations(&mut self, name: &str, help: &str, durations: &DurationHistogram) -> fmt::Result {
        let family = self.0.encode_descriptor(name, help, None, MetricType::Histogram)?;
        histogram(family, || std::iter::once(durations))
    }
}

/// Writes the sum of histograms of durations.
pub(super) fn histogram<'a, I: Iterator<Item = &'a DurationHistogram>>(
    mut to: MetricEncoder<'_>,
    series: impl Fn() -> I,
) -> fmt::Result {
    let mut buckets: Vec<(f64, u64)> =
        DurationHistogram::BOUNDS_NS.iter().map(|ns| (*ns as f64 / 1e9, 0)).collect();
    buckets.push((f64::INFINITY, 0));
    for durations in series() {
        for ((_, sum), count) in buckets.iter_mut().zip(durations.counts()) {
            *sum += count;
        }
    }
    let count = buckets.iter().map(|(_, count)| count).sum();
    let sum = series().map(DurationHistogram::sum_seconds).sum();
    to.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
}

/// Writes a histogram of the sizes of batches.
pub(super) fn batch_sizes(mut to: MetricEncoder<'_>, sizes: &BatchSizeHistogram) -> fmt::Result {
    let bounds = BatchSizeHistogram::BOUNDS.iter().map(|bound| *bound as f64).chain([f64::INFINITY]);
    let buckets: Vec<(f64, u64)> = bounds.zip(sizes.counts()).collect();
    let count = buckets.iter().map(|(_, count)| count).sum();
    to.encode_histogram::<NoLabelSet>(sizes.sum() as f64, count, &buckets, None)
}
