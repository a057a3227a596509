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
    for Row { value_ns, percentile, count } in rows(histogram) {
        let (value, quantile) = (value_ns as f64 / NS_PER_MS, percentile / 100.0);
        if percentile < 100.0 {
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
    writeln!(sink, "#[Buckets = {:12}, SubBuckets     = {:12}]", histogram.buckets(), 2048)?;
    // A buffer that is dropped would keep its failure to itself.
    sink.flush()
}

/// One line of the distribution.
struct Row {
    value_ns: u64,
    /// The percentile iterated to; that of the value may be higher.
    percentile: f64,
    /// How many values are at most `value_ns`.
    count: u64,
}

/// The rows of HdrHistogram's `PercentileIterator`. The crate's iterator counts in quantiles instead of
/// percentiles, where 0.1 + 0.1 + 0.1 is more than 0.3 and a row comes out one value too late.
fn rows(histogram: &Histogram<u64>) -> Vec<Row> {
    let mut rows = Vec::new();
    let (mut percentile, mut count) = (0.0, 0);
    for recorded in histogram.iter_recorded() {
        count += recorded.count_at_value();
        let value_ns = recorded.value_iterated_to().min(histogram.max());
        while 100.0 * count as f64 / histogram.len() as f64 >= percentile {
            rows.push(Row { value_ns, percentile, count });
            let halvings = (100.0 / (100.0 - percentile)).log2() as i32;
            percentile += 100.0 / (f64::from(TICKS_PER_HALF_DISTANCE) * 2_f64.powi(halvings + 1));
            // The largest value has one row by its rank, and one at 100 %.
            if count == histogram.len() {
                rows.push(Row { value_ns, percentile: 100.0, count });
                break;
            }
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_distribution_has_the_classic_columns_and_ends_at_one() {
        let mut histogram = crate::timings::histogram();
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
