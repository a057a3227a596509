//! Orders in a cluster: those that change bans or mutes, and so hold on all servers, and those about users of another one.

use std::sync::Arc;

use uproar_ring::ConnectionId;

use super::NodeMail;
use crate::events::ModerationTarget;
use crate::metrics::OrderKind;
use crate::moderation::{Admin, ModerationAction, ModerationNotice, TermsChange};
use crate::rooms::{ClientRef, NodeLife, UserId};

/// Who is told the outcome of an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OrderOrigin {
    /// An admin's connection, or a request to the HTTP API.
    Client(ClientRef),
    /// An admin of another server, where the order has this number.
    Node(Arc<NodeLife>, u64),
    /// Nobody any more.
    Nobody,
}

impl From<ClientRef> for OrderOrigin {
    fn from(client: ClientRef) -> Self {
        Self::Client(client)
    }
}

/// An order of an admin of this server about a user of another one.
#[derive(Debug)]
pub struct NodeOrder {
    /// The server of the user.
    pub to: Arc<NodeLife>,
    /// The name of the admin's room.
    pub room: Arc<str>,
    /// The admin.
    pub by: Admin,
    /// The user.
    pub user: UserId,
    /// The action.
    pub action: ModerationAction,
    /// The admin's connection, which gets a [`Delivery::OrderDone`](super::Delivery::OrderDone).
    pub origin: ClientRef,
}

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
    /// Who is told the outcome.
    pub origin: OrderOrigin,
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
    /// An order about a user of another server.
    Order(Box<NodeOrder>),
}

impl From<NodeMail> for LogMail {
    fn from(mail: NodeMail) -> Self {
        Self::Node(Box::new(mail))
    }
}
