//! The `loadgen` binary: parses the command line, runs, and says how it ended by its exit code.

use std::process::ExitCode;

use clap::Parser;
use loadgen::cli::{Cli, Command};
use loadgen::error::Error;
use loadgen::{find_max, page, preflight, run};

fn main() -> ExitCode {
    carry_out(Cli::parse().into_command()).unwrap_or_else(|error| {
        eprintln!("loadgen: {error}");
        error.exit_code()
    })
}

fn carry_out(command: Command) -> Result<ExitCode, Error> {
    match command {
        Command::Run(options) if options.find_max.is_some() => find_max::run(&options),
        Command::Run(options) => run::run(&options).map(|outcome| outcome.exit_code()),
        Command::Check(options) => Ok(preflight::report(&options)),
        Command::Report(options) => page::write(&options).map(|()| ExitCode::SUCCESS),
    }
}
