//! The `loadgen` binary: parses the command line, does what it asks for, and says how it ended by its exit
//! code.

use std::process::ExitCode;

use clap::Parser;
use loadgen::cli::{Cli, Command, RunOptions};
use loadgen::error::Error;
use loadgen::{ab, baseline, compare, run};

fn main() -> ExitCode {
    let result = match Cli::parse().into_command() {
        Command::Run(options) => measure(&options),
        Command::Compare(options) => compare::run(&options),
        Command::Ab(options) => ab::run(&options),
    };
    result.unwrap_or_else(|error| {
        eprintln!("loadgen: {error}");
        error.exit_code()
    })
}

fn measure(options: &RunOptions) -> Result<ExitCode, Error> {
    let outcome = match &options.save_baseline {
        Some(name) => baseline::run(options, name),
        None => run::run(options),
    };
    outcome.map(|outcome| outcome.exit_code())
}
