//! `run.json`, read back.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::outcome::SCHEMA_VERSION;

/// The name under which the intervals without a tag are merged: intended → received, the undelivered
/// included.
pub(crate) const LATENCY: &str = "latency";
/// `run.json`, as far as it is reported or compared. Settings and provenance are taken whatever they are.
#[derive(Debug, Deserialize)]
pub(crate) struct RunResult {
    pub(crate) started_unix_seconds: f64,
    pub(crate) measured_seconds: f64,
    pub(crate) settings: Map<String, Value>,
    pub(crate) validity: Validity,
    pub(crate) connections: Connections,
    pub(crate) deliveries: Deliveries,
    pub(crate) latency: Summary,
    pub(crate) service: Summary,
    pub(crate) send_lag: Summary,
    pub(crate) first: Option<Summary>,
    pub(crate) complete: Option<Summary>,
    pub(crate) spread: Option<Summary>,
    #[serde(default)]
    pub(crate) stages: Vec<Stage>,
    /// Empty with one server.
    #[serde(default)]
    pub(crate) pairs: Vec<Pair>,
    pub(crate) server: Option<Server>,
    pub(crate) provenance: Map<String, Value>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Validity {
    pub(crate) valid: bool,
    pub(crate) gates: Vec<Gate>,
    pub(crate) warnings: Vec<String>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Gate {
    pub(crate) name: String,
    /// `None` where it was not finite, which JSON cannot say.
    pub(crate) value: Option<f64>,
    pub(crate) limit: f64,
    pub(crate) limit_is_minimum: bool,
    pub(crate) passed: bool,
    pub(crate) finding: String,
    /// Empty where the gate passed, and in runs that were saved before there was advice.
    #[serde(default)]
    pub(crate) advice: String,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Connections {
    pub(crate) ready: u64,
    pub(crate) failures: BTreeMap<String, u64>,
    pub(crate) lost: BTreeMap<String, u64>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Deliveries {
    pub(crate) broadcasts_planned: u64,
    pub(crate) sent: u64,
    pub(crate) expected: u64,
    pub(crate) received: u64,
    pub(crate) received_in_window: u64,
    pub(crate) reach: f64,
    pub(crate) duplicates: u64,
    pub(crate) disorder: u64,
    pub(crate) misdelivered: u64,
    pub(crate) altered: u64,
    pub(crate) id_conflicts: u64,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Stage {
    pub(crate) duration_seconds: f64,
    pub(crate) rate: f64,
    pub(crate) broadcasts_planned: u64,
    pub(crate) sent: u64,
    pub(crate) expected: u64,
    pub(crate) reach: f64,
    pub(crate) latency: Summary,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Pair {
    pub(crate) from: String,
    pub(crate) to: String,
    pub(crate) expected: u64,
    pub(crate) received: u64,
    pub(crate) latency: PairLatency,
}

#[derive(Debug, Deserialize)]
pub(crate) struct PairLatency {
    pub(crate) count: u64,
    pub(crate) p50: PairTime,
    pub(crate) p99: PairTime,
    pub(crate) max: PairTime,
}

#[derive(Clone, Copy, Debug, Deserialize)]
pub(crate) struct PairTime {
    pub(crate) value_ns: u64,
    pub(crate) at_least: bool,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Summary {
    pub(crate) count: u64,
    pub(crate) undelivered: u64,
    pub(crate) mean_ns: f64,
    pub(crate) max_ns: u64,
    pub(crate) quantiles: Vec<Quantile>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Quantile {
    pub(crate) quantile: f64,
    pub(crate) value_ns: u64,
    pub(crate) at_least: bool,
    pub(crate) supporting_broadcasts: u64,
    pub(crate) thin: bool,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Server {
    pub(crate) pid: u32,
    pub(crate) cpu: Cpu,
    pub(crate) window_seconds: f64,
    pub(crate) cpu_us_per_delivery: Option<f64>,
    #[serde(default)]
    pub(crate) cpu_thin: bool,
    pub(crate) cores: Option<Cores>,
    pub(crate) resident_before_connect: Option<u64>,
    pub(crate) resident_connected: Option<u64>,
    pub(crate) resident_end: Option<u64>,
    pub(crate) served_before: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Cores {
    pub(crate) cores: Vec<usize>,
    pub(crate) busy_us: u64,
    pub(crate) thin: bool,
    pub(crate) us_per_delivery: Option<f64>,
    pub(crate) shared_with_loadgen: Vec<usize>,
    pub(crate) whole_machine: bool,
}

impl Cores {
    /// True when the server had them to itself, as far as is known.
    pub(crate) fn are_own(&self) -> bool {
        self.shared_with_loadgen.is_empty() && !self.whole_machine
    }
}

#[derive(Debug, Deserialize)]
pub(crate) struct Cpu {
    pub(crate) user_us: u64,
    pub(crate) system_us: u64,
}

impl RunResult {
    /// What is known of one of the histograms that are counted.
    pub(crate) fn summary(&self, name: &str) -> Option<&Summary> {
        match name {
            LATENCY => Some(&self.latency),
            "service" => Some(&self.service),
            "complete" => self.complete.as_ref(),
            "spread" => self.spread.as_ref(),
            _ => None,
        }
    }

    /// A setting in seconds.
    pub(crate) fn seconds(&self, name: &str) -> Option<f64> {
        self.settings.get(name)?.as_f64()
    }

    /// The least time that what was never delivered has been waited for, when there is any.
    pub(crate) fn undelivered_from_ns(&self) -> Option<u64> {
        let waited = self.seconds("drain_seconds").filter(|_| self.latency.undelivered > 0)?;
        Some((waited * 1e9) as u64)
    }
}

impl Validity {
    /// Why the run is not valid.
    pub(crate) fn reasons(&self) -> String {
        let failed = self.gates.iter().filter(|gate| !gate.passed);
        failed.map(|gate| &*gate.finding).collect::<Vec<_>>().join("; ")
    }
}

impl Summary {
    pub(crate) fn quantile(&self, quantile: f64) -> Option<&Quantile> {
        self.quantiles.iter().find(|candidate| candidate.quantile == quantile)
    }
}

/// Reads the file. An error is what is missing, damaged, or of another version, in one line that names the file.
pub(super) fn read(path: &Path) -> Result<RunResult, String> {
    #[derive(Deserialize)]
    struct Version {
        schema_version: u32,
    }
    let shown = path.display();
    let text = fs::read(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => format!("{shown} is missing: the run did not come to an end"),
        _ => format!("{shown}: {error}"),
    })?;
    // The version first: of another version nothing else is known.
    let damaged = |error| format!("{shown} is damaged: {error}");
    let Version { schema_version } = serde_json::from_slice(&text).map_err(damaged)?;
    if schema_version != SCHEMA_VERSION {
        return Err(format!(
            "{shown} has schema version {schema_version}, and this loadgen reads version {SCHEMA_VERSION}: \
             measure again, or take the loadgen that wrote it"
        ));
    }
    serde_json::from_slice(&text).map_err(damaged)
}
