//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use serde::Serialize;

use crate::ab::AbOptions;
use crate::compare::CompareOptions;

/// Measures how long a WebSocket broadcast takes to reach each of its receivers.
#[derive(Debug, Parser)]
#[command(version, args_conflicts_with_subcommands = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: RunOptions,
}

/// What is to be done.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Connects, broadcasts and measures (what happens without a subcommand, too).
    Run(Box<RunOptions>),
    /// Compares stored runs of two builds; exits with 4 when the second is significantly worse.
    Compare(Box<CompareOptions>),
    /// Measures two server commands in turn, each run on a fresh server, and compares them.
    Ab(Box<AbOptions>),
}

impl Cli {
    /// What is asked for.
    #[must_use]
    pub fn into_command(self) -> Command {
        self.command.unwrap_or_else(|| Command::Run(Box::new(self.run)))
    }

    /// The options of the run, when that is what is asked for.
    #[must_use]
    pub fn into_run(self) -> Option<RunOptions> {
        match self.into_command() {
            Command::Run(options) => Some(*options),
            Command::Compare(_) | Command::Ab(_) => None,
        }
    }
}

/// The language spoken with the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Dialect {
    /// JSON messages in a room; the speaker is acknowledged, the others receive.
    Chat,
    /// A message goes unchanged to every connection on the topic, the sender included.
    Raw,
    /// A message comes back unchanged to its sender alone.
    Echo,
}

impl Dialect {
    /// The name as it is written on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Chat => "chat",
            Self::Raw => "raw",
            Self::Echo => "echo",
        }
    }
}

/// How the result is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// A table for people.
    Text,
    /// What `run.json` holds.
    Json,
}

/// The options of one run.
#[derive(Clone, Debug, Args)]
pub struct RunOptions {
    /// The server; the dialect chooses the path unless the URL has one.
    #[arg(long, default_value = "ws://127.0.0.1:8080")]
    pub url: String,
    /// How many clients to connect.
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub clients: u32,
    /// The language to speak.
    #[arg(long, value_enum, default_value_t = Dialect::Chat)]
    pub dialect: Dialect,
    /// Broadcasts (echo: round trips) a second, in total. In chat, a client speaks at most 40 times a
    /// second, below the 50 that chat servers commonly allow; a higher rate is shared by several clients.
    #[arg(long, default_value_t = 5.0, value_parser = positive_rate)]
    pub rate: f64,
    /// Bytes of a message: at least 32, in chat 47.
    #[arg(long, value_name = "BYTES", default_value_t = 64)]
    pub payload: usize,
    /// How long to measure.
    #[arg(long, default_value = "30s", value_parser = humantime::parse_duration)]
    pub duration: Duration,
    /// How long to broadcast before measuring begins.
    #[arg(long, default_value = "2s", value_parser = humantime::parse_duration)]
    pub warmup: Duration,
    /// How long to wait for what is still missing at the end; what is missing then counts as this long.
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
    /// The server's process, to report its CPU time for each delivery, and its memory.
    #[arg(long, value_name = "PID", value_parser = clap::value_parser!(u32).range(1..=i64::from(i32::MAX)))]
    pub server_pid: Option<u32>,
    /// How many percent of the clients stop reading once they have joined. They are expected to receive
    /// nothing.
    #[arg(long, value_name = "PCT", default_value_t = 0.0, value_parser = percentage)]
    pub slow_clients: f64,
    /// A run that loses deliveries is still valid.
    #[arg(long)]
    pub allow_loss: bool,
    /// Seed of everything random: which clients are slow, masks and keys. Default: another one each time.
    #[arg(long)]
    pub seed: Option<u64>,
    /// The chat room, or the topic of the raw dialect. Default: general, or loadgen.
    #[arg(long, visible_alias = "topic", value_name = "NAME")]
    pub room: Option<String>,
    /// Where to write run.json, run.hlog and run.hgrm; must not hold a run already.
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Keep the run as one of a baseline, in $UPROAR_BASELINES/NAME or results/baselines/NAME, to compare
    /// others with: loadgen compare baseline:NAME vs DIR.
    #[arg(long, value_name = "NAME")]
    pub save_baseline: Option<String>,
    /// How to print the result.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
    /// Print nothing but the result.
    #[arg(long)]
    pub quiet: bool,
}

fn positive_rate(text: &str) -> Result<f64, String> {
    let rate: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    let allowed = 0.001..=10_000_000.0;
    if allowed.contains(&rate) { Ok(rate) } else { Err("allowed are 0.001 to 10,000,000".to_owned()) }
}

fn percentage(text: &str) -> Result<f64, String> {
    let percent: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if (0.0..100.0).contains(&percent) { Ok(percent) } else { Err("allowed are 0 to below 100".to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn run_may_be_left_out() {
        for arguments in [&["loadgen", "--clients", "7"][..], &["loadgen", "run", "--clients", "7"]] {
            let options = Cli::try_parse_from(arguments).expect("parses").into_run().expect("a run");
            assert_eq!(options.clients, 7);
            assert_eq!(options.dialect, Dialect::Chat);
        }
    }

    #[test]
    fn busy_poll_takes_an_optional_value() {
        let parse = |argument| {
            let cli = Cli::try_parse_from(["loadgen", argument]).expect("parses");
            cli.into_run().expect("a run").busy_poll
        };
        assert_eq!(parse("--busy-poll"), Some(true));
        assert_eq!(parse("--busy-poll=false"), Some(false));
        assert_eq!(parse("--quiet"), None);
    }
}
