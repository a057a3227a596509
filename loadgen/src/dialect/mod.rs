//! The languages that loadgen speaks with a server: which there are, what a broadcast carries, and how chat clients join
//! and are written to. Bytes and values alone; nothing here connects or measures.

pub mod chat;
pub mod join;
pub mod payload;

use clap::ValueEnum;
use serde::Serialize;

/// The language spoken with the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Dialect {
    /// JSON messages in a room; the speaker is acknowledged, the others receive.
    Chat,
    /// JSON messages in private between two clients, in turn; the speaker is acknowledged, the other receives.
    Private,
    /// A message goes unchanged to every connection on the topic, the sender included.
    Raw,
    /// A message comes back unchanged to its sender alone.
    Echo,
}

impl Dialect {
    /// The name as it is written on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Chat => "chat",
            Self::Private => "private",
            Self::Raw => "raw",
            Self::Echo => "echo",
        }
    }

    /// True for those in which a client joins the chat and the speaker is acknowledged.
    #[must_use]
    pub fn joins_chat(self) -> bool {
        matches!(self, Self::Chat | Self::Private)
    }
}
