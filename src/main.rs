//! The `uproar` binary: read the configuration, check the machine, serve.

use std::io::Write as _;
use std::net::SocketAddr;
use std::process::ExitCode;

use uproar::cli::{self, Command};
use uproar::config::{Config, Placement};
use uproar::preflight::{self, Capacity};
use uproar::{accounts, logging, server};

/// What is wrong with the machine or the command line; nothing was served.
const EXIT_PREFLIGHT: u8 = 2;

fn main() -> ExitCode {
    let invocation = match cli::parse(std::env::args_os(), |key| std::env::var_os(key)) {
        Ok(invocation) => invocation,
        Err(error) => {
            error.print();
            return ExitCode::from(error.exit_code());
        }
    };
    let config = invocation.config;
    if let Command::User { command, data } = &invocation.command {
        return match accounts::run(command, data, &mut std::io::stdout().lock()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("error: {error}");
                ExitCode::FAILURE
            }
        };
    }
    let report = preflight::run(&config);
    if invocation.command == Command::Check {
        print!("{report}");
        return if report.capacity().is_some() { ExitCode::SUCCESS } else { ExitCode::from(EXIT_PREFLIGHT) };
    }
    let Some(capacity) = report.capacity() else {
        eprint!("uproar cannot start on this machine:\n{report}");
        return ExitCode::from(EXIT_PREFLIGHT);
    };
    if let Err(error) = logging::init(config.log_format, config.log_level) {
        eprintln!("cannot log: {error}");
        return ExitCode::FAILURE;
    }
    if let Some(summary) = report.summary() {
        tracing::info!("{summary}");
    }
    match server::run(&config, capacity, |address| announce(&config, capacity, address)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Says where the server is, on what it runs and which limits are in force.
fn announce(config: &Config, capacity: Capacity, address: SocketAddr) {
    let shards = match &config.placement {
        Placement::Pinned(cores) => {
            let cores: Vec<String> = cores.iter().map(usize::to_string).collect();
            format!("{}, pinned to cores {}", cores.len(), cores.join(", "))
        }
        Placement::Unpinned(shards) => format!("{shards}, not pinned"),
    };
    let rate = match config.rate {
        0 => "no limit".to_owned(),
        rate => format!("{rate} messages a second, bursts of {}", config.burst),
    };
    let history = match &config.data {
        Some(data) => format!("kept in {}", data.display()),
        None => "in memory: gone when the server ends, see --data".to_owned(),
    };
    let scheme = if config.tls_cert.is_some() { "https" } else { "http" };
    let text = format!(
        "uproar {} listening on {scheme}://{address}\n  \
           shards   {shards}\n  \
           clients  at most {}, and {} that have not upgraded yet\n  \
           message  at most {} bytes, frame {}, send queue {}\n  \
           rate     {rate}\n  \
           history  {} messages a room, {history}\n",
        env!("CARGO_PKG_VERSION"),
        capacity.max_clients,
        capacity.lobby_max,
        config.max_message_bytes,
        config.max_frame_bytes,
        config.send_queue_bytes,
        config.history,
    );
    // Nobody may be reading our output, which is no reason to stop.
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}
