//! The command line: flags, environment and file become one [`Config`].
//!
//! There is one set of flags with one set of value parsers. Values from the environment and from the
//! file are turned into flags that stand before those of the command line, each only where nothing that
//! takes precedence has set it: flag beats environment beats file. An error names the place where the
//! value was written. Nothing here touches the process: arguments and environment are passed in.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use bytesize::ByteSize;
use clap::parser::ValueSource;
use clap::{ArgMatches, CommandFactory, FromArgMatches, Parser};
use tracing::level_filters::LevelFilter;

use crate::config::{AllowedOrigin, Config, LogFormat, Placement, Presence, Refusal, SHARDS_MAX};

/// What the process was asked to do.
#[derive(Clone, Debug)]
pub struct Invocation {
    /// The command.
    pub command: Command,
    /// The configuration, validated.
    pub config: Config,
}

/// The commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Run the server; what no command at all means.
    Serve,
    /// Run the preflight alone and print what to change.
    Check,
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
    /// Two settings of one place exclude each other.
    #[error("{0} and {1} cannot be used together: name the cores, or say how many shards to run unpinned")]
    Conflict(String, String),
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

    /// Prints the help or the version to standard output, an error to standard error.
    pub fn print(&self) {
        match self {
            // Who closed the output does not want to read it.
            Self::CommandLine(error) => drop(error.print()),
            error => eprintln!("error: {error}\n\nFor more information, try '--help'."),
        }
    }
}

/// Reads the invocation from arguments (the program's name first) and an environment.
///
/// `environment` is asked for `UPROAR_…` variables by name; [`std::env::var_os`] is the real one. An
/// empty variable counts as unset, since that is how compose files and unit files say it.
///
/// # Errors
///
/// When a flag is unknown, a value is not allowed, or the file cannot be read or has an unknown key; also
/// when help or version was asked for.
pub fn parse(
    args: impl IntoIterator<Item = impl Into<OsString>>,
    environment: impl Fn(&str) -> Option<OsString>,
) -> Result<Invocation, UsageError> {
    let mut args: Vec<OsString> = args.into_iter().map(Into::into).collect();
    if args.is_empty() {
        args.push("uproar".into());
    }
    let given = Flags::command().try_get_matches_from(&args)?;
    let mut settings = Settings::given(&given);
    settings.add_environment(environment)?;
    settings.add_file()?;

    // Before the command line's own arguments, since those may end with `--`.
    args.splice(1..1, settings.arguments());
    let flags = Flags::from_arg_matches(&Flags::command().try_get_matches_from(args)?)?;
    let command = flags.command.unwrap_or(Command::Serve);
    let config = flags.into_config();
    config.validate().map_err(|refusal| settings.blame(refusal))?;
    Ok(Invocation { command, config })
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
    #[arg(value_name = "check")]
    command: Option<Command>,

    /// TOML file to read settings from; its keys are the flags' names.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Address and port to listen on.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080", value_parser = address)]
    listen: SocketAddr,

    /// Cores to run on, one shard pinned to each [default: all that the process may use].
    #[arg(long, value_name = "0,2-3", conflicts_with = "shards")]
    cores: Option<CoreList>,

    /// Run this many shards without pinning them.
    #[arg(long, value_name = "N", value_parser = shards)]
    shards: Option<NonZeroUsize>,

    /// Most connected clients [default: what the descriptor limit allows].
    #[arg(long, value_name = "N", value_parser = number::<usize>)]
    max_clients: Option<usize>,

    /// Longest message that chat and hub accept; a longer one is refused.
    #[arg(long, value_name = "SIZE", default_value = "10KiB", value_parser = size)]
    max_message: usize,

    /// Longest message that any connection may send; a longer one ends it.
    #[arg(long, value_name = "SIZE", default_value = "64KiB", value_parser = size)]
    max_frame: usize,

    /// What may wait for a slow receiver before it is evicted.
    #[arg(long, value_name = "SIZE", default_value = "1MiB", value_parser = size)]
    send_queue: usize,

    /// Silence after which a connection is pinged.
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = duration)]
    ping_interval: Duration,

    /// Silence after which a connection is closed.
    #[arg(long, value_name = "TIME", default_value = "120s", value_parser = duration)]
    idle_timeout: Duration,

    /// Time to send a whole request head.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration)]
    handshake_timeout: Duration,

    /// Time to close all connections on shutdown.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration)]
    drain_timeout: Duration,

    /// The rooms, general among them.
    #[arg(long, value_name = "NAMES", default_value = "general,random,gaming")]
    rooms: RoomList,

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

    /// Origin from which browsers may connect beside the server's own; null for files, * for all.
    /// May be repeated, or list several with commas.
    #[arg(long, value_name = "ORIGIN")]
    allow_origin: Vec<OriginList>,

    /// How to write the log: text or json.
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    log: LogFormat,

    /// What to log: error, warn, info, debug, trace, or off.
    #[arg(long, value_name = "LEVEL", default_value = "info", value_parser = level)]
    log_level: LevelFilter,
}

