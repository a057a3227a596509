//! The command line: flags, environment and file become one [`Config`].
//!
//! There is one set of flags with one set of value parsers. Values from the environment and from the
//! file are turned into flags that stand before those of the command line, each only where nothing that
//! takes precedence has set it: flag beats environment beats file. An error names the place where the
//! value was written. Nothing here touches the process: arguments and environment are passed in.

mod layers;
mod user;
mod values;

use std::ffi::OsString;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use clap::{CommandFactory, FromArgMatches, Parser};
use tracing::level_filters::LevelFilter;
use uproar_ring::Features;

use crate::accounts::UserCommand;
use crate::config::{Auth, Config, LogFormat, Placement, Presence};
use layers::{Environment, Settings};
use values::{
    AddressList, CoreList, HostList, ListenAddress, OriginList, RoomList, duration, level, number, size,
    threads,
};

/// What the process was asked to do.
#[derive(Clone, Debug)]
pub struct Invocation {
    /// The command.
    pub command: Command,
    /// The configuration, validated.
    pub config: Config,
}

/// The commands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Run the server; what no command at all means.
    Serve,
    /// Run the preflight alone and print what to change.
    Check,
    /// Change or show the accounts in a directory.
    User {
        /// What to do.
        command: UserCommand,
        /// The directory, as `--data` names it.
        data: PathBuf,
    },
}

/// Why there is no [`Invocation`].
#[derive(Debug, thiserror::Error)]
pub enum UsageError {
    /// The command line itself is wrong, or it asked for the help or the version.
    #[error(transparent)]
    CommandLine(#[from] clap::Error),
    /// A value is not allowed.
    #[error("invalid value '{value}' for {place}: {reason}")]
    Value {
        /// The value as it was written.
        value: String,
        /// Where it was written, and under which key.
        place: String,
        /// What is allowed.
        reason: String,
    },
    /// The configuration file cannot be used.
    #[error("configuration file {}: {reason}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A variable has our prefix, and is no setting.
    #[error("unknown variable {name}; known are {known}")]
    Variable {
        /// The variable.
        name: String,
        /// Those that there are.
        known: String,
    },
    /// Two settings of one place exclude each other.
    #[error("{0} and {1} cannot be used together: name the cores, or say how many shards to run unpinned")]
    Conflict(String, String),
    /// Accounts are kept in a directory, and none was named.
    #[error("uproar user needs --data DIR, the directory in which the server keeps its accounts")]
    NoData,
}

impl UsageError {
    /// The process's exit code: 0 when help or version was asked for, otherwise 2.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::CommandLine(error) if error.exit_code() == 0 => 0,
            _ => 2,
        }
    }

    /// True when the help or the version was asked for.
    #[must_use]
    pub fn is_request(&self) -> bool {
        self.exit_code() == 0
    }

    /// Prints the help or the version to standard output, an error to standard error.
    pub fn print(&self) {
        match self {
            // Who closed the output does not want to read it.
            Self::CommandLine(error) => drop(error.print()),
            error => eprintln!("{}", error.text()),
        }
    }

    /// The error as a person at a terminal reads it.
    #[must_use]
    pub fn text(&self) -> String {
        match self {
            Self::CommandLine(error) => error.to_string().trim_end().to_owned(),
            error => format!("error: {error}\n\nFor more information, try '--help'."),
        }
    }
}

/// Why there is no [`Invocation`], and in which form to say it.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct Refused {
    /// What is wrong.
    #[source]
    pub error: UsageError,
    /// What the log would have looked like, as far as that could be told.
    pub log_format: LogFormat,
}

