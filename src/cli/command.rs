//! The commands of the program.

use std::path::PathBuf;
use std::str::FromStr;

use crate::accounts::UserCommand;

/// The commands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Run the server: the default.
    Serve,
    /// Run only the preflight, and print what to change.
    Check,
    /// Change or show the accounts in a directory.
    User {
        /// The command about an account.
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
            "user" => Err("the command user comes first, and its settings follow".into()),
            _ => Err("the commands are check and user; without one, the server starts".into()),
        }
    }
}