impl Flags {
    fn into_config(self) -> Config {
        Config {
            listen: self.listen,
            placement: match (self.cores, self.shards) {
                (Some(CoreList(cores)), _) => Placement::Pinned(cores),
                (None, Some(shards)) => Placement::Unpinned(shards),
                (None, None) => Placement::every_core(),
            },
            max_clients: self.max_clients,
            max_message_bytes: self.max_message,
            max_frame_bytes: self.max_frame,
            send_queue_bytes: self.send_queue,
            ping_interval: self.ping_interval,
            idle_timeout: self.idle_timeout,
            handshake_timeout: self.handshake_timeout,
            drain_timeout: self.drain_timeout,
            rooms: self.rooms.0,
            history: self.history,
            presence: self.presence,
            presence_limit: self.presence_limit,
            rate: self.rate,
            burst: self.burst,
            allow_origins: self.allow_origin.into_iter().flat_map(|list| list.0).collect(),
            log_format: self.log,
            log_level: self.log_level,
        }
    }
}

/// Where a value was written.
#[derive(Clone, Debug)]
enum Source {
    Flag,
    Environment,
    File(PathBuf),
}

/// A value as it was written, and where.
#[derive(Clone, Debug)]
struct Setting {
    value: String,
    source: Source,
}

impl Setting {
    /// The setting's name as its writer knows it.
    fn place(&self, key: &str) -> String {
        match &self.source {
            Source::Flag => format!("--{key}"),
            Source::Environment => variable(key),
            Source::File(path) => format!("{key} in {}", path.display()),
        }
    }

    fn refused(&self, key: &str, reason: impl fmt::Display) -> UsageError {
        UsageError::Value { value: self.value.clone(), place: self.place(key), reason: reason.to_string() }
    }
}

/// What was set, by key; what takes precedence is added first.
struct Settings(BTreeMap<String, Setting>);

impl Settings {
    /// What the command line sets.
    fn given(matches: &ArgMatches) -> Self {
        let written = |id: &str| {
            let values = matches.get_raw(id).into_iter().flatten();
            values.map(|value| value.to_string_lossy()).collect::<Vec<_>>().join(",")
        };
        let flags = Flags::command()
            .get_arguments()
            .filter(|flag| matches.value_source(flag.get_id().as_str()) == Some(ValueSource::CommandLine))
            .filter_map(|flag| Some((flag.get_long()?.to_owned(), written(flag.get_id().as_str()))))
            .map(|(key, value)| (key, Setting { value, source: Source::Flag }))
            .collect();
        Self(flags)
    }

    fn add_environment(&mut self, read: impl Fn(&str) -> Option<OsString>) -> Result<(), UsageError> {
        let mut layer = BTreeMap::new();
        for key in keys().into_iter().chain(["config".to_owned()]) {
            let Some(value) = read(&variable(&key)).filter(|value| !value.is_empty()) else {
                continue;
            };
            let setting = |value: &OsStr| Setting {
                value: value.to_string_lossy().into_owned(),
                source: Source::Environment,
            };
            if value.to_str().is_none() {
                return Err(setting(&value).refused(&key, "allowed is UTF-8"));
            }
            layer.insert(key, setting(&value));
        }
        self.add(layer)
    }

