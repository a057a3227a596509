//! Mail between the servers of a cluster, beside what the homes of their rooms tell each other.
//!
//! It goes through the shared log, so it keeps its place among the messages of its sender's room.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Delivery;
use crate::moderation::{ModerationAction, OrderRefusal};
use crate::rooms::{ClientRef, NodeLife, UserId, Visit};

/// Mail to another server.
#[derive(Debug)]
pub struct NodeMail {
    /// The server.
    pub to: Arc<NodeLife>,
    /// The name of the sender's room.
    pub room: Arc<str>,
    /// What it is.
    pub notice: NodeNotice,
    /// The connection that waits for it.
    pub origin: ClientRef,
    /// What that is told once it is in the log.
    pub sent: Option<Delivery>,
    /// What that is told where it cannot be sent.
    pub failed: Option<Delivery>,
    /// The user for whose end elsewhere the connection waits, and the visit that is to end.
    pub awaits: Option<(UserId, Visit)>,
}

impl NodeMail {
    /// Mail of which nobody waits to hear.
    #[must_use]
    pub fn unanswered(to: Arc<NodeLife>, room: Arc<str>, notice: NodeNotice, origin: ClientRef) -> Self {
        Self { to, room, notice, origin, sent: None, failed: None, awaits: None }
    }
}

/// What a server tells another one. The order of its variants and of their fields stays: other versions read it.
#[expect(missing_docs, reason = "the fields are what their names and types say")]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum NodeNotice {
    /// A private message to a user, and how many servers it has come to where the user was no more.
    Private {
        from: u64,
        from_name: Arc<str>,
        from_account: Option<Arc<str>>,
        to: u64,
        content: Arc<str>,
        hops: u8,
    },
    /// A private message of this user has not found its receiver.
    Unreached { to: u64 },
    /// A user has started or stopped writing to another one.
    Typing { from: u64, from_name: Arc<str>, to: u64, is_typing: bool },
    /// A user has come back on another server: its connection by this visit is to be closed.
    TakeOver { user: u64, visit: u64 },
    /// An admin's order about a user. It is answered with its number.
    Order {
        number: u64,
        user: u64,
        by: u64,
        by_name: Arc<str>,
        by_account: Option<Arc<str>>,
        action: ModerationAction,
    },
    /// What has become of the order with this number: why it has no effect, if so.
    OrderEnd { number: u64, refusal: Option<OrderRefusal> },
}

impl NodeNotice {
    /// The user whose shard it is for.
    #[must_use]
    pub fn user(&self) -> Option<UserId> {
        match self {
            Self::Private { to, .. } | Self::Typing { to, .. } | Self::Unreached { to } => {
                UserId::from_wire(*to)
            }
            Self::TakeOver { user, .. } | Self::Order { user, .. } => UserId::from_wire(*user),
            Self::OrderEnd { .. } => None,
        }
    }
}
