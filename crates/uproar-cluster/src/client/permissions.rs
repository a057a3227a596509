//! Whether Redis lets the user do what a node does.
//!
//! A script that lacks a permission fails where it needs it, and Redis undoes nothing. So all of them are looked at
//! before the first batch.

use futures_util::future::join_all;
use redis::Cmd;
use redis::aio::MultiplexedConnection;

use super::checks::{Check, Finding};
use super::line::{ConnectError, ask};
use crate::Keys;

/// One of each command of nodes and of their scripts. `KEY` stands for a key.
const COMMANDS: [&str; 32] = [
    "del KEY",
    "eval return 1 KEY",
    "evalsha sha 1 KEY",
    "hdel KEY field",
    "hget KEY field",
    "hgetall KEY",
    "hincrby KEY field 1",
    "hlen KEY",
    "hmget KEY field",
    "hscan KEY 0",
    "hset KEY field value",
    "hsetnx KEY field value",
    "hvals KEY",
    "info",
    "lindex KEY 0",
    "llen KEY",
    "lpop KEY",
    "lrange KEY 0 1",
    "lset KEY 0 value",
    "ltrim KEY 0 1",
    "ping",
    "rename KEY KEY",
    "rpush KEY value",
    "script load return",
    "set KEY value NX GET",
    "time",
    "unlink KEY",
    WAIT,
    "xadd KEY * field value",
    "xrange KEY - +",
    "xread STREAMS KEY 0",
    "xtrim KEY MINID 0",
];

/// Needed only where replicas are waited for.
const WAIT: &str = "wait 0 0";

/// What this check itself needs beside them.
const MULTI: &str = "multi";
const DISCARD: &str = "discard";

/// The commands that a node needs, as `ACL SETUSER` takes them.
pub fn commands() -> impl Iterator<Item = String> {
    [MULTI, DISCARD].into_iter().chain(COMMANDS).map(name)
}

fn name(command: &str) -> String {
    let mut words = command.split(' ');
    match (words.next(), words.next()) {
        (Some("script"), Some(of_script)) => format!("script|{of_script}"),
        (first, _) => first.unwrap_or_default().to_owned(),
    }
}

/// Gives Redis one of each command in a transaction that never takes place: it refuses those that are not allowed, and
/// carries out none. A connection whose user lacks a permission is of no use afterwards.
///
/// (`redis.acl_check_cmd` asks the same. It makes Redis 7.0.15 crash where the user has patterns of keys.)
///
/// # Errors
///
/// When the connection is lost, or Redis begins or ends no transaction.
pub(super) async fn check(
    connection: &mut MultiplexedConnection,
    keys: &Keys,
    replicas: u16,
) -> Result<Check, ConnectError> {
    let mut denied = Vec::new();
    let key = keys.log();
    if is_denied(connection.clone(), &key, MULTI).await? {
        // Without a transaction, the others would be carried out.
        denied.push(name(MULTI));
    } else {
        let needed = COMMANDS.into_iter().filter(|command| replicas > 0 || *command != WAIT);
        let asking = needed.map(|command| {
            let (connection, key) = (connection.clone(), &key);
            async move { (command, is_denied(connection, key, command).await) }
        });
        for (command, answer) in join_all(asking).await {
            match answer {
                Ok(true) => denied.push(name(command)),
                Ok(false) => {}
                // Refused for another reason, such as a full memory.
                Err(ConnectError::Redis(error)) if error.code().is_some() => {}
                Err(error) => return Err(error),
            }
        }
        if is_denied(connection.clone(), &key, DISCARD).await? {
            denied.push(name(DISCARD));
        }
    }
    let (found, finding) = match denied.is_empty() {
        true => ("all that are needed".to_owned(), Finding::Good),
        false => (
            format!("without {}", denied.join(", ")),
            Finding::Bad("give the user the keys ~{uproar:* and these commands, with ACL SETUSER"),
        ),
    };
    Ok(Check { name: "permissions", found, finding })
}

async fn is_denied(
    mut connection: MultiplexedConnection,
    key: &str,
    command: &str,
) -> Result<bool, ConnectError> {
    let words = command.split(' ').map(|word| if word == "KEY" { key } else { word });
    let mut cmd = Cmd::new();
    cmd.arg(words.collect::<Vec<_>>());
    match ask(&mut connection, &cmd).await {
        Err(ConnectError::Redis(error)) if error.code() == Some("NOPERM") => Ok(true),
        answered => answered.map(|_| false),
    }
}
