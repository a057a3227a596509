//! The command line.

use clap::{Parser, Subcommand};

use crate::ab::AbOptions;
use crate::compare::CompareOptions;
use crate::error::Error;
use crate::options::RunOptions;
use crate::page::ReportOptions;

const RESULT_AND_EXIT_CODES: &str = "\
The rows of the result, in milliseconds:
  latency          from when a broadcast was due to when a receiver had it; one value for each receiver
  service          the same from when it was actually sent
  send lag         from when a broadcast was due to when it was sent
  first receiver   from when a broadcast was due to when the first of its receivers had it; one value for each \
broadcast, as in the next two rows
  last (complete)  the same until the last of its receivers had it
  spread           from the first receiver to the last: how long a broadcast takes to get around, and how \
much later than others a member may hear of it
  1 → 2            with several --url: latency from a client of the first server to one of the second; a line for \
each pair. Its quantiles carry no mark for few broadcasts

With --server-pid, the CPU time of the server's process (what the scheduler has billed to its threads), and that \
of its cores: the time in which those that it may run on were not idle. The second one includes what the kernel \
does for the server and bills to nobody, such as interrupts and the network's work while the core is otherwise \
idle, but also all else that runs there: give the server cores of its own, as in: taskset --cpu-list 0 SERVER. \
Either is marked as thin when it may be off by more than 2 %: the process's below 0.5 s for each thread that \
runs at a time, the cores' below 1 s for each core.

A run is INVALID when fewer than 99.5 % of the planned broadcasts were sent; send lag p99 exceeds 10 % of \
latency p50 of what was received; a thread was processing for over 95 % of its time; a delivery \
is missing, or with --allow-loss all of them are; not all clients connected or came back; or it ended early. \
With several --url also when nothing passed from one of the servers to another, whatever loss is allowed, or when \
there was not one order over all: a message twice, late behind a later one of the same speaker, in the wrong room, or \
in chat with an id that did not grow or was not the same everywhere. The two servers are named.

Exit codes: 0 ok; 1 run-time error, nothing was measured; 2 usage or preflight; 3 INVALID, which outranks \
99: a threshold is broken; and of compare and ab, 4: the second side is significantly worse in the primary \
metric. A run that \
SIGINT, SIGTERM, SIGHUP or the loss of all clients has ended early is INVALID, and what was measured until then is saved; \
before measuring has begun, it ends with 1. A second signal ends it at once.";

/// Measures how long a WebSocket broadcast takes to reach each of its receivers.
#[derive(Debug, Parser)]
#[command(version, args_conflicts_with_subcommands = true, after_help = RESULT_AND_EXIT_CODES)]
pub struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: RunOptions,
}

/// The command.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Connects, broadcasts and measures (the default).
    Run(Box<RunOptions>),
    /// Checks whether a run with these options can begin, and says what to change.
    Check(Box<RunOptions>),
    /// Shows saved runs on one page that opens offline.
    Report(Box<ReportOptions>),
    /// Compares stored runs of two builds; exits with 4 when the second is significantly worse
    /// in the primary metric.
    Compare(Box<CompareOptions>),
    /// Measures two server commands in turn, each run on a fresh server, and compares them.
    Ab(Box<AbOptions>),
}

impl Cli {
    /// The requested command.
    #[must_use]
    pub fn into_command(self) -> Command {
        self.command.unwrap_or_else(|| Command::Run(Box::new(self.run)))
    }
}

/// Parses options as `loadgen run` itself will.
///
/// # Errors
///
/// [`Error::Usage`] when they are not those of `loadgen run`.
pub fn parse_run_flags(flags: &[String]) -> Result<RunOptions, Error> {
    let arguments = ["loadgen", "run"].into_iter().chain(flags.iter().map(String::as_str));
    let usage = |why: &str| Error::Usage(format!("options behind --: {why}"));
    let parsed = Cli::try_parse_from(arguments).map_err(|error| usage(error.to_string().trim_end()))?;
    match parsed.into_command() {
        Command::Run(options) => Ok(*options),
        _ => Err(usage("they are those of loadgen run")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    use clap::CommandFactory;

    use crate::dialect::Dialect;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    fn run_options(arguments: &[&str]) -> RunOptions {
        match Cli::try_parse_from(arguments).expect("parses").into_command() {
            Command::Run(options) => *options,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn run_may_be_left_out() {
        for arguments in [&["loadgen", "--clients", "7"][..], &["loadgen", "run", "--clients", "7"]] {
            let options = run_options(arguments);
            assert_eq!(options.clients, 7);
            assert_eq!(options.dialect, Dialect::Chat);
        }
    }

    #[test]
    fn options_after_two_dashes_are_parsed_like_those_of_run() {
        let parse = |line: &str| parse_run_flags(&line.split(' ').map(str::to_owned).collect::<Vec<_>>());
        assert_eq!(parse("--clients 7 --url ws://a:1").expect("parses").clients, 7);
        for wrong in ["--no-such-option", "compare a vs b"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn busy_poll_takes_an_optional_value() {
        let parse = |argument| run_options(&["loadgen", argument]).busy_poll;
        assert_eq!(parse("--busy-poll"), Some(true));
        assert_eq!(parse("--busy-poll=false"), Some(false));
        assert_eq!(parse("--quiet"), None);
    }

    #[test]
    fn stages_stand_for_rate_and_duration() {
        let options = run_options(&["loadgen", "--stages", "10s:30,20s:60"]);
        assert_eq!((options.peak_rate(), options.mean_rate()), (60.0, 50.0));
        assert_eq!(options.measured_duration(), Duration::from_secs(30));
        for contradiction in [
            &["--stages", "1s:1", "--rate", "1"][..],
            &["--stages", "1s:1", "--duration", "1s"],
            &["--stages", "1s:1", "--find-max", "latency.p99<1s"],
            &["--threshold", "latency.p99<1s", "--find-max", "latency.p99<1s"],
            &["--save-baseline", "x", "--find-max", "latency.p99<1s"],
        ] {
            assert!(
                Cli::try_parse_from([&["loadgen"], contradiction].concat()).is_err(),
                "{contradiction:?}"
            );
        }
    }
}
