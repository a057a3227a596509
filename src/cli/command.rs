//! The commands of the program.

use std::path::PathBuf;
use std::str::FromStr;

use crate::accounts::UserCommand;

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

impl FromStr for Command {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "check" => Ok(Self::Check),
            "user" => Err("the command user stands first, its settings behind it".into()),
            _ => Err("the commands are check and user; without one, the server starts".into()),
        }
    }
}