    /// Adds what the file says that `config` names, if any.
    fn add_file(&mut self) -> Result<(), UsageError> {
        let Some(setting) = self.0.get("config") else {
            return Ok(());
        };
        let path = PathBuf::from(&setting.value);
        let unusable = |reason: String| UsageError::File { path: path.clone(), reason };
        let text = std::fs::read_to_string(&path).map_err(|error| unusable(error.to_string()))?;
        let table: toml::Table = text
            .parse()
            .map_err(|error: toml::de::Error| unusable(error.to_string().trim_end().to_owned()))?;

        let known = keys();
        let mut layer = BTreeMap::new();
        for (key, value) in table {
            if !known.contains(&key) {
                return Err(unusable(format!("unknown key '{key}'; known are {}", known.join(", "))));
            }
            // The one list that may be empty, and is by default.
            if key == "allow-origin" && value.as_array().is_some_and(Vec::is_empty) {
                continue;
            }
            let source = Source::File(path.clone());
            match written(&value) {
                Some(value) => layer.insert(key, Setting { value, source }),
                None => {
                    return Err(Setting { value: value.to_string(), source }.refused(
                        &key,
                        "allowed is a string, a whole number, or a list of them without commas inside",
                    ));
                }
            };
        }
        self.add(layer)
    }

    /// Adds the settings of one place where nothing has set them before.
    fn add(&mut self, layer: BTreeMap<String, Setting>) -> Result<(), UsageError> {
        // Two ways to say one thing: a count of shards set here must not meet cores set elsewhere.
        if let (Some(cores), Some(shards)) = (layer.get("cores"), layer.get("shards")) {
            return Err(UsageError::Conflict(cores.place("cores"), shards.place("shards")));
        }
        let is_placed = self.0.contains_key("cores") || self.0.contains_key("shards");
        for (key, setting) in layer {
            if self.0.contains_key(&key) || (is_placed && (key == "cores" || key == "shards")) {
                continue;
            }
            // Alone first, so that the error can name the place.
            if let Err(error) =
                Flags::command().try_get_matches_from([OsStr::new("uproar"), &argument(&key, &setting)])
            {
                let reason =
                    std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string);
                return Err(setting.refused(&key, reason));
            }
            self.0.insert(key, setting);
        }
        Ok(())
    }

    /// What was not on the command line, as arguments for it.
    fn arguments(&self) -> Vec<OsString> {
        self.0
            .iter()
            .filter(|(_, setting)| !matches!(setting.source, Source::Flag))
            .map(|(key, setting)| argument(key, setting))
            .collect()
    }

    /// The validation's refusal, with the place where the value was written.
    fn blame(&self, refusal: Refusal) -> UsageError {
        let reason = format!("allowed is {}", refusal.allowed);
        match self.0.get(refusal.key) {
            Some(setting) => setting.refused(refusal.key, reason),
            None => UsageError::Value {
                value: refusal.value,
                place: format!("--{} (the default)", refusal.key),
                reason,
            },
        }
    }
}

fn argument(key: &str, setting: &Setting) -> OsString {
    format!("--{key}={}", setting.value).into()
}

/// The settings' keys, in the order of the help.
fn keys() -> Vec<String> {
    Flags::command()
        .get_arguments()
        .filter_map(|flag| flag.get_long())
        .filter(|key| !["config", "help", "version"].contains(key))
        .map(str::to_owned)
        .collect()
}

/// The environment variable of a key.
fn variable(key: &str) -> String {
    format!("UPROAR_{}", key.replace('-', "_").to_uppercase())
}

/// A value of the file as the command line would write it: lists with commas.
fn written(value: &toml::Value) -> Option<String> {
    match value {
        toml::Value::String(text) => Some(text.clone()),
        toml::Value::Integer(number) => Some(number.to_string()),
        toml::Value::Array(values) => values
            .iter()
            .map(|value| match value {
                toml::Value::Array(_) => None,
                value => written(value).filter(|text| !text.contains(',')),
            })
            .collect::<Option<Vec<_>>>()
            .map(|texts| texts.join(",")),
        _ => None,
    }
}

impl FromStr for Command {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "check" => Ok(Self::Check),
            _ => Err("the only command is check; without one, the server starts".into()),
        }
    }
}

#[derive(Clone, Debug)]
struct CoreList(Vec<usize>);

