//! The commands of the program.

use std::path::PathBuf;
use std::str::FromStr;

use crate::accounts::UserCommand;
use crate::api::ApiKeyCommand;
use crate::tokens::{TokenCommand, TokenFiles};

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
    /// Make a token.
    Token {
        /// Its claims.
        command: TokenCommand,
        /// The key to sign it with, the issuer and the audience.
        files: TokenFiles,
    },
    /// Make a key for the HTTP API.
    ApiKey(ApiKeyCommand),
}

impl FromStr for Command {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "check" => Ok(Self::Check),
            "user" | "token" | "api-key" => {
                Err(format!("the command {text} comes first, and its settings follow"))
            }
            _ => {
                Err("the commands are check, user, token and api-key; without one, the server starts".into())
            }
        }
    }
}
