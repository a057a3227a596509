//! The `loadgen` binary: parses the command line, runs, and says how it ended by its exit code.

use std::process::ExitCode;

use clap::Parser;
use loadgen::cli::{Cli, Command};

fn main() -> ExitCode {
    let ended = match Cli::parse().into_command() {
        Command::Check(options) => Ok(loadgen::preflight::report(&options)),
        Command::Run(options) if options.find_max.is_some() => loadgen::find_max::run(&options),
        Command::Run(options) => loadgen::run::run(&options).map(|outcome| outcome.exit_code()),
    };
    match ended {
        Ok(code) => code,
        Err(error) => {
            eprintln!("loadgen: {error}");
            error.exit_code()
        }
    }
}
