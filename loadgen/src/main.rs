//! The `loadgen` binary: parses the command line, runs, and says how it ended by its exit code.

use std::process::ExitCode;

use clap::Parser;
use loadgen::cli::Cli;

fn main() -> ExitCode {
    let options = Cli::parse().into_run();
    match loadgen::run::run(&options) {
        Ok(outcome) => outcome.exit_code(),
        Err(error) => {
            eprintln!("loadgen: {error}");
            error.exit_code()
        }
    }
}
