//! Orders that change bans or mutes, on their way into force: at once on a server that is alone, and through the shared log in
//! a cluster, where they hold on all nodes.

use uproar_ring::ConnectionId;

use super::NodeMail;
use crate::events::ModerationTarget;
use crate::metrics::OrderKind;
use crate::moderation::{Admin, ModerationNotice, TermsChange};
use crate::rooms::ClientRef;

/// An order that changes bans or mutes.
#[derive(Debug)]
pub struct TermsOrder {
    /// What changes.
    pub change: TermsChange,
    /// What that means for the connections of all shards and nodes.
    pub notices: Vec<ModerationNotice>,
    /// What it means for a single connection of the shard that has decided on it.
    pub effect: Option<(ConnectionId, OrderEffect)>,
    /// What is reported of it once it is in force.
    pub report: OrderReport,
    /// The admin's connection, or its request to the HTTP API.
    pub origin: ClientRef,
}

/// What an order means for the connection that it is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OrderEffect {
    /// It was banned, and ends. Others may share the address.
    Ban {
        /// What it is told.
        reason: Option<String>,
    },
    /// The user is muted.
    Mute {
        /// For how long, as it is told.
        seconds: u32,
        /// The last second of the mute, in Unix seconds.
        until: u64,
    },
    /// The user is no longer muted.
    Unmute,
}

/// What the log, and those who watch the server, are told of an order.
#[derive(Clone, Debug)]
pub struct OrderReport {
    /// What it was about.
    pub target: ModerationTarget,
    /// The author.
    pub by: Admin,
    /// What it was.
    pub kind: OrderKind,
    /// For how long; 0 for good.
    pub seconds: Option<u32>,
    /// The reason given.
    pub reason: Option<String>,
}

/// What a shard gives to the shared log beside proposals of its homes.
#[derive(Debug)]
pub enum LogMail {
    /// Mail to another server.
    Node(Box<NodeMail>),
    /// An order that is to hold on all servers. Answered with [`Delivery::TermsDecided`](super::Delivery::TermsDecided).
    Terms(Box<TermsOrder>),
}

impl From<NodeMail> for LogMail {
    fn from(mail: NodeMail) -> Self {
        Self::Node(Box::new(mail))
    }
}
