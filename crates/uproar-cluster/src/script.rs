//! The scripts, commands that run them, and what Redis answers.

use bytes::Bytes;

/// A Lua script. Its name has a version, so nodes of two versions can use one Redis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Script {
    /// For messages about it.
    pub name: &'static str,
    /// For `SCRIPT LOAD`, whose answer `EVALSHA` takes. After a restart of Redis the answer to that is `NOSCRIPT`.
    pub source: &'static str,
}

impl Script {
    /// Appends a batch to the log.
    pub const APPEND: Self = Self { name: "append-1", source: include_str!("scripts/append-1.lua") };

    /// Takes part in a recovery.
    pub const RECOVERY: Self = Self { name: "recovery-1", source: include_str!("scripts/recovery-1.lua") };

    /// Runs commands for a recovery.
    pub const GUARDED: Self = Self { name: "guarded-1", source: include_str!("scripts/guarded-1.lua") };

    /// Writes a damaged room again.
    pub const REPAIR: Self = Self { name: "repair-1", source: include_str!("scripts/repair-1.lua") };

    /// Reads messages of rooms.
    pub const HISTORY: Self = Self { name: "history-1", source: include_str!("scripts/history-1.lua") };

    /// All of them.
    pub const ALL: [Self; 5] = [Self::APPEND, Self::RECOVERY, Self::GUARDED, Self::REPAIR, Self::HISTORY];
}

/// Something that Redis is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Run a script. Until it was loaded, and after a restart of Redis, the answer to `EVALSHA` is `NOSCRIPT`.
    Script {
        /// The script.
        script: Script,
        /// Every key that it uses.
        keys: Vec<String>,
        /// Its arguments.
        arguments: Vec<Vec<u8>>,
    },
    /// Run the first, and send `WAIT` behind it at once on the same connection. They are answered with a list of two.
    ThenWait {
        /// A script.
        first: Box<Command>,
        /// For how many replicas to wait.
        replicas: u16,
        /// For how long, in milliseconds.
        wait_ms: u64,
    },
    /// Commands as they are written in a command line, sent together. They are answered with a list.
    Plain(Vec<Vec<Vec<u8>>>),
}

/// A command as it is written in a command line.
pub(crate) fn words<const N: usize>(words: [&str; N]) -> Vec<Vec<u8>> {
    words.map(Vec::from).to_vec()
}

/// What Redis has answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Nothing.
    Nil,
    /// A number.
    Number(i64),
    /// A string.
    Text(Bytes),
    /// A list.
    List(Vec<Reply>),
    /// An error, with its word first.
    Error(String),
}

/// An answer of Redis that the script does not give, for example because another program answers in its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Redis has answered with something that the script does not answer")]
pub struct BadReply;

impl Reply {
    pub(crate) fn number(&self) -> Result<u64, BadReply> {
        match self {
            Self::Number(number) => u64::try_from(*number).map_err(|_| BadReply),
            _ => Err(BadReply),
        }
    }

    pub(crate) fn text(&self) -> Result<&str, BadReply> {
        match self {
            Self::Text(text) => std::str::from_utf8(text).map_err(|_| BadReply),
            _ => Err(BadReply),
        }
    }

    pub(crate) fn list(&self) -> Result<&[Self], BadReply> {
        match self {
            Self::List(list) => Ok(list),
            _ => Err(BadReply),
        }
    }

    /// A list of names and values.
    pub(crate) fn pairs(&self) -> Result<Vec<(&str, &str)>, BadReply> {
        let (pairs, rest) = self.list()?.as_chunks();
        if !rest.is_empty() {
            return Err(BadReply);
        }
        pairs.iter().map(|[name, value]| Ok((name.text()?, value.text()?))).collect()
    }
}
