//! `uproar user`: adds, removes and lists accounts, and changes their passwords and roles.
//!
//! A password is typed twice at a terminal, where it is not shown, or comes from standard input. It is not an argument,
//! because everyone can read those in the list of processes.

use std::io::{self, BufRead, IsTerminal as _, Write};
use std::path::Path;

use thiserror::Error;

use super::{Account, AccountError, Accounts, PASSWORD_BYTES_MAX, Password, PasswordError};

/// A command about an account.
#[expect(missing_docs, reason = "the fields are what their names and types say")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UserCommand {
    /// Add one.
    Add { name: String, is_admin: bool },
    /// Remove one.
    Remove { name: String },
    /// Show all of them.
    List,
    /// Give one another password.
    Passwd { name: String },
    /// Make one an admin's, or an ordinary one.
    SetAdmin { name: String, is_admin: bool },
}

/// Why a command failed.
#[derive(Debug, Error)]
pub enum CommandError {
    /// The accounts do not allow it.
    #[error(transparent)]
    Account(#[from] AccountError),
    /// The password is invalid.
    #[error(transparent)]
    Password(#[from] PasswordError),
    /// The two passwords that were typed differ.
    #[error("the two passwords are not the same; nothing was changed")]
    Mismatch,
    /// The password cannot be read.
    #[error("the password cannot be read: {0}; type it at a terminal, or give one line on standard input")]
    Input(io::Error),
    /// The output cannot be written.
    #[error("cannot write to standard output: {0}")]
    Output(io::Error),
}

/// Runs a command on the accounts in a directory, and writes to `out` what was done.
///
/// # Errors
///
/// [`CommandError`]; nothing was changed.
pub fn run(command: &UserCommand, directory: &Path, out: &mut impl Write) -> Result<(), CommandError> {
    // Only adding an account may create the file.
    let absent = |name: &str| AccountError::Absent { name: name.to_owned() };
    let existing = |name: &str| -> Result<Accounts, AccountError> {
        Accounts::open_existing(directory)?.ok_or_else(|| absent(name))
    };
    let said = match command {
        UserCommand::Add { name, is_admin } => {
            let accounts = Accounts::open(directory)?;
            // Before the password is asked for.
            accounts.check_free(name)?;
            let password_hash = read_password(name)?.hash()?;
            accounts.add(&Account { name: name.clone(), password_hash, is_admin: *is_admin })?;
            format!("added {name}{}\n", if *is_admin { ", an admin" } else { "" })
        }
        UserCommand::Remove { name } => {
            existing(name)?.remove(name)?;
            format!("removed {name}\n")
        }
        UserCommand::List => {
            let line = |account: Account| {
                let role = if account.is_admin { "admin" } else { "user" };
                format!("{role}\t{}\n", account.name)
            };
            let accounts = Accounts::open_existing(directory)?;
            let accounts = accounts.map_or(Ok(Vec::new()), |accounts| accounts.list())?;
            accounts.into_iter().map(line).collect()
        }
        UserCommand::Passwd { name } => {
            let accounts = existing(name)?;
            if accounts.find(name)?.is_none() {
                return Err(absent(name).into());
            }
            let password_hash = read_password(name)?.hash()?;
            accounts.set_password_hash(name, &password_hash)?;
            format!("changed the password of {name}\n")
        }
        UserCommand::SetAdmin { name, is_admin } => {
            existing(name)?.set_admin(name, *is_admin)?;
            format!("{name} is {} now\n", if *is_admin { "an admin" } else { "no admin" })
        }
    };
    out.write_all(said.as_bytes()).and_then(|()| out.flush()).map_err(CommandError::Output)
}

fn read_password(name: &str) -> Result<Password, CommandError> {
    let stdin = io::stdin();
    if !stdin.is_terminal() {
        return first_line(stdin.lock());
    }
    let typed = prompt(&format!("Password for {name}: "))?;
    if typed != prompt("The same again: ")? {
        return Err(CommandError::Mismatch);
    }
    Ok(typed)
}

fn prompt(text: &str) -> Result<Password, CommandError> {
    rpassword::prompt_password(text).map(Password::new).map_err(CommandError::Input)
}

/// The first line without its line break; the rest is not read.
fn first_line(input: impl BufRead) -> Result<Password, CommandError> {
    let mut line = String::new();
    // Two more bytes for a line break, and one to see that a password is too long.
    input.take(PASSWORD_BYTES_MAX as u64 + 3).read_line(&mut line).map_err(CommandError::Input)?;
    let text = line.strip_suffix('\n').map_or(&*line, |text| text.strip_suffix('\r').unwrap_or(text));
    Ok(Password::new(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_the_first_line_without_its_end() {
        for (input, expected) in [
            ("a b\nc\n", "a b"),
            ("a b\r\n", "a b"),
            ("a b", "a b"),
            (" a \n", " a "),
            ("", ""),
            ("a\r", "a\r"),
        ] {
            assert_eq!(
                first_line(input.as_bytes()).unwrap(),
                Password::new(expected.to_owned()),
                "{input:?}"
            );
        }
        let endless = "x".repeat(5_000);
        let refused = first_line(endless.as_bytes()).unwrap().hash();
        assert_eq!(refused, Err(PasswordError::TooLong));
        assert!(matches!(first_line(&b"\xff\n"[..]), Err(CommandError::Input(_))));
    }
}
