//! Reads a saved run back: `run.json` for what was counted, `run.hlog` for the histograms.
//!
//! The reports on saved runs, `page` and `compare`, both read here. The files may come from anywhere. What is
//! damaged, of another version, or does not belong together is refused with the file's name; nothing in them is taken
//! for markup.

pub mod baseline;
mod result;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::Deserializer;
use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry, LogIteratorError};

use crate::timings;
use crate::timings::quantiles::value_at;
pub(crate) use result::{Cores, Gate, LATENCY, PairTime, Quantile, RunResult, Server, Summary};

/// The most points of a timeline: about one for every two pixels. A longer run has several seconds a point.
const POINTS_MAX: f64 = 400.0;

/// The histograms that `run.json` counts, by their names in the log.
const COUNTED: [&str; 4] = [LATENCY, "service", "complete", "spread"];

/// A run that was read back.
#[derive(Debug)]
pub struct SavedRun {
    /// Where it was read.
    pub(crate) directory: PathBuf,
    /// `run.json`.
    pub(crate) result: RunResult,
    /// The histograms.
    pub(crate) log: Log,
}

/// What `run.hlog` holds.
#[derive(Debug)]
pub(crate) struct Log {
    /// The histograms of the whole run, by tag; that without a tag is [`LATENCY`] and always there.
    merged: BTreeMap<String, Histogram<u64>>,
    /// The latencies by time of receipt, in order.
    pub(crate) timeline: Vec<Point>,
    /// How many seconds a point of the timeline stands for.
    pub(crate) seconds_per_point: u64,
}

/// The latencies received in one second, or in several of a long run.
#[derive(Debug, PartialEq)]
pub(crate) struct Point {
    /// When it began, in seconds since measuring began.
    pub(crate) start_seconds: f64,
    /// Deliveries received. Of none there are no latencies.
    pub(crate) count: u64,
    pub(crate) p50_ns: u64,
    pub(crate) p99_ns: u64,
    pub(crate) max_ns: u64,
}

impl SavedRun {
    /// True when a directory holds a run, or what is left of one.
    pub(crate) fn is_in(directory: &Path) -> bool {
        ["run.json", "run.hlog"].iter().any(|name| directory.join(name).exists())
    }

    /// The directory itself when it holds a run, otherwise those of its subdirectories that do. Hidden ones
    /// are left out: they hold what is being written.
    pub(crate) fn find(directory: &Path) -> Result<Vec<PathBuf>, String> {
        if Self::is_in(directory) {
            return Ok(vec![directory.to_owned()]);
        }
        let failed = |error| format!("{}: {error}", directory.display());
        let mut found = Vec::new();
        for entry in fs::read_dir(directory).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
            if !hidden && Self::is_in(&entry.path()) {
                found.push(entry.path());
            }
        }
        found.sort();
        match found.is_empty() {
            true => Err(format!("{}: neither it nor a directory in it holds a run", directory.display())),
            false => Ok(found),
        }
    }

    /// Reads what is in a directory. An error is what is missing, damaged, or of another version, in one
    /// line that names the file.
    pub(crate) fn read(directory: &Path) -> Result<Self, String> {
        let result = result::read(&directory.join("run.json"))?;
        let path = directory.join("run.hlog");
        let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let damaged = |why| format!("{} is damaged: {why}", path.display());
        let seconds = result.seconds("duration_seconds").unwrap_or(0.0);
        let mut log = Log::parse(&text, result.latency.undelivered > 0, seconds).map_err(damaged)?;
        // A log that lost lines still parses; only the counts show it.
        for name in COUNTED {
            let expected = result.summary(name).map_or(0, |summary| summary.count);
            let found = log.histogram(name).map_or(0, Histogram::len);
            if expected != found {
                return Err(damaged(format!(
                    "it holds {found} values of {name}, and run.json counts {expected}"
                )));
            }
        }
        // The drain's seconds after the last delivery say nothing.
        while log.timeline.last().is_some_and(|point| point.count == 0) {
            log.timeline.pop();
        }
        Ok(Self { directory: directory.to_owned(), result, log })
    }
}

impl Log {
    /// A histogram of the whole run.
    pub(crate) fn histogram(&self, name: &str) -> Option<&Histogram<u64>> {
        self.merged.get(name)
    }

    /// Intended → received, the undelivered included.
    pub(crate) fn latency(&self) -> &Histogram<u64> {
        &self.merged[LATENCY]
    }

    /// Parses the log of a run that was to last so many seconds.
    fn parse(text: &str, last_is_undelivered: bool, seconds: f64) -> Result<Self, String> {
        let seconds_per_point = (seconds / POINTS_MAX).ceil().max(1.0) as u64;
        let mut merged = BTreeMap::from([(LATENCY.to_owned(), timings::histogram())]);
        let mut deserializer = Deserializer::new();
        let mut points = Points::new(seconds_per_point);
        // The undelivered are an interval of their own, the last one, and no part of the timeline.
        let mut held: Option<(f64, Histogram<u64>)> = None;
        for entry in IntervalLogIterator::new(text.as_bytes()) {
            let entry = entry.map_err(|LogIteratorError::ParseError { offset }| {
                format!("what begins at byte {offset} is no line of an interval log")
            })?;
            let LogEntry::Interval(interval) = entry else { continue };
            let tag = interval.tag();
            let name = tag.as_ref().map_or(LATENCY, |tag| tag.as_str());
            let at = |why: String| format!("the {name} interval at {:?}: {why}", interval.start_timestamp());
            let histogram = decode(interval.encoded_histogram(), &mut deserializer).map_err(at)?;
            let sum = merged.entry(name.to_owned()).or_insert_with(timings::histogram);
            sum.add(&histogram).map_err(|error| at(error.to_string()))?;
            if tag.is_none() {
                let next = (interval.start_timestamp().as_secs_f64(), histogram);
                if let Some((start, histogram)) = held.replace(next) {
                    points.add(start, &histogram)?;
                }
            }
        }
        if let Some((start, histogram)) = held.filter(|_| !last_is_undelivered) {
            points.add(start, &histogram)?;
        }
        Ok(Self { merged, timeline: points.finish(), seconds_per_point })
    }
}

