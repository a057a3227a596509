//! The result of a run: what `run.json` holds and what the text is made from.

pub mod ending;
pub mod pairs;
pub mod provenance;
pub mod validity;

use std::collections::BTreeMap;
use std::process::ExitCode;

use serde::Serialize;

use crate::measure::counts::{ChurnCounts, Counts};
use crate::network::security::Tls;
use crate::options::arrivals::Arrivals;
use crate::options::threshold::{Metric, Threshold, Time, Verdict};
use crate::outcome::ending::Ending;
use crate::outcome::pairs::Pair;
use crate::outcome::provenance::Provenance;
use crate::outcome::validity::Validity;
use crate::server::process::CpuTime;
use crate::timings::quantiles::Summary;

/// The version of the form of `run.json`. It grows when a field changes its meaning or goes.
pub const SCHEMA_VERSION: u32 = 1;

/// The result of a run.
#[derive(Debug, Serialize)]
pub struct Outcome {
    /// [`SCHEMA_VERSION`].
    pub schema_version: u32,
    /// When measuring began, in seconds since 1970, UTC.
    pub started_unix_seconds: f64,
    /// What was asked for.
    pub settings: Settings,
    /// How it came to its end.
    pub ending: Ending,
    /// How long was measured.
    pub measured_seconds: f64,
    /// Whether it may be believed.
    pub validity: Validity,
    /// How connecting went.
    pub connections: Connections,
    /// How many of what.
    pub deliveries: Deliveries,
    /// Intended → received. All times are in nanoseconds.
    pub latency: Summary,
    /// Actual send → received.
    pub service: Summary,
    /// Intended → actual send, one value for each broadcast.
    pub send_lag: Summary,
    /// Intended → first receiver, one value for each broadcast; not for echo.
    pub first: Option<Summary>,
    /// Intended → last receiver, one value for each broadcast; not for echo.
    pub complete: Option<Summary>,
    /// First → last receiver, one value for each broadcast that reached all of them; not for echo.
    pub spread: Option<Summary>,
    /// Each stage by itself, by when a broadcast was due; empty when there is one rate.
    pub stages: Vec<StageOutcome>,
    /// Each pair of servers by itself, by the server of the speaker and then by that of the receiver; empty when there
    /// is one server.
    pub pairs: Vec<Pair>,
    /// Each half of the measuring time by itself, by time of receipt.
    pub halves: Option<[Half; 2]>,
    /// The conditions that were to hold.
    pub thresholds: Vec<Verdict>,
    /// The threads of this process.
    pub threads: Vec<Thread>,
    /// What the server's process cost.
    pub server: Option<Server>,
    /// Where this comes from.
    pub provenance: Provenance,
    /// What of it could not be written to `--out`, and why.
    #[serde(skip)]
    pub unsaved: Option<String>,
}

/// What was asked for: the options as they took effect.
#[derive(Debug, Serialize)]
pub struct Settings {
    /// `--url`; several are separated by commas.
    pub url: String,
    /// Over TLS, whether the server's certificate was looked at; otherwise nothing.
    pub tls: Option<Tls>,
    /// The path upgraded; several are separated by commas.
    pub path: String,
    /// `--dialect`.
    pub dialect: &'static str,
    /// `--room`; several are separated by commas.
    pub room: String,
    /// `--rooms`.
    pub rooms: u32,
    /// `--clients`.
    pub clients: u32,
    /// How many of them speak.
    pub speakers: u32,
    /// How many of them stop reading.
    pub slow_clients: u32,
    /// `--rate`, or the mean of `--stages`.
    pub rate: f64,
    /// `--stages`.
    pub stages: Option<String>,
    /// `--arrivals`.
    pub arrivals: Arrivals,
    /// `--churn`.
    pub churn: Option<f64>,
    /// `--payload`.
    pub payload_bytes: usize,
    /// `--warmup`.
    pub warmup_seconds: f64,
    /// `--duration`.
    pub duration_seconds: f64,
    /// `--drain`.
    pub drain_seconds: f64,
    /// `--connect-rate`.
    pub connect_rate: Option<f64>,
    /// `--cores`; empty when not pinned.
    pub cores: Vec<usize>,
    /// How many threads own clients.
    pub threads: u32,
    /// `--busy-poll`.
    pub busy_poll: bool,
    /// `--allow-loss`.
    pub allow_loss: bool,
    /// `--seed`.
    pub seed: u64,
}

/// How connecting went.
#[derive(Debug, Serialize)]
pub struct Connections {
    /// Clients that became ready, the slow included.
    pub ready: u64,
    /// How long it took until the last of them was, from the first connect(2).
    pub seconds: f64,
    /// Clients that did not, by reason.
    pub failures: BTreeMap<String, u64>,
    /// Clients lost after they had become ready, by reason.
    pub lost: BTreeMap<String, u64>,
    /// Clients that stopped reading.
    pub slow: u64,
    /// Those of them that the server closed, by close code; 1006: without a close frame.
    pub slow_closed: BTreeMap<u16, u64>,
    /// How often clients left and rejoined; nothing without `--churn`.
    pub churn: Option<ChurnCounts>,
    /// connect(2) → TCP connected, as seen by the request having left.
    pub tcp: Summary,
    /// Until the TLS handshake was complete, where there is one.
    pub tls: Option<Summary>,
    /// connect(2) → upgrade accepted.
    pub upgrade: Summary,
    /// connect(2) → welcome, users and history received; chat only.
    pub join: Option<Summary>,
}

