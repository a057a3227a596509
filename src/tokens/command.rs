//! `uproar token`: makes a token, to try out what a backend will do.

use std::io::{self, Write};
use std::time::Duration;

use jsonwebtoken::{Header, encode};
use serde_json::{Map, Value};
use thiserror::Error;

use super::claims::{self, Expected};
use super::error::{TokenError, TokenKeyError};
use super::key_set::TokenFiles;

/// The claims of the token to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenCommand {
    /// `sub`.
    pub subject: String,
    /// `name`.
    pub name: Option<String>,
    /// The time until `exp`.
    pub expires: Duration,
    /// `admin`.
    pub is_admin: bool,
    /// `rename`.
    pub may_rename: bool,
    /// `rooms`; none for every room.
    pub rooms: Vec<String>,
    /// `topics`; none for every topic.
    pub topics: Vec<String>,
    /// `publish`; none for the default.
    pub publish: Vec<String>,
    /// `rate`.
    pub rate: Option<u32>,
}

/// Why no token was made.
#[derive(Debug, Error)]
pub enum TokenCommandError {
    /// No key was named.
    #[error("uproar token needs --token-key FILE, a secret or a private key in PEM form")]
    NoKey,
    /// The key cannot be used.
    #[error(transparent)]
    Key(#[from] TokenKeyError),
    /// The server would refuse the token.
    #[error("the server would refuse this token: {0}")]
    Refused(TokenError),
    /// It could not be signed.
    #[error("the token cannot be signed: {0}")]
    Signing(#[from] jsonwebtoken::errors::Error),
    /// The output cannot be written.
    #[error("cannot write to standard output: {0}")]
    Output(io::Error),
}

/// Makes a token at a time (in Unix seconds), with the issuer, the audience and the first key of `files`, and writes it
/// to `out` as a line.
///
/// # Errors
///
/// [`TokenCommandError`]; nothing was written.
pub fn run(
    command: &TokenCommand,
    files: &TokenFiles,
    now_unix: u64,
    out: &mut impl Write,
) -> Result<(), TokenCommandError> {
    let claims = claims_of(command, files, now_unix);
    claims::identity(&claims, &Expected::default(), now_unix).map_err(TokenCommandError::Refused)?;
    let key = files.signing_key().ok_or(TokenCommandError::NoKey)??;
    let token = encode(&Header::new(key.algorithm), &claims, &key.key)?;
    writeln!(out, "{token}").and_then(|()| out.flush()).map_err(TokenCommandError::Output)
}

fn claims_of(command: &TokenCommand, files: &TokenFiles, now_unix: u64) -> Map<String, Value> {
    let list = |texts: &[String]| (!texts.is_empty()).then(|| texts.into());
    let flag = |is_set: bool| is_set.then_some(Value::Bool(true));
    let all: [(&str, Option<Value>); 12] = [
        ("sub", Some(command.subject.as_str().into())),
        ("iat", Some(now_unix.into())),
        ("exp", Some(now_unix.saturating_add(command.expires.as_secs()).into())),
        ("iss", files.issuer.as_deref().map(Value::from)),
        ("aud", files.audience.as_deref().map(Value::from)),
        ("name", command.name.as_deref().map(Value::from)),
        ("admin", flag(command.is_admin)),
        ("rename", flag(command.may_rename)),
        ("rooms", list(&command.rooms)),
        ("topics", list(&command.topics)),
        ("publish", list(&command.publish)),
        ("rate", command.rate.map(Value::from)),
    ];
    all.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
}
