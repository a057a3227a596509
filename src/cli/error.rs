//! Errors of the command line, the environment and the configuration file.

use std::path::PathBuf;

/// Why there is no [`Invocation`](super::Invocation).
#[derive(Debug, thiserror::Error)]
pub enum UsageError {
    /// The command line is invalid, or asks for the help or the version.
    #[error(transparent)]
    CommandLine(#[from] clap::Error),
    /// A value is not allowed.
    #[error("invalid value '{value}' for {place}: {reason}")]
    Value {
        /// The value as it was written.
        value: String,
        /// Where it was written, and under which key.
        place: String,
        /// The allowed values.
        reason: String,
    },
    /// The configuration file cannot be used.
    #[error("configuration file {}: {reason}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The reason.
        reason: String,
    },
    /// An environment variable with our prefix is not a setting.
    #[error("unknown variable {name}; known are {known}")]
    Variable {
        /// The variable.
        name: String,
        /// The known variables.
        known: String,
    },
    /// Two settings in one place exclude each other.
    #[error("{one} and {other} cannot be used together: {advice}")]
    Conflict {
        /// One of them, and where it was written.
        one: String,
        /// The other.
        other: String,
        /// What to do.
        advice: &'static str,
    },
    /// `uproar user` was called without the directory of the accounts.
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
            // If the output is closed, nobody wants to read it.
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
