//! The command line of `uproar token`: the claims of a token, and the key to sign it with.
//!
//! Key, issuer and audience are settings of the server, so they may also come from the environment or from the file. The
//! rest of the command line is therefore parsed as that of a server.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;

use super::error::UsageError;
use super::values::{duration, number};
use crate::tokens::TokenCommand;

/// Makes a token, to try out what a backend will do, and prints it.
#[derive(Debug, Parser)]
#[command(
    bin_name = "uproar token",
    disable_help_subcommand = true,
    after_help = "A client connects with ws://HOST/chat?token=TOKEN, or sends the header Authorization: Bearer TOKEN.\n\
                  A pattern is a name that may end in one *, which stands for any rest."
)]
struct TokenFlags {
    /// The account (sub): 1 to 128 characters, always the same for a person.
    #[arg(long, value_name = "NAME")]
    sub: String,

    /// The display name [default: the first 20 characters of the account].
    #[arg(long, value_name = "NAME")]
    name: Option<String>,

    /// How long the token is valid.
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = duration)]
    expires: Duration,

    /// Allow it to moderate.
    #[arg(long)]
    admin: bool,

    /// Allow it to change its display name.
    #[arg(long)]
    rename: bool,

    /// Pattern of rooms that it may join. May be repeated [default: every room].
    #[arg(long, value_name = "PATTERN")]
    room: Vec<String>,

    /// Pattern of raw topics that it may hear. May be repeated [default: every topic].
    #[arg(long, value_name = "PATTERN")]
    topic: Vec<String>,

    /// Pattern of rooms, or with topic: in front of raw topics, in which it may publish. May be repeated [default: every
    /// room that it may join, and no topic].
    #[arg(long, value_name = "PATTERN")]
    publish: Vec<String>,

    /// Messages a second that it may send; 0 for no limit [default: as the server has it].
    #[arg(long, value_name = "N", value_parser = number::<u32>)]
    rate: Option<u32>,

    /// File with a secret of at least 32 bytes, or with a private key in PEM form.
    #[arg(long, value_name = "FILE")]
    token_key: Option<PathBuf>,

    /// Issuer (iss), as the server demands it.
    #[arg(long, value_name = "NAME")]
    token_issuer: Option<String>,

    /// Audience (aud), as the server demands it.
    #[arg(long, value_name = "NAME")]
    token_audience: Option<String>,

    /// TOML file to read settings from, such as token-key.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Reads the arguments behind `uproar token`. Returns the command, and the other arguments for a server.
pub(super) fn parse(args: &[OsString]) -> Result<(TokenCommand, Vec<OsString>), UsageError> {
    let program = OsString::from("uproar token");
    let flags = TokenFlags::try_parse_from([&program].into_iter().chain(args))?;
    let command = TokenCommand {
        subject: flags.sub,
        name: flags.name,
        expires: flags.expires,
        is_admin: flags.admin,
        may_rename: flags.rename,
        rooms: flags.room,
        topics: flags.topic,
        publish: flags.publish,
        rate: flags.rate,
    };
    let settings = [
        ("--token-key", flags.token_key.map(PathBuf::into_os_string)),
        ("--token-issuer", flags.token_issuer.map(OsString::from)),
        ("--token-audience", flags.token_audience.map(OsString::from)),
        ("--config", flags.config.map(PathBuf::into_os_string)),
    ];
    let rest = settings.into_iter().filter_map(|(flag, value)| Some([flag.into(), value?]));
    Ok((command, rest.flatten().collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flags_are_well_formed() {
        <TokenFlags as clap::CommandFactory>::command().debug_assert();
    }
}
