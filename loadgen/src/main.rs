//! The `loadgen` binary: parses the command line, runs, and says how it ended by its exit code.

use std::process::ExitCode;

use clap::Parser;
use loadgen::cli::{Cli, Command};
use loadgen::error::Error;

fn main() -> ExitCode {
    run(Cli::parse().into_command()).unwrap_or_else(|error| {
        eprintln!("loadgen: {error}");
        error.exit_code()
    })
}

fn run(command: Command) -> Result<ExitCode, Error> {
    match command {
        Command::Run(options) => loadgen::run::run(&options).map(|outcome| outcome.exit_code()),
        Command::Report(options) => loadgen::page::write(&options).map(|()| ExitCode::SUCCESS),
    }
}
