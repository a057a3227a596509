//! The layers of settings: the command line, above the environment, above the configuration file.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::PathBuf;

use clap::parser::ValueSource;
use clap::{ArgMatches, CommandFactory};
use uproar_cluster::client::without_password;

use super::error::UsageError;
use super::flags::Flags;
use crate::config::ConfigError;

/// The place where a value was written.
#[derive(Clone, Debug)]
enum Source {
    Flag,
    Environment,
    File(PathBuf),
}

/// A value as written, and its place.
#[derive(Clone, Debug)]
struct GivenSetting {
    value: String,
    source: Source,
}

impl GivenSetting {
    /// The setting's name in the place where it was written.
    fn place(&self, key: &str) -> String {
        match &self.source {
            Source::Flag => format!("--{key}"),
            Source::Environment => variable(key),
            Source::File(path) => format!("{key} in {}", path.display()),
        }
    }

    fn refused(&self, key: &str, reason: impl fmt::Display) -> UsageError {
        let value = if key == "redis" { without_password(&self.value) } else { self.value.clone() };
        UsageError::Value { value, place: self.place(key), reason: reason.to_string() }
    }
}

/// All settings that were given, by key. Layers are added in the order of their precedence.
pub(super) struct GivenSettings(BTreeMap<String, GivenSetting>);

impl GivenSettings {
    /// The settings on the command line.
    pub(super) fn given(matches: &ArgMatches) -> Self {
        let written = |id: &str| {
            let values = matches.get_raw(id).into_iter().flatten();
            values.map(|value| value.to_string_lossy()).collect::<Vec<_>>().join(",")
        };
        let flags = Flags::command()
            .get_arguments()
            .filter(|flag| matches.value_source(flag.get_id().as_str()) == Some(ValueSource::CommandLine))
            .filter_map(|flag| Some((flag.get_long()?.to_owned(), written(flag.get_id().as_str()))))
            .map(|(key, value)| (key, GivenSetting { value, source: Source::Flag }))
            .collect();
        Self(flags)
    }

    pub(super) fn add_environment(&mut self, environment: &Environment) -> Result<(), UsageError> {
        let known: Vec<String> = keys().into_iter().chain(["config".to_owned()]).collect();
        let names: Vec<String> =
            [PASSWORD].into_iter().chain(known.iter().map(|key| &**key)).map(variable).collect();
        if let Some(name) = environment.names().find(|name| !names.iter().any(|known| *known == **name)) {
            return Err(UsageError::Variable { name: name.into_owned(), known: names.join(", ") });
        }
        let mut layer = BTreeMap::new();
        for key in known {
            let Some(value) = environment.get(&key) else { continue };
            let setting =
                GivenSetting { value: value.to_string_lossy().into_owned(), source: Source::Environment };
            if value.to_str().is_none() {
                return Err(setting.refused(&key, "allowed is UTF-8"));
            }
            layer.insert(key, setting);
        }
        self.add(layer)
    }

