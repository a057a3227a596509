//! The `uproar` binary: read the configuration, check the machine, serve.

use std::process::ExitCode;

use uproar::cli::{self, CliError, Command};
use uproar::clock::Clock;
use uproar::config::LogFormat;
use uproar::logging::Log;
use uproar::memory::{self, MemoryTrimmer};
use uproar::preflight;
use uproar::{accounts, api, server, tokens};

/// The exit code when the machine or the command line is not fit to serve.
const EXIT_PREFLIGHT: u8 = 2;

fn main() -> ExitCode {
    memory::configure_allocator();
    let invocation = match cli::parse(std::env::args_os(), std::env::vars_os()) {
        Ok(invocation) => invocation,
        Err(CliError { error, log_format }) => {
            match log_format {
                LogFormat::Json if !error.is_request() => match Log::start(log_format) {
                    Ok(log) => log.refuse(&error.text()),
                    Err(_) => error.print(),
                },
                _ => error.print(),
            }
            return ExitCode::from(error.exit_code());
        }
    };
    let config = invocation.config;
    let mut out = std::io::stdout().lock();
    match &invocation.command {
        Command::Serve | Command::Check => {}
        Command::User { command, data } => return exit_code(accounts::run(command, data, &mut out)),
        Command::Token { command, files } => {
            let now_unix = Clock::start().now().unix_seconds;
            return exit_code(tokens::run(command, files, now_unix, &mut out));
        }
        Command::ApiKey(command) => return exit_code(api::run(command, &mut out)),
    }
    drop(out);
    if invocation.command == Command::Check {
        let report = preflight::run_alone(&config);
        print!("{report}");
        if let Some(warning) = &invocation.warning {
            eprintln!("warning: {warning}");
        }
        return if report.capacity().is_some() { ExitCode::SUCCESS } else { ExitCode::from(EXIT_PREFLIGHT) };
    }
    let report = preflight::run(&config);
    if report.capacity().is_some() {
        // Ahead of the log's threads, so that they run on the same cores; if it fails, the server reports it.
        let _ = config.placement.confine();
    }
    let log = match Log::start(config.log_format) {
        Ok(log) => log,
        Err(error) => {
            eprintln!("cannot log: {error}");
            return ExitCode::FAILURE;
        }
    };
    let Some(capacity) = report.capacity() else {
        log.refuse(&format!("uproar cannot start on this machine:\n{report}"));
        return ExitCode::from(EXIT_PREFLIGHT);
    };
    if let Err(error) = log.init(config.log_level, config.log_access) {
        log.refuse(&format!("cannot log: {error}"));
        return ExitCode::FAILURE;
    }
    if let Some(summary) = report.summary() {
        tracing::info!("{summary}");
    }
    if let Some(warning) = &invocation.warning {
        tracing::warn!("{warning}");
    }
    for warning in report.redis_warnings() {
        tracing::warn!("Redis: {warning}");
    }
    let _memory = match MemoryTrimmer::start() {
        Ok(keeper) => Some(keeper),
        Err(error) => {
            tracing::warn!(%error, "freed memory will not be given back");
            None
        }
    };
    match server::run(&config, capacity, |address| log.announce(&config, capacity, address)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// The exit code of a command that has ended, and its error on standard error.
fn exit_code(result: Result<(), impl std::fmt::Display>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