/// Reads the invocation from arguments (the program's name first) and an environment.
///
/// Of the environment, [`std::env::vars_os`] for the real one, the variables that begin with `UPROAR_` count. An
/// empty variable counts as unset, since that is how compose files and unit files say it.
///
/// # Errors
///
/// When a flag or such a variable is unknown, a value is not allowed, or the file cannot be read or has an
/// unknown key; also when help or version was asked for.
pub fn parse(
    args: impl IntoIterator<Item = impl Into<OsString>>,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Invocation, Refused> {
    let mut args: Vec<OsString> = args.into_iter().map(Into::into).collect();
    if args.is_empty() {
        args.push("uproar".into());
    }
    let environment = Environment::of(environment);
    let mut log_format = log_format(&args, &environment);
    let invocation = if args.get(1).is_some_and(|first| first == "user") {
        parse_user(args, &environment)
    } else {
        parse_server(args, &environment, &mut log_format)
    };
    invocation.map_err(|error| Refused { error, log_format })
}

/// What the log is to look like according to the command line and the environment, whatever else is wrong with
/// them.
fn log_format(args: &[OsString], environment: &Environment) -> LogFormat {
    let mut texts = args.iter().map(|arg| arg.to_str().unwrap_or_default()).take_while(|text| *text != "--");
    let mut flag = None;
    while let Some(text) = texts.next() {
        let value = if text == "--log" { texts.next() } else { text.strip_prefix("--log=") };
        flag = flag.or(value);
    }
    let format = flag.or_else(|| environment.get("log")?.to_str());
    format.and_then(|format| format.parse().ok()).unwrap_or(LogFormat::Text)
}

fn parse_user(mut args: Vec<OsString>, environment: &Environment) -> Result<Invocation, UsageError> {
    let (command, rest) = user::parse(&args[2..])?;
    let args = [args.swap_remove(0)].into_iter().chain(rest).collect();
    let (flags, settings) = read(args, environment)?;
    // Where a server would listen is not its business, and a name may take its time.
    let config = validated(flags, &settings, Config::default().listen)?;
    let data = config.data.clone().ok_or(UsageError::NoData)?;
    Ok(Invocation { command: Command::User { command, data }, config })
}

fn parse_server(
    args: Vec<OsString>,
    environment: &Environment,
    log_format: &mut LogFormat,
) -> Result<Invocation, UsageError> {
    let (mut flags, settings) = read(args, environment)?;
    *log_format = flags.log;
    let listen =
        flags.listen.resolve().map_err(|reason| settings.refused("listen", &flags.listen.0, &reason))?;
    let command = flags.command.take().unwrap_or(Command::Serve);
    Ok(Invocation { command, config: validated(flags, &settings, listen)? })
}

/// Reads the flags, and what stands in other places.
fn read(mut args: Vec<OsString>, environment: &Environment) -> Result<(Flags, Settings), UsageError> {
    let given = Flags::command().try_get_matches_from(&args)?;
    let mut settings = Settings::given(&given);
    settings.add_environment(environment)?;
    settings.add_file()?;
    // Before the command line's own arguments, since those may end with `--`.
    args.splice(1..1, settings.arguments());
    let flags = Flags::from_arg_matches(&Flags::command().try_get_matches_from(args)?)?;
    Ok((flags, settings))
}

fn validated(flags: Flags, settings: &Settings, listen: SocketAddr) -> Result<Config, UsageError> {
    let config = flags.into_config(listen);
    config.validate().map_err(|refusal| settings.blame(refusal))?;
    Ok(config)
}

/// A chat and broadcast server that lives on io_uring.
#[derive(Debug, Parser)]
#[command(
    name = "uproar",
    version,
    disable_help_subcommand = true,
    after_help = "Every flag is also read from the environment (--max-clients from UPROAR_MAX_CLIENTS) and from \
                  the file that --config names (TOML: max-clients = 10000). A flag beats the environment, the \
                  environment beats the file.\n\nDurations are written 30s or 500ms, sizes 10KiB or 10240."
)]
struct Flags {
    /// `check`: only look whether this machine can run the server, and print what to change.
    /// `user`: manage accounts, see `uproar user --help`.
    #[arg(value_name = "check|user")]
    command: Option<Command>,

    /// TOML file to read settings from; its keys are the flags' names.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Address and port to listen on; a name stands for its first IPv4 address, or else its first IPv6 one.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080")]
    listen: ListenAddress,

    /// Cores to run on, one shard pinned to each [default: all that the process may use].
    #[arg(long, value_name = "0,2-3", conflicts_with = "shards")]
    cores: Option<CoreList>,

    /// Run this many shards without pinning them.
    #[arg(long, value_name = "N", value_parser = threads)]
    shards: Option<NonZeroUsize>,

    /// Threads that accept connections, for TLS, HTTP and /healthz; they run beside the shards [default: one for every
    /// 8 shards].
    #[arg(long, value_name = "N", value_parser = threads)]
    acceptors: Option<NonZeroUsize>,

    /// Pin the acceptors to these cores; where a shard uses one of them too, acceptors have a lower priority [default: the
    /// cores of the shards, unless --shards leaves some free].
    #[arg(long, value_name = "2,3")]
    acceptor_cores: Option<CoreList>,

