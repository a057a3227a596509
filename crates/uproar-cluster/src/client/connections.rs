//! Connections to Redis.

use redis::aio::MultiplexedConnection;
use redis::{Cmd, Value};

use super::address::RedisAddress;
use super::checks::{self, Finding};
use super::line::{CONNECT_TIMEOUT, ConnectError, info, open_to};
use super::permissions;
use crate::{Command, Keys, Reply, Script};

/// How many entries are read together.
const ENTRIES_AT_ONCE: &str = "16";

/// How long a read waits for the first, in milliseconds.
const READ_WAIT_MS: &str = "1000";

/// The connections of one partition.
#[derive(Debug)]
pub(super) struct Connections {
    /// For commands, one after the other.
    pub(super) commands: Commands,
    /// For reading, which waits.
    pub(super) reads: MultiplexedConnection,
}

/// The connection for commands, and the scripts that Redis knows.
#[derive(Clone, Debug)]
pub(super) struct Commands {
    connection: MultiplexedConnection,
    /// In the order of [`Script::ALL`].
    digests: Vec<String>,
}

impl Connections {
    /// Connects, looks whether the Redis will do, and gives it the scripts.
    pub(super) async fn open(
        address: &RedisAddress,
        keys: &Keys,
        replicas: u16,
    ) -> Result<Self, ConnectError> {
        // Others are asked for it once, so both lead to the same server.
        let client = tokio::time::timeout(CONNECT_TIMEOUT, address.client(keys)).await;
        let client = client.map_err(|_| ConnectError::Timeout)??;
        let mut connection = open_to(&client).await?;
        let mut checks = checks::essentials(&info(&mut connection).await?, address.is_of_cluster());
        checks.push(permissions::check(&mut connection, keys, replicas).await?);
        for check in checks {
            if let Finding::Bad(advice) = check.finding {
                return Err(ConnectError::Unfit { name: check.name, found: check.found, advice });
            }
        }
        let mut digests = Vec::new();
        for script in Script::ALL {
            let load = redis::cmd("SCRIPT").arg("LOAD").arg(script.source).to_owned();
            let loaded = tokio::time::timeout(CONNECT_TIMEOUT, load.query_async(&mut connection));
            let digest = loaded.await.map_err(|_| ConnectError::Timeout)?;
            digests.push(digest.map_err(|error| ConnectError::Script { script: script.name, error })?);
        }
        let reads = open_to(&client).await?;
        Ok(Self { commands: Commands { connection, digests }, reads })
    }
}

impl Commands {
    /// Sends a command. `None` when the connection is lost.
    pub(super) async fn run(self, command: Command) -> Option<Reply> {
        match command {
            Command::Script { script, keys, arguments } => {
                self.run_script(script, &keys, &arguments, None).await?.pop()
            }
            Command::ThenWait { first, replicas, wait_ms } => {
                let Command::Script { script, keys, arguments } = *first else { return None };
                let mut wait = redis::cmd("WAIT");
                wait.arg(replicas).arg(wait_ms);
                self.run_script(script, &keys, &arguments, Some(wait)).await.map(Reply::List)
            }
            Command::Plain(commands) => {
                let command = |words: &Vec<Vec<u8>>| Cmd::new().arg(words).to_owned();
                self.send_all(commands.iter().map(command)).await.map(Reply::List)
            }
        }
    }

    /// Runs a script by its digest, and whole where Redis does not know it. `behind` is sent at once behind it.
    async fn run_script(
        &self,
        script: Script,
        keys: &[String],
        arguments: &[Vec<u8>],
        behind: Option<Cmd>,
    ) -> Option<Vec<Reply>> {
        let index = Script::ALL.iter().position(|it| *it == script)?;
        let eval = |command, which| {
            redis::cmd(command).arg(which).arg(keys.len()).arg(keys).arg(arguments).to_owned()
        };
        let known = eval("EVALSHA", self.digests[index].as_str());
        let replies = self.send_all([known].into_iter().chain(behind.clone())).await?;
        if matches!(&replies[..], [Reply::Error(text), ..] if text.starts_with("NOSCRIPT")) {
            return self.send_all([eval("EVAL", script.source)].into_iter().chain(behind)).await;
        }
        Some(replies)
    }

    /// Sends commands together. They are answered in their order.
    async fn send_all(&self, commands: impl Iterator<Item = Cmd>) -> Option<Vec<Reply>> {
        let sending = commands.map(|command| {
            let mut connection = self.connection.clone();
            async move { send(&mut connection, &command).await }
        });
        futures_util::future::join_all(sending).await.into_iter().collect()
    }
}

/// Reads entries behind one. `None` when the connection is lost.
pub(super) async fn read(
    mut connection: MultiplexedConnection,
    keys: Keys,
    behind: u64,
    waits: bool,
) -> Option<Reply> {
    let mut command = redis::cmd("XREAD");
    command.arg(&["COUNT", ENTRIES_AT_ONCE]);
    if waits {
        command.arg(&["BLOCK", READ_WAIT_MS]);
    }
    command.arg("STREAMS").arg(keys.log()).arg(format!("{behind}-0"));
    // [[key, [[id, fields], …]]]
    match send(&mut connection, &command).await? {
        Reply::List(mut streams) => match streams.pop() {
            Some(Reply::List(mut stream)) => stream.pop(),
            _ => None,
        },
        reply => Some(reply),
    }
}

async fn send(connection: &mut MultiplexedConnection, command: &Cmd) -> Option<Reply> {
    match connection.send_packed_command(command).await {
        Ok(value) => reply(value),
        // Redis has answered; all other errors are those of a connection.
        Err(error) if error.kind() != redis::ErrorKind::Io && error.code().is_some() => {
            let (word, rest) = (error.code().unwrap_or_default(), error.detail().unwrap_or_default());
            Some(Reply::Error(format!("{word} {rest}")))
        }
        Err(error) => {
            tracing::debug!(%error, "a connection to Redis is lost");
            None
        }
    }
}

fn reply(value: Value) -> Option<Reply> {
    Some(match value {
        Value::Nil => Reply::Nil,
        Value::Int(number) => Reply::Number(number),
        Value::BulkString(bytes) => Reply::Text(bytes.into()),
        Value::SimpleString(text) => Reply::Text(text.into_bytes().into()),
        Value::Okay => Reply::Text("OK".into()),
        Value::Array(values) => Reply::List(values.into_iter().map(reply).collect::<Option<_>>()?),
        Value::ServerError(error) => {
            Reply::Error(format!("{} {}", error.code(), error.details().unwrap_or_default()))
        }
        // Nothing that was asked for is answered with anything else.
        _ => return None,
    })
}
