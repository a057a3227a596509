//! The options of a run as values. The plan interprets them and rejects contradictions.

pub mod arrivals;
pub mod threshold;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::dialect::Dialect;
use arrivals::{Arrivals, Stage, Stages, positive_rate};
use threshold::Threshold;

/// How the result is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// A table for people.
    Text,
    /// The content of `run.json`.
    Json,
    /// A line of names and a line of values; times in milliseconds.
    Csv,
}

/// The options of one run.
#[derive(Clone, Debug, Args)]
pub struct RunOptions {
    /// The server, as ws://HOST:PORT, or wss://HOST:PORT for TLS; the dialect chooses the path unless the URL has one.
    /// May be repeated for up to 16 servers that share their rooms: clients are spread over them evenly, one order is
    /// checked over all, and each pair of servers has its latency. Not for echo, and not for ab.
    #[arg(long = "url", value_name = "URL", default_value = "ws://127.0.0.1:8080")]
    pub urls: Vec<String>,
    /// For a wss:// URL: trust the certificates in this PEM file, and those that they have signed, instead of
    /// the authorities that the system trusts.
    #[arg(long, value_name = "FILE", conflicts_with = "tls_insecure")]
    pub tls_ca: Option<PathBuf>,
    /// For a wss:// URL: accept any certificate. The result mentions it.
    #[arg(long)]
    pub tls_insecure: bool,
    /// How many clients to connect.
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub clients: u32,
    /// The dialect to use.
    #[arg(long, value_enum, default_value_t = Dialect::Chat)]
    pub dialect: Dialect,
    /// Broadcasts (echo: round trips) a second, in total. In chat, a client speaks at most 40 times a
    /// second, below the 50 that chat servers commonly allow; a higher rate is shared by several clients.
    #[arg(long, default_value_t = 5.0, value_parser = positive_rate)]
    pub rate: f64,
    /// Bytes of a message: at least 32, in chat and private 47.
    #[arg(long, value_name = "BYTES", default_value_t = 64)]
    pub payload: usize,
    /// How long to measure.
    #[arg(long, default_value = "30s", value_parser = humantime::parse_duration)]
    pub duration: Duration,
    /// Rates in a row instead of --rate and --duration, such as 30s:10,60s:100.
    #[arg(long, value_name = "DURATION:RATE,...", conflicts_with_all = ["rate", "duration"])]
    pub stages: Option<Stages>,
    /// How broadcasts are spread over time. Default: constant.
    #[arg(long, value_enum, value_name = "HOW", default_value_t = Arrivals::Constant, hide_default_value = true)]
    pub arrivals: Arrivals,
    /// How many clients speak, in turn. Default: in chat as many as the rate takes, in raw one (both: a
    /// multiple of the rooms, times the servers), in private and echo all.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub senders: Option<u32>,
    /// Rooms (raw: topics) that the clients are spread over evenly. Each broadcast goes to one of them.
    /// In chat they must exist: name them all with --room. Topics need no names.
    #[arg(long, visible_alias = "topics", value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub rooms: Option<u32>,
    /// Clients that leave and rejoin each second, from the warm-up to the end of measuring. While away,
    /// they are expected to receive nothing.
    #[arg(long, value_name = "R", value_parser = positive_rate)]
    pub churn: Option<f64>,
    /// Search for the highest rate at which this holds, such as 'latency.p99<50ms', and the run is valid, or
    /// invalid only because loadgen was late, which can make such a latency worse and not better. Starts at
    /// --rate and makes at most 16 steps, each a run of its own; a step that loadgen's own limits have spoiled
    /// is made up to three times.
    #[arg(long, value_name = "CONDITION", conflicts_with_all = ["stages", "thresholds"])]
    pub find_max: Option<Threshold>,
    /// A condition on the result, such as 'latency.p99<20ms', 'reach>=99.9%' or 'cpu<5us' (server CPU a
    /// delivery); may be repeated. Exit code 99 when one is broken.
    #[arg(long = "threshold", value_name = "CONDITION")]
    pub thresholds: Vec<Threshold>,
    /// How long to broadcast before measuring begins.
    #[arg(long, default_value = "2s", value_parser = humantime::parse_duration)]
    pub warmup: Duration,
    /// How long to wait for missing deliveries at the end; those still missing then count as this long.
    #[arg(long, default_value = "5s", value_parser = humantime::parse_duration)]
    pub drain: Duration,
    /// Connects a second, in total. Default: as fast as the server takes them, 512 at a time.
    #[arg(long, value_name = "R", value_parser = positive_rate)]
    pub connect_rate: Option<f64>,
    /// Cores for the threads, one pinned thread each, such as 1,2-3. Default: one thread, not pinned.
    #[arg(long, value_name = "LIST")]
    pub cores: Option<String>,
    /// Poll instead of sleeping between messages, so that waking this process is not billed to the
    /// server's core. Default: on with --cores, unless the server may run on one of them.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub busy_poll: Option<bool>,
    /// The server's process, to report for each delivery its CPU time and that of the cores that it may run
    /// on, and its memory. Only with a single --url.
    #[arg(long, value_name = "PID", value_parser = clap::value_parser!(u32).range(1..=i64::from(i32::MAX)))]
    pub server_pid: Option<u32>,
    /// The revision of the server, which is saved with the result.
    #[arg(long, value_name = "REV")]
    pub server_revision: Option<String>,
    /// How many percent of the clients stop reading once they have joined. They are expected to receive
    /// nothing.
    #[arg(long, value_name = "PCT", default_value_t = 0.0, value_parser = percentage)]
    pub slow_clients: f64,
    /// A run that loses deliveries is still valid, unless it loses all of them.
    #[arg(long)]
    pub allow_loss: bool,
    /// Seed of everything random: which clients are slow, masks and keys. Default: a new one each time.
    #[arg(long)]
    pub seed: Option<u64>,
    /// The chat rooms, or the topics of the raw dialect, separated by commas. Default: general, or
    /// loadgen. One topic for several --rooms is numbered: loadgen-0 and so on.
    #[arg(long, visible_alias = "topic", value_name = "NAME,...", value_delimiter = ',')]
    pub room: Vec<String>,
    /// Where to write run.json, run.hlog and run.hgrm; must not hold a run already.
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Keep the run as one of a baseline, in $UPROAR_BASELINES/NAME or results/baselines/NAME, to compare
    /// others with: loadgen compare baseline:NAME vs DIR. INVALID runs are kept aside, in its invalid.
    #[arg(long, value_name = "NAME", conflicts_with = "find_max")]
    pub save_baseline: Option<String>,
    /// How to print the result.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
    /// Print nothing but the result.
    #[arg(long)]
    pub quiet: bool,
}

