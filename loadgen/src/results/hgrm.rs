//! `run.hgrm`: a percentile distribution in the form in which HdrHistogram prints it, in milliseconds.
//! Its plotter reads it (<https://hdrhistogram.github.io/HdrHistogram/plotFiles.html>).

use std::io::{self, Write};

use hdrhistogram::Histogram;

const TICKS_PER_HALF_DISTANCE: u32 = 5;
const NS_PER_MS: f64 = 1e6;

/// Writes the distribution.
///
/// # Errors
///
/// What the sink reports.
pub fn write(mut sink: impl Write, histogram: &Histogram<u64>) -> io::Result<()> {
    writeln!(sink, "{:>12} {:>14} {:>10} {:>14}\n", "Value", "Percentile", "TotalCount", "1/(1-Percentile)")?;
    let mut count = 0;
    for step in histogram.iter_quantiles(TICKS_PER_HALF_DISTANCE) {
        count += step.count_since_last_iteration();
        let value = step.value_iterated_to().min(histogram.max()) as f64 / NS_PER_MS;
        // The quantile iterated to, as HdrHistogram prints it; the last one is 1.
        let quantile = step.quantile_iterated_to();
        if quantile < 1.0 {
            writeln!(sink, "{value:12.6} {quantile:2.12} {count:10} {:14.2}", 1.0 / (1.0 - quantile))?;
        } else {
            writeln!(sink, "{value:12.6} {quantile:2.12} {count:10}")?;
        }
    }
    let (mean, deviation) = (histogram.mean() / NS_PER_MS, histogram.stdev() / NS_PER_MS);
    writeln!(sink, "#[Mean    = {mean:12.6}, StdDeviation   = {deviation:12.6}]")?;
    let (max, total) = (histogram.max() as f64 / NS_PER_MS, histogram.len());
    writeln!(sink, "#[Max     = {max:12.6}, Total count    = {total:12}]")?;
    // Three significant digits take 2,048 sub-buckets.
    writeln!(sink, "#[Buckets = {:12}, SubBuckets     = {:12}]", histogram.buckets(), 2048)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_distribution_has_the_classic_columns_and_ends_at_one() {
        let mut histogram = crate::measure::histogram();
        (1..=1000u64).for_each(|value| histogram.record(value * 1_000_000).expect("within bounds"));
        let mut text = Vec::new();
        write(&mut text, &histogram).expect("a Vec takes everything");
        let text = String::from_utf8(text).expect("ASCII");
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[0], "       Value     Percentile TotalCount 1/(1-Percentile)");
        assert!(
            lines[2].starts_with("    1.0") && lines[2].contains(" 0.000000000000          1           1.00")
        );
        let rows: Vec<Vec<f64>> = lines[2..lines.len() - 3]
            .iter()
            .map(|line| line.split_whitespace().map(|field| field.parse().expect("a number")).collect())
            .collect();
        assert!(rows.is_sorted_by(|a, b| a[0] <= b[0] && a[1] <= b[1] && a[2] <= b[2]));
        assert_eq!((rows.last().expect("rows")[1], rows.last().expect("rows")[2]), (1.0, 1000.0));
        assert!(lines[lines.len() - 3].starts_with("#[Mean    =   500."));
    }
}
