//! Messages between shards, through the [mesh](crate::mesh).
//!
//! There are two classes. A request asks the home of a room, or another user's shard, for something, and leads to
//! deliveries. A delivery goes to connections of its shard, and is always taken; so requests wait for deliveries, and
//! deliveries for nothing.

use std::sync::Arc;

use uproar_ring::ConnectionId;

use crate::accounts::{AccountsChange, SignInResult};
use crate::moderation::{ModerationAction, ModerationNotice, OrderRefusal};
use crate::rooms::{self, ClientRef, UserId};

/// From a shard to another one, or to itself.
#[derive(Debug)]
pub enum Request {
    /// To the home of a room or topic.
    Room(rooms::Request),
    /// To a user of any room. Answered with [`Delivery::PrivateSent`] or [`Delivery::UserNotFound`].
    Private(PrivateMessage),
    /// To this shard's connections of an account. Not answered: the sender has looked the account up.
    PrivateToAccount(AccountMessage),
    /// To a user of any room. Answered with [`Delivery::UserNotFound`] if it cannot be found.
    Typing(PrivateTyping),
    /// To the shard of a user that has come back on another connection. Answered with [`Delivery::SessionEnded`].
    TakeOver(TakeOver),
    /// About a user of any room. Answered with [`Delivery::OrderDone`].
    Moderate(ModerationOrder),
    /// To each shard: what an admin's order means for its connections. Answered with [`Delivery::NoticeDone`].
    TakeNotice {
        /// What it means.
        notice: Arc<ModerationNotice>,
        /// The admin's connection.
        origin: ClientRef,
    },
}

impl From<rooms::Request> for Request {
    fn from(request: rooms::Request) -> Self {
        Self::Room(request)
    }
}

/// To a shard, for its connections.
#[expect(missing_docs, reason = "the fields are what their names and types say")]
#[derive(Debug)]
pub enum Delivery {
    /// From the home of a room or topic.
    Room(rooms::Delivery),
    /// A private message has reached the receiver's connection.
    PrivateSent { to: ClientRef, receiver: UserId, receiver_name: Arc<str>, content: Arc<str> },
    /// The user of a private message is unknown or offline.
    UserNotFound { to: ClientRef },
    /// To the HTTP API: so many queues of a shard have taken its message to a topic.
    RelayReceived { to: ClientRef, receivers: usize },
    /// A moderation order was carried out, with what it means for other connections, or has no effect.
    OrderDone { to: ClientRef, outcome: Result<Vec<ModerationNotice>, OrderRefusal> },
    /// A shard has carried out what an order means for its connections.
    NoticeDone { to: ClientRef },
    /// The earlier connection of the session that this connection has brought has ended.
    SessionEnded { to: ClientRef },
    /// The verifier has checked a password.
    PasswordChecked { to: ClientRef, result: SignInResult },
    /// To each shard: accounts were added, changed or removed.
    AccountsChanged(Arc<AccountsChange>),
}

impl From<rooms::Delivery> for Delivery {
    fn from(delivery: rooms::Delivery) -> Self {
        Self::Room(delivery)
    }
}

/// A private message.
#[derive(Clone, Debug)]
pub struct PrivateMessage {
    /// The sender.
    pub from: UserId,
    /// The sender's name.
    pub from_name: Arc<str>,
    /// The account with which the sender has signed in.
    pub from_account: Option<Arc<str>>,
    /// The sender's connection.
    pub origin: ClientRef,
    /// The receiver.
    pub to: UserId,
    /// The text; an empty one is dropped once the receiver was found.
    pub content: Arc<str>,
}

/// A notice that a user has started or stopped writing to another one.
#[expect(missing_docs, reason = "as in a private message")]
#[derive(Clone, Debug)]
pub struct PrivateTyping {
    pub from: UserId,
    pub from_name: Arc<str>,
    pub origin: ClientRef,
    pub to: UserId,
    /// True when it has started.
    pub is_typing: bool,
}

/// A private message to all connections of an account.
#[expect(missing_docs, reason = "as in a private message")]
#[derive(Clone, Debug)]
pub struct AccountMessage {
    pub from: UserId,
    pub from_name: Arc<str>,
    pub from_account: Option<Arc<str>>,
    /// The receiver.
    pub account: Arc<str>,
    /// The text; not empty.
    pub content: Arc<str>,
}

/// An order to close a user's earlier connection.
#[derive(Clone, Copy, Debug)]
pub struct TakeOver {
    /// The user.
    pub user: UserId,
    /// The earlier connection.
    pub connection: ConnectionId,
    /// The connection on which the user has come back.
    pub origin: ClientRef,
}

/// An order of an admin about a user.
#[derive(Clone, Debug)]
pub struct ModerationOrder {
    /// The admin.
    pub by: UserId,
    /// Its name.
    pub by_name: Arc<str>,
    /// Its account.
    pub by_account: Option<Arc<str>>,
    /// The admin's connection.
    pub origin: ClientRef,
    /// The user.
    pub target: UserId,
    /// The action.
    pub action: ModerationAction,
}
