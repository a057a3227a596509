//! A run as it lies in its directory: the parts of `run.json` that a comparison needs, and the histograms
//! of `run.hlog`, merged over their intervals.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::Deserializer;
use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry, LogIteratorError};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::measure::histogram;
use crate::outcome::SCHEMA_VERSION;

/// The name under which the intervals without a tag are merged.
pub const LATENCY: &str = "latency";

/// A run, read back.
#[derive(Debug)]
pub struct StoredRun {
    /// Where it was read.
    pub directory: PathBuf,
    /// What `run.json` says of it.
    pub document: Document,
    /// The histograms of the whole run by name.
    pub histograms: BTreeMap<String, Histogram<u64>>,
}

/// The parts of `run.json` that are compared.
#[derive(Debug, Deserialize)]
pub struct Document {
    /// What was asked for, whatever options there are.
    pub settings: Map<String, Value>,
    /// Whether the run may be believed.
    pub validity: Validity,
    /// How many of what.
    pub deliveries: Deliveries,
    /// Intended → received.
    pub latency: Summary,
    /// Actual send → received.
    pub service: Summary,
    /// Intended → last receiver.
    pub complete: Option<Summary>,
    /// First → last receiver.
    pub spread: Option<Summary>,
    /// What the server cost.
    pub server: Option<Server>,
    /// Where the run was made, and with what.
    pub provenance: Map<String, Value>,
}

/// Whether a run may be believed.
#[derive(Debug, Deserialize)]
pub struct Validity {
    /// True when all gates passed.
    pub valid: bool,
    gates: Vec<Gate>,
}

#[derive(Debug, Deserialize)]
struct Gate {
    passed: bool,
    finding: String,
}

/// How many of what.
#[derive(Debug, Deserialize)]
pub struct Deliveries {
    /// Deliveries that arrived while measuring.
    pub received_in_window: u64,
}

/// What is known about a histogram beside its values.
#[derive(Debug, Deserialize)]
pub struct Summary {
    /// How many values it has.
    pub count: u64,
    /// How many of them never arrived.
    pub undelivered: u64,
    /// What stands behind each quantile.
    pub quantiles: Vec<Support>,
}

/// What stands behind a quantile.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Support {
    /// Which.
    pub quantile: f64,
    /// True when it is a lower bound.
    pub at_least: bool,
    /// True when too few broadcasts support it.
    pub thin: bool,
}

/// What the server cost.
#[derive(Debug, Deserialize)]
pub struct Server {
    /// Its process.
    pub pid: u32,
    /// Microseconds of CPU for each delivery.
    pub cpu_us_per_delivery: Option<f64>,
    /// Resident memory at the end.
    pub resident_end: Option<u64>,
}

impl Validity {
    /// Why the run is not valid.
    #[must_use]
    pub fn reasons(&self) -> String {
        let failed = self.gates.iter().filter(|gate| !gate.passed);
        failed.map(|gate| &*gate.finding).collect::<Vec<_>>().join("; ")
    }
}

impl StoredRun {
    /// True when a directory holds a run, or what is left of one.
    #[must_use]
    pub fn is_in(directory: &Path) -> bool {
        ["run.json", "run.hlog"].iter().any(|name| directory.join(name).exists())
    }

    /// Reads a run.
    ///
    /// # Errors
    ///
    /// What is missing, damaged, or of another version, in one line that names the file.
    pub fn read(directory: &Path) -> Result<Self, String> {
        let document = read_document(&directory.join("run.json"))?;
        let path = directory.join("run.hlog");
        let log = fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let histograms = merge(&log).map_err(|why| format!("{} is damaged: {why}", path.display()))?;
        let run = Self { directory: directory.to_owned(), document, histograms };
        run.check_counts().map_err(|why| format!("{} is damaged: {why}", path.display()))?;
        Ok(run)
    }

    /// What is known about one of the histograms.
    #[must_use]
    pub fn summary(&self, name: &str) -> Option<&Summary> {
        match name {
            LATENCY => Some(&self.document.latency),
            "service" => Some(&self.document.service),
            "complete" => self.document.complete.as_ref(),
            "spread" => self.document.spread.as_ref(),
            _ => None,
        }
    }

    /// A log that lost lines still parses; only the counts show it.
    fn check_counts(&self) -> Result<(), String> {
        for name in [LATENCY, "service", "complete", "spread"] {
            let expected = self.summary(name).map_or(0, |summary| summary.count);
            let found = self.histograms.get(name).map_or(0, Histogram::len);
            if expected != found {
                return Err(format!("it holds {found} values of {name}, and run.json counts {expected}"));
            }
        }
        Ok(())
    }
}

fn read_document(path: &Path) -> Result<Document, String> {
    #[derive(Deserialize)]
    struct Version {
        schema_version: u32,
    }
    let shown = path.display();
    let text = fs::read(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => format!("{shown} is missing: the run did not come to an end"),
        _ => format!("{shown}: {error}"),
    })?;
    // The version first: of another version nothing else is known.
    let damaged = |error| format!("{shown} is damaged: {error}");
    let Version { schema_version } = serde_json::from_slice(&text).map_err(damaged)?;
    if schema_version != SCHEMA_VERSION {
        return Err(format!(
            "{shown} has schema version {schema_version}, and this loadgen reads version {SCHEMA_VERSION}: \
             measure again, or compare with the loadgen that wrote it"
        ));
    }
    serde_json::from_slice(&text).map_err(damaged)
}

/// Adds up the intervals of a log by their tags.
fn merge(log: &[u8]) -> Result<BTreeMap<String, Histogram<u64>>, String> {
    let mut merged: BTreeMap<String, Histogram<u64>> = BTreeMap::new();
    let mut deserializer = Deserializer::new();
    for entry in IntervalLogIterator::new(log) {
        let entry = entry.map_err(|LogIteratorError::ParseError { offset }| {
            format!("what begins at byte {offset} is no line of an interval log")
        })?;
        let LogEntry::Interval(interval) = entry else { continue };
        let tag = interval.tag();
        let name = tag.as_ref().map_or(LATENCY, |tag| tag.as_str());
        let at = |why: String| format!("the {name} interval at {:?}: {why}", interval.start_timestamp());
        let bytes = STANDARD.decode(interval.encoded_histogram()).map_err(|error| at(error.to_string()))?;
        let values: Histogram<u64> =
            deserializer.deserialize(&mut &bytes[..]).map_err(|error| at(error.to_string()))?;
        let sum = merged.entry(name.to_owned()).or_insert_with(histogram);
        sum.add(&values).map_err(|error| at(error.to_string()))?;
    }
    Ok(merged)
}