impl RunOptions {
    /// The rates, in a row.
    #[must_use]
    pub fn stages(&self) -> Vec<Stage> {
        let single = || vec![Stage { duration: self.duration, rate: self.rate }];
        self.stages.as_ref().map_or_else(single, |stages| stages.0.clone())
    }

    /// How long to measure.
    #[must_use]
    pub fn measured_duration(&self) -> Duration {
        self.stages().iter().map(|stage| stage.duration).sum()
    }

    /// The highest rate.
    #[must_use]
    pub fn peak_rate(&self) -> f64 {
        self.stages().iter().map(|stage| stage.rate).fold(0.0, f64::max)
    }

    /// The rate on average.
    #[must_use]
    pub fn mean_rate(&self) -> f64 {
        match &self.stages {
            None => self.rate,
            Some(stages) => {
                let count: f64 = stages.0.iter().map(|stage| stage.rate * stage.duration.as_secs_f64()).sum();
                count / self.measured_duration().as_secs_f64()
            }
        }
    }
}

fn percentage(text: &str) -> Result<f64, String> {
    let percent: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if (0.0..100.0).contains(&percent) { Ok(percent) } else { Err("allowed are 0 to below 100".to_owned()) }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::RunOptions;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        run: RunOptions,
    }

    /// The options of a command line.
    pub(crate) fn options(arguments: &[&str]) -> RunOptions {
        Line::try_parse_from([&["loadgen"], arguments].concat()).expect("parses").run
    }
}
