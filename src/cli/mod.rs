//! The command line: flags, environment and file become one [`Config`].
//!
//! There is one set of flags with one set of value parsers. Values from the environment and from the file become
//! flags before those of the command line, unless a layer above has set them: flag beats environment beats file. An
//! error names the place where the value was written. Nothing here touches the process: arguments and environment are
//! passed in.

mod api_key;
mod cluster;
mod command;
mod error;
mod flags;
mod layers;
mod token;
mod user;
mod values;

use std::ffi::OsString;
use std::net::SocketAddr;

use clap::{CommandFactory, FromArgMatches};

use crate::config::{Cluster, Config, LogFormat};
use crate::tokens::TokenFiles;
use cluster::ClusterSettings;
pub use command::Command;
pub use error::UsageError;
use flags::Flags;
use layers::{Environment, GivenSettings};

/// The command and its configuration.
#[derive(Clone, Debug)]
pub struct Invocation {
    /// The command.
    pub command: Command,
    /// The configuration, validated.
    pub config: Config,
    /// What is unwise about how settings were given, to be logged.
    pub warning: Option<String>,
}

/// Why there is no [`Invocation`], and in which format to log it.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct CliError {
    /// The reason.
    #[source]
    pub error: UsageError,
    /// The format of the log, as far as it could be read.
    pub log_format: LogFormat,
}

/// Reads the invocation from arguments (the program's name first) and an environment.
///
/// Of the environment, [`std::env::vars_os`] for the real one, the variables that begin with `UPROAR_` count. An
/// empty variable counts as unset, because compose files and unit files cannot unset one.
///
/// # Errors
///
/// When a flag or such a variable is unknown, a value is not allowed, or the file cannot be read or has an
/// unknown key; also when help or version was asked for.
pub fn parse(
    args: impl IntoIterator<Item = impl Into<OsString>>,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Invocation, CliError> {
    let mut args: Vec<OsString> = args.into_iter().map(Into::into).collect();
    if args.is_empty() {
        args.push("uproar".into());
    }
    let environment = Environment::of(environment);
    let mut log_format = log_format(&args, &environment);
    let invocation = match args.get(1).and_then(|first| first.to_str()) {
        Some("user") => parse_user(args, &environment),
        Some("token") => parse_token(args, &environment),
        Some("api-key") => parse_api_key(&args),
        _ => parse_server(args, &environment, &mut log_format),
    };
    invocation.map_err(|error| CliError { error, log_format })
}

/// The format of the log that the command line and the environment ask for, even if the rest of them is invalid.
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
    let (mut flags, settings) = read(args, environment)?;
    // It does not listen, and resolving a name may take long.
    let cluster = ClusterSettings::read(&mut flags, &settings, environment, None)?;
    let config = validated(flags, &settings, Config::default().listen, cluster.cluster)?;
    let data = config.data.clone().ok_or(UsageError::NoData)?;
    Ok(Invocation { command: Command::User { command, data }, config, warning: cluster.warning })
}

fn parse_token(mut args: Vec<OsString>, environment: &Environment) -> Result<Invocation, UsageError> {
    let (command, rest) = token::parse(&args[2..])?;
    let args = [args.swap_remove(0)].into_iter().chain(rest).collect();
    let (mut flags, settings) = read(args, environment)?;
    // It does not listen, either.
    let cluster = ClusterSettings::read(&mut flags, &settings, environment, None)?;
    let config = validated(flags, &settings, Config::default().listen, cluster.cluster)?;
    let files = TokenFiles { jwks: None, ..TokenFiles::of(&config).unwrap_or_default() };
    Ok(Invocation { command: Command::Token { command, files }, config, warning: cluster.warning })
}

fn parse_api_key(args: &[OsString]) -> Result<Invocation, UsageError> {
    let command = Command::ApiKey(api_key::parse(&args[2..])?);
    Ok(Invocation { command, config: Config::default(), warning: None })
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
    // The check is no node of the cluster.
    let default_node = if command == Command::Check { "check".parse().ok() } else { None };
    let cluster = ClusterSettings::read(&mut flags, &settings, environment, default_node)?;
    let config = validated(flags, &settings, listen, cluster.cluster)?;
    Ok(Invocation { command, config, warning: cluster.warning })
}

/// Reads the flags and the other layers.
fn read(mut args: Vec<OsString>, environment: &Environment) -> Result<(Flags, GivenSettings), UsageError> {
    let given = Flags::command().try_get_matches_from(&args)?;
    let mut settings = GivenSettings::given(&given);
    settings.add_environment(environment)?;
    settings.add_file()?;
    // Before the command line's own arguments, since those may end with `--`.
    args.splice(1..1, settings.arguments());
    let flags = Flags::from_arg_matches(&Flags::command().try_get_matches_from(args)?)?;
    Ok((flags, settings))
}

fn validated(
    flags: Flags,
    settings: &GivenSettings,
    listen: SocketAddr,
    cluster: Option<Cluster>,
) -> Result<Config, UsageError> {
    let config = flags.into_config(listen, cluster);
    config.validate().map_err(|refusal| settings.blame(refusal))?;
    Ok(config)
}

#[cfg(test)]
mod tests;