impl FromStr for CoreList {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const ALLOWED: &str = "allowed is cores and ranges of them, such as 0,2-3";
        let mut cores = Vec::new();
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let core = |text: &str| text.trim().parse().map_err(|_| ALLOWED.to_owned());
            let (first, last): (usize, usize) = (core(first)?, core(last)?);
            if first > last || last >= SHARDS_MAX {
                return Err(format!("{ALLOWED}, ascending and below {SHARDS_MAX}"));
            }
            cores.extend(first..=last);
        }
        Ok(Self(cores))
    }
}

#[derive(Clone, Debug)]
struct RoomList(Vec<String>);

impl FromStr for RoomList {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(Self(text.split(',').map(|room| room.trim().to_owned()).collect()))
    }
}

#[derive(Clone, Debug)]
struct OriginList(Vec<AllowedOrigin>);

impl FromStr for OriginList {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.split(',').map(|origin| origin.trim().parse()).collect::<Result<_, _>>().map(Self)
    }
}

fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| "allowed is an address and a port, such as 127.0.0.1:8080 or [::]:8080".into())
}

fn number<T: FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| "allowed is a whole number from 0 on".into())
}

fn shards(text: &str) -> Result<NonZeroUsize, String> {
    text.parse().map_err(|_| format!("allowed is 1 to {SHARDS_MAX}"))
}

fn size(text: &str) -> Result<usize, String> {
    let size: Option<ByteSize> = text.parse().ok();
    size.and_then(|size| usize::try_from(size.as_u64()).ok())
        .ok_or_else(|| "allowed is a size, such as 10KiB, 1MiB or 10240".into())
}

fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text)
        .map_err(|_| "allowed is a duration with its unit, such as 30s or 500ms".into())
}

