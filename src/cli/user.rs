//! The command line of `uproar user`: a command about an account, and the directory of the accounts.
//!
//! The directory is a setting, so it may also come from the environment or from the file. The rest of the command
//! line is therefore parsed as that of a server.

use std::convert::Infallible;
use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Parser, Subcommand};

use super::error::UsageError;
use crate::accounts::UserCommand;
use crate::name;

/// Manages the accounts that users sign in with. A server may be running.
#[derive(Debug, Parser)]
#[command(
    bin_name = "uproar user",
    disable_help_subcommand = true,
    after_help = "The password is asked for at the terminal, or read as one line from standard input."
)]
struct UserFlags {
    #[command(subcommand)]
    command: UserAction,

    /// The server's directory for history and accounts.
    #[arg(long, value_name = "DIR", global = true)]
    data: Option<PathBuf>,

    /// TOML file to read settings from, such as data.
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum UserAction {
    /// Add an account.
    Add {
        /// The name to sign in with.
        #[arg(value_parser = account_name)]
        name: String,
        /// Allow it to kick, mute and ban users.
        #[arg(long)]
        admin: bool,
    },
    /// Remove an account. Its users are disconnected.
    Remove {
        /// Its name.
        #[arg(value_parser = trimmed)]
        name: String,
    },
    /// List all accounts and their roles.
    List,
    /// Change an account's password. Its users are disconnected, and sign in with the new one.
    Passwd {
        /// Its name.
        #[arg(value_parser = trimmed)]
        name: String,
    },
    /// Allow an account to kick, mute and ban users.
    Promote {
        /// Its name.
        #[arg(value_parser = trimmed)]
        name: String,
    },
    /// No longer allow an account to kick, mute and ban users.
    Demote {
        /// Its name.
        #[arg(value_parser = trimmed)]
        name: String,
    },
}

/// Reads the arguments behind `uproar user`. Returns the command, and the other arguments for a server.
pub(super) fn parse(args: &[OsString]) -> Result<(UserCommand, Vec<OsString>), UsageError> {
    let program = OsString::from("uproar user");
    let UserFlags { command, data, config } = UserFlags::try_parse_from([&program].into_iter().chain(args))?;
    let command = match command {
        UserAction::Add { name, admin } => UserCommand::Add { name, is_admin: admin },
        UserAction::Remove { name } => UserCommand::Remove { name },
        UserAction::List => UserCommand::List,
        UserAction::Passwd { name } => UserCommand::Passwd { name },
        UserAction::Promote { name } => UserCommand::SetAdmin { name, is_admin: true },
        UserAction::Demote { name } => UserCommand::SetAdmin { name, is_admin: false },
    };
    let settings = [("--data", data), ("--config", config)];
    let rest = settings.into_iter().filter_map(|(flag, value)| Some([flag.into(), value?.into_os_string()]));
    Ok((command, rest.flatten().collect()))
}

/// The name of an account that exists: one of an earlier version need not follow the rules.
fn trimmed(text: &str) -> Result<String, Infallible> {
    Ok(text.trim().to_owned())
}

fn account_name(text: &str) -> Result<String, String> {
    let name = name::parse(text);
    name.map(|name| (*name).to_owned())
        .ok_or_else(|| "allowed are 1 to 20 characters, none of them a control character or one that changes the direction of text, \
              and at least one that can be seen".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flags_are_well_formed() {
        <UserFlags as clap::CommandFactory>::command().debug_assert();
    }
}