/// How many of what.
#[derive(Debug, Serialize)]
pub struct Deliveries {
    /// Measured broadcasts that were planned.
    pub broadcasts_planned: u64,
    /// Deliveries that those sent come to.
    pub expected: u64,
    /// Expected and not received.
    pub undelivered: u64,
    /// Received ÷ expected.
    pub reach: f64,
    /// Each room by itself; not for echo.
    pub rooms: Vec<Room>,
    /// What was counted.
    #[serde(flatten)]
    pub counts: Counts,
    /// The server's first error message.
    pub server_error: Option<String>,
}

/// The deliveries of one room or topic.
#[derive(Debug, Serialize)]
pub struct Room {
    /// Its name.
    pub name: String,
    /// Clients in it that read.
    pub readers: u64,
    /// Deliveries expected.
    pub expected: u64,
    /// Deliveries received.
    pub received: u64,
    /// Received ÷ expected.
    pub reach: f64,
}

/// What one stage came to.
#[derive(Debug, Serialize)]
pub struct StageOutcome {
    /// How long it was to last.
    pub duration_seconds: f64,
    /// Broadcasts a second.
    pub rate: f64,
    /// Broadcasts planned.
    pub broadcasts_planned: u64,
    /// Broadcasts handed to the kernel.
    pub sent: u64,
    /// Deliveries expected of those.
    pub expected: u64,
    /// Deliveries received.
    pub received: u64,
    /// Received ÷ expected.
    pub reach: f64,
    /// Intended → received.
    pub latency: Summary,
    /// Intended → actual send.
    pub send_lag: Summary,
}

/// One half of the measuring time.
#[derive(Debug, Serialize)]
pub struct Half {
    /// Deliveries received.
    pub received: u64,
    /// Median latency.
    pub p50_ns: u64,
    /// 99th percentile of the latency.
    pub p99_ns: u64,
}

/// One thread of this process.
#[derive(Debug, Serialize)]
pub struct Thread {
    /// Its core, when pinned.
    pub core: Option<usize>,
    /// The share of the measuring time in which it was processing.
    pub busy_share: f64,
}

/// What the server cost while measuring.
#[derive(Debug, Serialize)]
pub struct Server {
    /// Its process.
    pub pid: u32,
    /// CPU time of the process while measuring.
    pub cpu: CpuTime,
    /// How far off that may be, in microseconds.
    pub cpu_error_us: u64,
    /// True when that is more than [`CPU_ERROR_SHARE_MAX`] of it.
    pub cpu_thin: bool,
    /// The length of that time.
    pub window_seconds: f64,
    /// Deliveries received in that time.
    pub deliveries: u64,
    /// Microseconds of CPU for each of them.
    pub cpu_us_per_delivery: Option<f64>,
    /// What its cores did in all in that time; nothing where that cannot be known.
    pub cores: Option<ServerCores>,
    /// Resident memory before the first client connected, in bytes.
    pub resident_before_connect: Option<u64>,
    /// Resident memory when all were connected.
    pub resident_connected: Option<u64>,
    /// Resident memory at the end.
    pub resident_end: Option<u64>,
    /// What showed before the first client connected that the server had served others, in words: what clients
    /// need it may have kept from those, and its memory stands for more than this run.
    pub served_before: Option<String>,
}

/// What the cores that the server may run on did in all, whoever it was for.
#[derive(Debug, Serialize)]
pub struct ServerCores {
    /// Which cores.
    pub cores: Vec<usize>,
    /// How long they were not idle, together, in microseconds.
    pub busy_us: u64,
    /// How much of it a hypervisor gave to other machines.
    pub stolen_us: u64,
    /// How far off `busy_us` may be.
    pub error_us: u64,
    /// True when that is more than [`CPU_ERROR_SHARE_MAX`] of it.
    pub thin: bool,
    /// Microseconds for each delivery.
    pub us_per_delivery: Option<f64>,
    /// Those that loadgen may run on, too: its work is among theirs.
    pub shared_with_loadgen: Vec<usize>,
    /// True when these are all cores of the machine, so that the work of all its programs is among theirs.
    pub whole_machine: bool,
}

/// What may be off by more than this share of itself is marked as thin: less would hide behind the noise of
/// runs, which is a few percent.
pub const CPU_ERROR_SHARE_MAX: f64 = 0.02;

impl ServerCores {
    /// True when the server has them to itself, as far as is known.
    #[must_use]
    pub fn are_own(&self) -> bool {
        self.shared_with_loadgen.is_empty() && !self.whole_machine
    }
}

impl Outcome {
    /// Holds a condition against it.
    #[must_use]
    pub fn judge(&self, threshold: &Threshold) -> Verdict {
        let (value, at_least) = match threshold.metric() {
            Metric::Reach => (Some(self.deliveries.reach), false),
            Metric::Cpu => {
                let each = self.server.as_ref().and_then(|server| server.cpu_us_per_delivery);
                (each.map(|microseconds| microseconds * 1e3), false)
            }
            Metric::Time(time, statistic) => {
                let summary = match time {
                    Time::Latency => Some(&self.latency),
                    Time::Service => Some(&self.service),
                    Time::SendLag => Some(&self.send_lag),
                    Time::First => self.first.as_ref(),
                    Time::Complete => self.complete.as_ref(),
                    Time::Spread => self.spread.as_ref(),
                };
                match summary.filter(|summary| summary.count > 0) {
                    Some(summary) => {
                        let (value, at_least) = statistic.of(summary);
                        (Some(value), at_least)
                    }
                    None => (None, false),
                }
            }
        };
        threshold.compare(value, at_least)
    }

    /// 3 when the run is not valid, otherwise 1 when it could not be saved, otherwise 99 when a threshold is
    /// broken, otherwise 0.
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self { validity, .. } if !validity.valid => 3,
            Self { unsaved: Some(_), .. } => 1,
            Self { thresholds, .. } if thresholds.iter().any(|verdict| !verdict.passed) => 99,
            _ => 0,
        })
    }
}