fn level(text: &str) -> Result<LevelFilter, String> {
    match text {
        "off" | "error" | "warn" | "info" | "debug" | "trace" => text.parse().ok(),
        _ => None,
    }
    .ok_or_else(|| "allowed is error, warn, info, debug, trace or off".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Parses `args` (without the program's name) in an environment of these variables.
    fn parse_in(args: &[&str], variables: &[(&str, &str)]) -> Result<Invocation, UsageError> {
        let read =
            |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into());
        parse(["uproar"].iter().chain(args), read)
    }

    fn config(args: &[&str]) -> Config {
        parse_in(args, &[]).unwrap().config
    }

    fn refusal(args: &[&str], variables: &[(&str, &str)]) -> String {
        let error = parse_in(args, variables).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        error.to_string()
    }

    /// A configuration file and its path.
    fn file(text: &str) -> (tempfile::NamedTempFile, String) {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let path = file.path().to_str().unwrap().to_owned();
        (file, path)
    }

    #[test]
    fn the_flags_are_well_formed() {
        Flags::command().debug_assert();
    }

    /// The help shows the defaults as text, and the configuration has them as values.
    #[test]
    fn the_defaults_of_the_help_are_those_of_the_configuration() {
        let invocation = parse_in(&[], &[]).unwrap();
        assert_eq!(invocation.config, Config::default());
        assert_eq!(invocation.command, Command::Serve);
    }

    #[test]
    fn check_is_a_command_before_and_behind_the_flags() {
        for args in [["check", "--history", "7"], ["--history", "7", "check"]] {
            let invocation = parse_in(&args, &[("UPROAR_RATE", "8")]).unwrap();
            assert_eq!(invocation.command, Command::Check);
            assert_eq!((invocation.config.history, invocation.config.rate), (7, 8));
        }
        let invocation = parse_in(&["--", "check"], &[("UPROAR_RATE", "8")]).unwrap();
        assert_eq!(invocation.command, Command::Check);
        assert!(refusal(&["chekc"], &[]).contains("the only command is check"));
    }

    #[test]
    fn every_flag_reaches_the_configuration() {
        let config = config(&[
            "--listen=[::1]:9000",
            "--cores=0,2-4",
            "--max-clients=10",
            "--max-message=1KiB",
            "--max-frame=2KiB",
            "--send-queue=4096",
            "--ping-interval=500ms",
            "--idle-timeout=2s",
            "--handshake-timeout=3s",
            "--drain-timeout=4s",
            "--rooms=general,tea room",
            "--history=5",
            "--presence=count",
            "--presence-limit=6",
            "--rate=7",
            "--burst=8",
            "--allow-origin=https://a.example",
            "--allow-origin=null,*",
            "--log=json",
            "--log-level=debug",
        ]);
        let wanted = Config {
            listen: SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], 9000)),
            placement: Placement::Pinned(vec![0, 2, 3, 4]),
            max_clients: Some(10),
            max_message_bytes: 1024,
            max_frame_bytes: 2048,
            send_queue_bytes: 4096,
            ping_interval: Duration::from_millis(500),
            idle_timeout: Duration::from_secs(2),
            handshake_timeout: Duration::from_secs(3),
            drain_timeout: Duration::from_secs(4),
            rooms: vec!["general".into(), "tea room".into()],
            history: 5,
            presence: Presence::Count,
            presence_limit: 6,
            rate: 7,
            burst: 8,
            allow_origins: vec![
                AllowedOrigin::Origin("https://a.example".into()),
                AllowedOrigin::Origin("null".into()),
                AllowedOrigin::Any,
            ],
            log_format: LogFormat::Json,
            log_level: LevelFilter::DEBUG,
        };
        assert_eq!(config, wanted);
    }

    #[test]
    fn flag_beats_environment_beats_file() {
        let (_file, path) = file("history = 1\nrate = 1\nburst = 1\n");
        let variables = [("UPROAR_HISTORY", "2"), ("UPROAR_RATE", "2"), ("UPROAR_CONFIG", &*path)];
        let config = parse_in(&["--history", "3"], &variables).unwrap().config;
        assert_eq!((config.history, config.rate, config.burst), (3, 2, 1));
    }

    #[test]
    fn the_config_flag_beats_its_variable() {
        let (_file, path) = file("history = 1\n");
        let config = parse_in(&["--config", &path], &[("UPROAR_CONFIG", "/nonexistent")]).unwrap().config;
        assert_eq!(config.history, 1);
    }

    #[test]
    fn an_empty_variable_is_unset() {
        let config = parse_in(&[], &[("UPROAR_HISTORY", ""), ("UPROAR_CONFIG", "")]).unwrap().config;
        assert_eq!(config.history, 100);
    }

    #[test]
    fn a_file_writes_lists_and_numbers_as_toml_does() {
        let (_file, path) = file(
            "listen = \"0.0.0.0:1\"\nmax-clients = 10000\nrooms = [\"general\", \"b\"]\ncores = [0, \"2-3\"]\n\
             allow-origin = []\nmax-message = 512\nping-interval = \"1s\"\n",
        );
        let config = config(&["--config", &path]);
        assert_eq!(config.listen, SocketAddr::from(([0, 0, 0, 0], 1)));
        assert_eq!(config.max_clients, Some(10_000));
        assert_eq!(config.rooms, ["general", "b"]);
        assert_eq!(config.placement, Placement::Pinned(vec![0, 2, 3]));
        assert_eq!(config.allow_origins, []);
        assert_eq!(config.max_message_bytes, 512);
        assert_eq!(config.ping_interval, Duration::from_secs(1));
    }

    #[test]
    fn cores_and_shards_of_one_place_conflict_and_of_two_places_take_precedence() {
        assert!(refusal(&["--cores=0", "--shards=2"], &[]).contains("cannot be used with"));
        let both = [("UPROAR_CORES", "0"), ("UPROAR_SHARDS", "2")];
        assert!(refusal(&[], &both).starts_with("UPROAR_CORES and UPROAR_SHARDS cannot be used together"));

        let (_file, path) = file("cores = \"0\"\n");
        let two = Placement::Unpinned(NonZeroUsize::new(2).unwrap());
        assert_eq!(config(&["--config", &path, "--shards=2"]).placement, two);
        let placement = parse_in(&["--config", &path], &[("UPROAR_SHARDS", "2")]).unwrap().config.placement;
        assert_eq!(placement, two);
    }

    #[test]
    fn an_error_names_the_place_where_the_value_was_written() {
        let flag = refusal(&["--history=x"], &[]);
        assert!(flag.contains("invalid value 'x' for '--history <N>': allowed is a whole number"), "{flag}");
        assert_eq!(
            refusal(&["--history=20000"], &[]),
            "invalid value '20000' for --history: allowed is 0 to 10000"
        );
        assert_eq!(
            refusal(&[], &[("UPROAR_IDLE_TIMEOUT", "120")]),
            "invalid value '120' for UPROAR_IDLE_TIMEOUT: allowed is a duration with its unit, such as 30s or 500ms"
        );
        assert_eq!(
            refusal(&[], &[("UPROAR_MAX_FRAME", "2MiB")]),
            "invalid value '1MiB' for --send-queue (the default): allowed is at least max-frame, which is 2MiB"
        );
        for (text, wanted) in [
            ("max-message = \"tiny\"", "'tiny' for max-message in PATH: allowed is a size, such as"),
            ("max-message = 1", "'1' for max-message in PATH: allowed is 64 to 16MiB"),
            ("rate = -1", "'-1' for rate in PATH: allowed is a whole number from 0 on"),
            ("rate = 1.5", "'1.5' for rate in PATH: allowed is a string, a whole number, or a list"),
            (
                "rooms = [\"general\", \"a,b\"]",
                "for rooms in PATH: allowed is a string, a whole number, or a list",
            ),
            ("rooms = []", "'' for rooms in PATH: allowed is a list with general in it"),
            ("presence = \"always\"", "'always' for presence in PATH: allowed is auto, exact or count"),
            ("allow-origin = \"example.com\"", "in PATH: allowed is an origin without a path"),
            ("log-level = \"loud\"", "'loud' for log-level in PATH: allowed is error, warn"),
            (
                "cores = \"3-1\"",
                "'3-1' for cores in PATH: allowed is cores and ranges of them, such as 0,2-3",
            ),
            ("shards = 0", "'0' for shards in PATH: allowed is 1 to 1024"),
            ("listen = 8080", "'8080' for listen in PATH: allowed is an address and a port"),
            ("log = \"xml\"", "'xml' for log in PATH: allowed is text or json"),
        ] {
            let (_file, path) = file(text);
            let said = refusal(&["--config", &path], &[]);
            assert!(said.contains(&wanted.replace("PATH", &path)), "{text}: {said}");
        }
    }

    #[test]
    fn an_unusable_file_is_refused_by_its_name() {
        let missing = refusal(&["--config", "/nonexistent.toml"], &[]);
        assert!(missing.starts_with("configuration file /nonexistent.toml: No such file"), "{missing}");
        let (_file, path) = file("max_clients = 3\n");
        let unknown = refusal(&["--config", &path], &[]);
        let start = format!(
            "configuration file {path}: unknown key 'max_clients'; known are listen, cores, shards, "
        );
        assert!(unknown.starts_with(&start), "{unknown}");
        assert!(unknown.ends_with("allow-origin, log, log-level"), "{unknown}");
        let (_file, path) = file("rate = \n");
        assert!(refusal(&["--config", &path], &[]).contains("line 1"));
    }

    #[test]
    fn sizes_and_durations_have_units() {
        for (text, bytes) in [("10KiB", 10 << 10), ("1 MiB", 1 << 20), ("4096", 4096), ("1kB", 1000)] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for text in ["", "KiB", "-1", "10 apples"] {
            assert!(size(text).is_err(), "{text}");
        }
        assert_eq!(duration("1m 30s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert!(duration("30").is_err());
    }

    #[test]
    fn core_lists_have_ranges() {
        let cores = |text: &str| text.parse::<CoreList>().map(|list| list.0);
        assert_eq!(cores("0,2-3"), Ok(vec![0, 2, 3]));
        assert_eq!(cores("5"), Ok(vec![5]));
        for text in ["", ",", "a", "1-", "-1", "2-1", "0-99999999"] {
            assert!(cores(text).is_err(), "{text}");
        }
    }

    #[test]
    fn help_and_version_are_no_failure() {
        for flag in ["--help", "--version"] {
            assert_eq!(parse_in(&[flag], &[]).unwrap_err().exit_code(), 0);
        }
        assert_eq!(parse_in(&["--no-such-flag"], &[]).unwrap_err().exit_code(), 2);
    }
}