fn decode(encoded: &str, deserializer: &mut Deserializer) -> Result<Histogram<u64>, String> {
    let bytes = STANDARD.decode(encoded).map_err(|error| error.to_string())?;
    let histogram: Histogram<u64> =
        deserializer.deserialize(&mut &bytes[..]).map_err(|error| error.to_string())?;
    let own = timings::histogram();
    if (histogram.low(), histogram.high(), histogram.sigfig()) != (own.low(), own.high(), own.sigfig()) {
        return Err("it has other bounds than loadgen's".to_owned());
    }
    Ok(histogram)
}

/// Merges the intervals of one point after the other.
struct Points {
    seconds_per_point: u64,
    complete: Vec<Point>,
    start_seconds: f64,
    merged: Histogram<u64>,
    merged_count: u64,
}

impl Points {
    fn new(seconds_per_point: u64) -> Self {
        Self {
            seconds_per_point,
            complete: Vec::new(),
            start_seconds: 0.0,
            merged: timings::histogram(),
            merged_count: 0,
        }
    }

    fn add(&mut self, start_seconds: f64, interval: &Histogram<u64>) -> Result<(), String> {
        if self.merged_count == 0 {
            self.start_seconds = start_seconds;
        }
        self.merged.add(interval).map_err(|error| error.to_string())?;
        self.merged_count += 1;
        if self.merged_count == self.seconds_per_point {
            self.complete();
        }
        Ok(())
    }

    fn complete(&mut self) {
        self.complete.push(Point {
            start_seconds: self.start_seconds,
            count: self.merged.len(),
            p50_ns: value_at(&self.merged, 0.5),
            p99_ns: value_at(&self.merged, 0.99),
            max_ns: self.merged.max(),
        });
        self.merged.reset();
        self.merged_count = 0;
    }

    fn finish(mut self) -> Vec<Point> {
        if self.merged_count > 0 {
            self.complete();
        }
        self.complete
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::hlog;
    use hdrhistogram::serialization::V2DeflateSerializer;
    use std::time::{Duration, UNIX_EPOCH};

    const MS: u64 = 1_000_000;

    fn log_of(intervals: &[&[u64]]) -> String {
        let mut sink = Vec::new();
        let mut serializer = V2DeflateSerializer::new();
        let mut log = hlog::Log::begin(&mut sink, &mut serializer, UNIX_EPOCH).expect("writes");
        let mut all = timings::histogram();
        for (second, values) in intervals.iter().enumerate() {
            let mut histogram = timings::histogram();
            values.iter().for_each(|&value| histogram.record(value).expect("within bounds"));
            all.add(&histogram).expect("the same bounds");
            let start = Duration::from_secs(second as u64);
            log.interval(&histogram, start, Duration::from_secs(1)).expect("writes");
        }
        log.tagged("service", &all, Duration::from_secs(1)).expect("writes");
        String::from_utf8(sink).expect("ASCII")
    }

    #[test]
    fn the_undelivered_count_but_are_no_part_of_the_timeline() {
        let text = log_of(&[&[MS, 2 * MS], &[], &[5000 * MS]]);
        let log = Log::parse(&text, true, 2.0).expect("parses");
        assert_eq!((log.latency().len(), log.timeline.len(), log.merged["service"].len()), (3, 2, 3));
        assert_eq!((log.timeline[0].count, log.timeline[1].count), (2, 0));
        assert_eq!(Log::parse(&text, false, 2.0).expect("parses").timeline.len(), 3);
    }

    #[test]
    fn a_long_run_has_several_seconds_a_point() {
        let log = Log::parse(&log_of(&[&[MS], &[2 * MS], &[3 * MS]]), false, 800.0).expect("parses");
        assert_eq!(log.seconds_per_point, 2);
        let points: Vec<_> = log.timeline.iter().map(|point| (point.start_seconds, point.count)).collect();
        assert_eq!(points, [(0.0, 2), (2.0, 1)]);
    }

    #[test]
    fn no_damage_makes_reading_panic() {
        let text = log_of(&[&[MS, 7 * MS, 9 * MS], &[3 * MS]]);
        for index in (0..text.len()).step_by(5) {
            for byte in [b'A', b',', b'\n', b'9', b'='] {
                let mut damaged = text.clone().into_bytes();
                damaged[index] = byte;
                let damaged = String::from_utf8(damaged).expect("ASCII");
                let _ = Log::parse(&damaged, false, 2.0);
                let _ = Log::parse(&damaged[..index], false, 2.0);
            }
        }
    }
}
