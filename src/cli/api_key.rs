//! The command line of `uproar api-key`: the name of a key, and what it may do.

use std::ffi::OsString;

use clap::Parser;

use super::error::UsageError;
use super::values::List;
use crate::api::{ApiKeyCommand, Scope, Scopes};

/// Makes a key for the HTTP API, and prints two lines: the one to add to the file of --api-key-file, and the key itself,
/// which cannot be shown again.
#[derive(Debug, Parser)]
#[command(bin_name = "uproar api-key", disable_help_subcommand = true)]
struct ApiKeyFlags {
    /// The name of the key, for the log: 1 to 64 visible ASCII characters without a colon.
    name: String,

    /// What it may do: read, publish or moderate. May be repeated, or list several with commas [default: all].
    #[arg(long, value_name = "SCOPE")]
    scope: Vec<List<Scope>>,
}

/// Reads the arguments behind `uproar api-key`.
pub(super) fn parse(args: &[OsString]) -> Result<ApiKeyCommand, UsageError> {
    let program = OsString::from("uproar api-key");
    let ApiKeyFlags { name, scope } = ApiKeyFlags::try_parse_from([&program].into_iter().chain(args))?;
    let scopes = match scope.is_empty() {
        true => Scopes::all(),
        false => scope.into_iter().flat_map(|list| list.0).collect(),
    };
    Ok(ApiKeyCommand { name, scopes })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_are_all_or_those_that_are_named() {
        let scopes = |args: &[&str]| {
            let args: Vec<OsString> = ["billing"].iter().chain(args).map(OsString::from).collect();
            parse(&args).map(|command| command.scopes.to_string()).map_err(|error| error.exit_code())
        };
        assert_eq!(scopes(&[]), Ok("read,publish,moderate".into()));
        assert_eq!(scopes(&["--scope", "publish"]), Ok("publish".into()));
        assert_eq!(scopes(&["--scope", "moderate,read", "--scope=read"]), Ok("read,moderate".into()));
        assert_eq!(scopes(&["--scope", "write"]), Err(2));
    }
}