    /// Look for something to do for so long before a shard sleeps, up to 10ms: answers come sooner, and an idle shard
    /// uses more of its core.
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = duration)]
    busy_poll: Duration,

    /// Features of io_uring to use where the kernel has them: all, none, or a list of immediate-sends, ring-messages and
    /// no-iowait. Use it to find out whether one of them causes a fault.
    #[arg(long, value_name = "all|none|NAME,...", default_value = "all")]
    ring_features: Features,

    /// Most connected clients [default: what the descriptor limit allows].
    #[arg(long, value_name = "N", value_parser = number::<usize>)]
    max_clients: Option<usize>,

    /// Most connected clients of an address (IPv6: of a /64); 0 for no limit, as behind a proxy [default: a quarter of
    /// all clients, from 64 to 1000].
    #[arg(long, value_name = "N", value_parser = number::<usize>)]
    max_clients_per_address: Option<usize>,

    /// Clients of an address that may connect within a second; 0 for no limit, as behind a proxy.
    #[arg(long, value_name = "N", default_value = "200", value_parser = number::<usize>)]
    connect_rate_per_address: usize,

    /// Address without these two limits and that of unfinished handshakes, or a range such as 10.0.0.0/8: a proxy's,
    /// say. May be repeated, or list several with commas. It replaces the default, which is loopback.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.0/8,::1")]
    no_limit_for: Vec<AddressList>,

    /// Longest message that chat accepts; a longer one is refused.
    #[arg(long, value_name = "SIZE", default_value = "10KiB", value_parser = size)]
    max_message: usize,

    /// Longest message that any connection may send; a longer one ends it.
    #[arg(long, value_name = "SIZE", default_value = "64KiB", value_parser = size)]
    max_frame: usize,

    /// Longest request head; a longer one is answered 431.
    #[arg(long, value_name = "SIZE", default_value = "16KiB", value_parser = size)]
    max_head: usize,

    /// What may wait for a slow receiver before it is evicted; each message counts 192 bytes more than it has.
    #[arg(long, value_name = "SIZE", default_value = "1MiB", value_parser = size)]
    send_queue: usize,

    /// Silence after which a connection is pinged.
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = duration)]
    ping_interval: Duration,

    /// Silence after which a connection is closed.
    #[arg(long, value_name = "TIME", default_value = "120s", value_parser = duration)]
    idle_timeout: Duration,

    /// Time for TLS and a whole request head, and to sign in where that is required.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration)]
    handshake_timeout: Duration,

    /// Time to close all connections on shutdown.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration)]
    drain_timeout: Duration,

    /// The rooms, general among them.
    #[arg(long, value_name = "NAMES", default_value = "general,random,gaming")]
    rooms: RoomList,

    /// Directory, which must exist, for what outlives the process [default: all in memory].
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,

    /// Whether users must sign in with an account of `uproar user`: off or required.
    #[arg(long, value_name = "WHETHER", default_value = "off")]
    auth: Auth,

    /// Messages that a room keeps for those who join.
    #[arg(long, value_name = "N", default_value = "100", value_parser = number::<usize>)]
    history: usize,

    /// How joins and leaves are announced: auto (singly, in large rooms in batches), exact, count.
    #[arg(long, value_name = "HOW", default_value = "auto")]
    presence: Presence,

    /// Members above which a room is large.
    #[arg(long, value_name = "N", default_value = "500", value_parser = number::<usize>)]
    presence_limit: usize,

    /// Messages a second that a connection may send; 0 for no limit.
    #[arg(long, value_name = "N", default_value = "50", value_parser = number::<u32>)]
    rate: u32,

    /// Messages that a connection may send at once.
    #[arg(long, value_name = "N", default_value = "100", value_parser = number::<u32>)]
    burst: u32,

    /// Origin from which browsers may connect beside the server's own, such as https://example.com or
    /// https://*.example.com; null for pages opened from files, * for all. May be repeated, or list several with
    /// commas.
    #[arg(long, value_name = "ORIGIN")]
    allow_origin: Vec<OriginList>,

    /// Name by which browsers may call a server that listens on loopback: that of the site, where a proxy on this
    /// machine passes it on. May be repeated, or list several with commas.
    #[arg(long, value_name = "NAME")]
    allow_host: Vec<HostList>,

    /// Serve https and wss alone, with the certificate in this PEM file and those behind it; needs --tls-key.
    /// SIGHUP has both files read again.
    #[arg(long, value_name = "FILE")]
    tls_cert: Option<PathBuf>,

    /// PEM file with the private key of that certificate.
    #[arg(long, value_name = "FILE")]
    tls_key: Option<PathBuf>,

    /// How to write the log: text or json.
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    log: LogFormat,

    /// What to log: error, warn, info, debug, trace, or off.
    #[arg(long, value_name = "LEVEL", default_value = "info", value_parser = level)]
    log_level: LevelFilter,
}

impl Flags {
    fn into_config(self, listen: SocketAddr) -> Config {
        Config {
            listen,
            placement: match (self.cores, self.shards) {
                (Some(CoreList(cores)), _) => Placement::Pinned(cores),
                (None, Some(shards)) => Placement::Unpinned(shards),
                (None, None) => Placement::every_core(),
            },
            acceptors: self.acceptors,
            acceptor_cores: self.acceptor_cores.map(|list| list.0),
            busy_poll: self.busy_poll,
            ring_features: self.ring_features,
            max_clients: self.max_clients,
            max_clients_per_address: self.max_clients_per_address,
            connect_rate_per_address: self.connect_rate_per_address,
            no_limit_for: self.no_limit_for.into_iter().flat_map(|list| list.0).collect(),
            max_message_bytes: self.max_message,
            max_frame_bytes: self.max_frame,
            max_head_bytes: self.max_head,
            send_queue_bytes: self.send_queue,
            ping_interval: self.ping_interval,
            idle_timeout: self.idle_timeout,
            handshake_timeout: self.handshake_timeout,
            drain_timeout: self.drain_timeout,
            rooms: self.rooms.0,
            data: self.data,
            auth: self.auth,
            history: self.history,
            presence: self.presence,
            presence_limit: self.presence_limit,
            rate: self.rate,
            burst: self.burst,
            allow_origins: self.allow_origin.into_iter().flat_map(|list| list.0).collect(),
            allow_hosts: self.allow_host.into_iter().flat_map(|list| list.0).collect(),
            tls_cert: self.tls_cert,
            tls_key: self.tls_key,
            log_format: self.log,
            log_level: self.log_level,
        }
    }
}

#[cfg(test)]
mod tests;
