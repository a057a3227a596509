//! `uproar api-key`: makes a key for a backend.

use std::io::Write;

use super::keys::{NewKey, NewKeyError, Scopes};

/// The command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiKeyCommand {
    /// The name of the key, for the log.
    pub name: String,
    /// What it may do.
    pub scopes: Scopes,
}

/// Makes a key, and writes two lines: the one for the file of keys, and the key itself, which is shown this once.
///
/// # Errors
///
/// [`NewKeyError`].
pub fn run(command: &ApiKeyCommand, out: &mut impl Write) -> Result<(), NewKeyError> {
    let NewKey { key, line } = NewKey::new(&command.name, command.scopes)?;
    writeln!(out, "{line}\n{key}").and_then(|()| out.flush()).map_err(NewKeyError::Output)
}
