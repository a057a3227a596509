//! Errors that end a run without a result, and their exit codes.

use std::io;
use std::process::ExitCode;

/// A run that came to no result.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The options contradict each other or the machine; the text names the option and the way out.
    #[error("{0}")]
    Usage(String),
    /// The machine or the server is not ready; the text names what to change.
    #[error("preflight: {0}")]
    Preflight(String),
    /// Something failed while running.
    #[error("{0}")]
    Runtime(String),
    /// A result could not be written.
    #[error("cannot write {path}: {source}")]
    Write {
        /// The file.
        path: String,
        /// Why not.
        source: io::Error,
    },
}

impl Error {
    /// 2 for usage and preflight, 1 for everything else.
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Usage(_) | Self::Preflight(_) => ExitCode::from(2),
            Self::Runtime(_) | Self::Write { .. } => ExitCode::from(1),
        }
    }
}