    /// Adds the settings in the file of `--config`, if there is one.
    pub(super) fn add_file(&mut self) -> Result<(), UsageError> {
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
            // These lists may be empty.
            if matches!(
                key.as_str(),
                "allow-origin" | "allow-host" | "room-pattern" | "token-key" | "trusted-proxy"
            ) && value.as_array().is_some_and(Vec::is_empty)
            {
                continue;
            }
            let source = Source::File(path.clone());
            match written(&value) {
                Some(value) => layer.insert(key, GivenSetting { value, source }),
                None => {
                    return Err(GivenSetting { value: value.to_string(), source }.refused(
                        &key,
                        "allowed is a string, a whole number, true or false, or a list of them without commas inside",
                    ));
                }
            };
        }
        self.add(layer)
    }

    /// Adds the settings of a layer that no layer above it has.
    fn add(&mut self, layer: BTreeMap<String, GivenSetting>) -> Result<(), UsageError> {
        // Both place the shards, so one of them in a higher layer hides the other one in a lower layer.
        if let (Some(cores), Some(shards)) = (layer.get("cores"), layer.get("shards")) {
            return Err(UsageError::Conflict {
                one: cores.place("cores"),
                other: shards.place("shards"),
                advice: "list the cores, or give the number of unpinned shards",
            });
        }
        let is_placed = self.0.contains_key("cores") || self.0.contains_key("shards");
        for (key, setting) in layer {
            if self.0.contains_key(&key) || (is_placed && (key == "cores" || key == "shards")) {
                continue;
            }
            // Parsed alone first, so that the error can name the place.
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

    /// True when any layer has it.
    pub(super) fn is_given(&self, key: &str) -> bool {
        self.0.contains_key(key)
    }

    /// True when it is a flag.
    pub(super) fn is_on_command_line(&self, key: &str) -> bool {
        self.0.get(key).is_some_and(|setting| matches!(setting.source, Source::Flag))
    }

    /// The settings of the other layers as command line arguments.
    pub(super) fn arguments(&self) -> Vec<OsString> {
        self.0
            .iter()
            .filter(|(_, setting)| !matches!(setting.source, Source::Flag))
            .map(|(key, setting)| argument(key, setting))
            .collect()
    }

    /// The validation's error, with the place where the value was written. If that value is a default, the error is
    /// about the setting that conflicts with it.
    pub(super) fn blame(&self, refusal: ConfigError) -> UsageError {
        let ConfigError { key, value, allowed, other } = refusal;
        match other {
            Some(other) if !self.0.contains_key(key) => {
                let reason = format!("allowed is {}; or set --{key}, too", other.allowed);
                self.refused(other.key, &other.value, &reason)
            }
            _ => self.refused(key, &value, &format!("allowed is {allowed}")),
        }
    }

    /// The error about a setting's value, which is shown as written, if it was.
    pub(super) fn refused(&self, key: &str, value: &str, reason: &str) -> UsageError {
        match self.0.get(key) {
            Some(setting) => setting.refused(key, reason),
            None => UsageError::Value {
                value: value.to_owned(),
                place: format!("--{key} (the default)"),
                reason: reason.to_owned(),
            },
        }
    }
}

/// The password for Redis, which is a variable alone: `ps` would show it as a flag.
pub(super) const PASSWORD: &str = "redis-password";

/// The prefix of our environment variables.
const PREFIX: &str = "UPROAR_";

/// A variable of `loadgen`, which may start a server with its own environment.
const OF_LOADGEN: &str = "UPROAR_BASELINES";

/// Parts of the names of variables that Kubernetes sets in each container, for every service. For one named uproar:
/// `UPROAR_SERVICE_HOST`, `UPROAR_PORT_8080_TCP` and more.
const SERVICE: [&str; 2] = ["_SERVICE_", "_PORT"];
const SERVICE_HOST: &str = "_SERVICE_HOST";

/// The variables with our prefix that are not empty, without those that other programs set.
pub(super) struct Environment(BTreeMap<OsString, OsString>);

impl Environment {
    pub(super) fn of(variables: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        let is_ours = |name: &OsStr| name.as_encoded_bytes().starts_with(PREFIX.as_bytes());
        let ours = variables.into_iter().filter(|(name, value)| is_ours(name) && !value.is_empty());
        let mut ours: BTreeMap<_, _> = ours.collect();
        let hosts =
            ours.keys().filter_map(|name| Some(name.to_str()?.strip_suffix(SERVICE_HOST)?.to_owned()));
        let services: Vec<String> = hosts.collect();
        ours.retain(|name, _| {
            let name = name.to_string_lossy();
            let is_of = |service: &String| {
                name.strip_prefix(&**service)
                    .is_some_and(|rest| SERVICE.iter().any(|part| rest.starts_with(part)))
            };
            name != OF_LOADGEN && !services.iter().any(is_of)
        });
        Self(ours)
    }

    /// The variable of a key.
    pub(super) fn get(&self, key: &str) -> Option<&OsStr> {
        self.0.get(OsStr::new(&variable(key))).map(OsString::as_os_str)
    }

    fn names(&self) -> impl Iterator<Item = Cow<'_, str>> {
        self.0.keys().map(|name| name.to_string_lossy())
    }
}

fn argument(key: &str, setting: &GivenSetting) -> OsString {
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
pub(super) fn variable(key: &str) -> String {
    format!("{PREFIX}{}", key.replace('-', "_").to_uppercase())
}

/// A value of the file as written on the command line: lists with commas.
fn written(value: &toml::Value) -> Option<String> {
    match value {
        toml::Value::String(text) => Some(text.clone()),
        toml::Value::Integer(number) => Some(number.to_string()),
        toml::Value::Boolean(switch) => Some(switch.to_string()),
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
