//! The `loadgen` binary: parses the command line, does what it asks for, and says how it ended by its exit
//! code.

use std::process::ExitCode;

use clap::Parser;
use loadgen::cli::{Cli, Command, parse_run_flags};
use loadgen::error::Error;
use loadgen::options::RunOptions;
use loadgen::run::{baseline, find_max};
use loadgen::{ab, compare, page, preflight, run};

fn main() -> ExitCode {
    carry_out(Cli::parse().into_command()).unwrap_or_else(|error| {
        eprintln!("loadgen: {error}");
        error.exit_code()
    })
}

fn carry_out(command: Command) -> Result<ExitCode, Error> {
    match command {
        Command::Run(options) => measure(&options),
        Command::Check(options) => preflight::report(&options),
        Command::Report(options) => page::write(&options).map(|()| ExitCode::SUCCESS),
        Command::Compare(options) => compare::run(&options),
        Command::Ab(options) => ab::run(&options, parse_run_flags(&options.run_flags)?),
    }
}

fn measure(options: &RunOptions) -> Result<ExitCode, Error> {
    if options.find_max.is_some() {
        return find_max::run(options);
    }
    let outcome = match &options.save_baseline {
        Some(name) => baseline::run(options, name),
        None => run::run(options),
    };
    outcome.map(|outcome| outcome.exit_code())
}
