//! Messages between shards, through the [mesh](crate::mesh).
//!
//! There are two classes. A request asks the home of a room, or another user's shard, for something, and leads to
//! deliveries. A delivery goes to connections of its shard, and is always taken; so requests wait for deliveries, and
//! deliveries for nothing.

mod nodes;
mod orders;

use std::net::IpAddr;
use std::sync::Arc;

use uproar_ring::ConnectionId;

use crate::accounts::{AccountsChange, SignInResult};
use crate::events::ConnectionFacts;
use crate::metrics::Dialect;
use crate::moderation::{Admin, BanId, ModerationAction, ModerationNotice, OrderRefusal};
use crate::rooms::{self, ClientRef, UserId};
pub use nodes::{NodeMail, NodeNotice};
pub use orders::{LogMail, NodeOrder, OrderEffect, OrderOrigin, OrderReport, TermsOrder};

/// From a shard to another one, or to itself.
#[derive(Debug)]
pub enum Request {
    /// To the home of a room or topic.
    Room(rooms::Request),
    /// To a user of any room. Answered with [`Delivery::PrivateSent`] or [`Delivery::UserNotFound`].
    Private(PrivateMessage),
    /// To this shard's connections of an account. The HTTP API is answered with [`Delivery::NoticeDone`]; a user is not,
    /// since its shard has looked the account up.
    PrivateToAccount(AccountMessage),
    /// To a user of any room. Answered with [`Delivery::UserNotFound`] if it cannot be found.
    Typing(PrivateTyping),
    /// To the shard of a user that has come back on another connection. Answered with [`Delivery::SessionEnded`].
    TakeOver(TakeOver),
    /// An order of an admin. Answered with [`Delivery::OrderDone`].
    Moderate(ModerationOrder),
    /// To each shard: what an admin's order means for its connections. Answered with [`Delivery::NoticeDone`].
    TakeNotice {
        /// What it means.
        notice: Arc<ModerationNotice>,
        /// The admin's connection.
        origin: ClientRef,
    },
    /// What is known of a connection of this shard, for the HTTP API. Answered with [`Delivery::Connections`].
    Explain {
        /// The connection.
        connection: ConnectionId,
        /// The API's request.
        origin: ClientRef,
    },
    /// What is known of some connections of this shard, for the HTTP API. Answered with [`Delivery::Connections`].
    ListConnections {
        /// Which ones.
        page: ConnectionPage,
        /// The API's request.
        origin: ClientRef,
    },
    /// From the HTTP API: move this shard's chat connections of an account to a room. Answered with
    /// [`Delivery::NoticeDone`].
    MoveAccount(AccountMove),
    /// From the HTTP API: show this shard's first connections of an account. Answered with [`Delivery::AccountShown`].
    ShowAccount {
        /// The account.
        account: Arc<str>,
        /// The API's request.
        origin: ClientRef,
    },
}

/// A part of a shard's connections.
#[derive(Clone, Debug)]
pub struct ConnectionPage {
    /// The first slot that is looked at. At most [`SLOTS_A_PAGE`] are.
    pub from_slot: u32,
    /// The most connections that are told of, if not fewer for [`FACTS_A_PAGE`].
    pub limit: usize,
    /// Only those for which more bytes wait.
    pub queued_over: Option<usize>,
    /// Only those of this account.
    pub account: Option<Arc<str>>,
    /// Only those from this address.
    pub address: Option<IpAddr>,
}

/// The most slots that a shard looks at for a [`ConnectionPage`]: some 50 µs, so that no client notices.
pub const SLOTS_A_PAGE: u32 = 1_000;

/// The most connections that a shard tells of in a [`ConnectionPage`]: each costs a system call, together some 100 µs.
pub const FACTS_A_PAGE: usize = 64;

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
    /// From another server of the cluster, to one of its users here.
    FromNode(Box<NodeNotice>),
    /// A private message has reached the receiver's connection.
    PrivateSent { to: ClientRef, receiver: UserId, receiver_name: Arc<str>, content: Arc<str> },
    /// The user of a private message is unknown or offline.
    UserNotFound { to: ClientRef },
    /// To the HTTP API: so many queues of a shard have taken its message to a topic.
    RelayReceived { to: ClientRef, receivers: usize },
    /// To the HTTP API: what is known of connections, and the slot from which the list goes on, if it does.
    Connections { to: ClientRef, facts: Vec<ConnectionFacts>, next_slot: Option<u32> },
    /// The shared log has decided about an order that changes bans or mutes, and the register has followed it; or it was not
    /// stored.
    TermsDecided { order: Box<TermsOrder>, is_in_force: bool },
    /// The shared log has not decided about an order in time: its author is told.
    TermsUndecided { origin: OrderOrigin },
    /// An order of an admin of another server about a user of this one.
    OrderFromNode(Box<ModerationOrder>),
    /// What an order of another server means for the connections of this shard, or one whose author waits no longer.
    Noticed(Arc<ModerationNotice>),
    /// A moderation order was carried out, with what it means for other connections, or has no effect.
    OrderDone { to: ClientRef, outcome: Result<OrderOutcome, OrderRefusal> },
    /// A shard has carried out what an order means for its connections, which are so many.
    NoticeDone { to: ClientRef, connections: usize },
    /// A shard's first connections of an account, and how many it has.
    AccountShown { to: ClientRef, connections: Vec<AccountConnection>, total: usize },
    /// The earlier connection of the session that this connection has brought has ended.
    SessionEnded { to: ClientRef },
    /// The earlier connection of the session that this connection has brought is on another server, which does not answer.
    SessionNotReached { to: ClientRef },
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
    /// The request of the HTTP API that it is from, if it is.
    pub origin: Option<ClientRef>,
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

/// An order of an admin.
#[derive(Clone, Debug)]
pub struct ModerationOrder {
    /// The admin.
    pub by: Admin,
    /// Who is told the outcome.
    pub origin: OrderOrigin,
    /// What it is about.
    pub target: OrderTarget,
    /// The action.
    pub action: ModerationAction,
}

/// What an order is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OrderTarget {
    /// A user of any room. The order goes to its shard.
    User(UserId),
    /// A connection of any dialect. The order goes to its shard.
    Connection(ConnectionId),
    /// An account. The order goes to any shard.
    Account(Arc<str>),
    /// A ban, which is to end. The order goes to any shard.
    Ban(BanId),
}

/// What an order has done, and what it means for other connections.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OrderOutcome {
    /// The connections that it has changed, those of the notices left out.
    pub connections: usize,
    /// To all shards.
    pub notices: Vec<ModerationNotice>,
}

/// An order to move the chat connections of an account.
#[derive(Clone, Debug)]
pub struct AccountMove {
    /// The account.
    pub account: Arc<str>,
    /// Only those in the room of this name.
    pub from: Option<Arc<str>>,
    /// The name of the room that they enter, which is configured or can be opened.
    pub to: Arc<str>,
    /// The API's request.
    pub origin: ClientRef,
}

/// The most connections of an account that a shard tells of: some 100 µs. Of more, these need not be the oldest.
pub const ACCOUNT_CONNECTIONS_SHOWN: usize = 1_000;

/// A connection of an account.
#[derive(Clone, Debug)]
pub struct AccountConnection {
    /// The connection.
    pub client: ClientRef,
    /// The user, once it is greeted.
    pub user: Option<UserId>,
    /// Its name.
    pub name: Option<Arc<str>>,
    /// The dialect.
    pub dialect: Dialect,
    /// The room that it is in or on its way to.
    pub room: Option<Arc<str>>,
    /// The topic of a raw connection.
    pub topic: Option<Arc<str>>,
    /// When it connected, in Unix seconds.
    pub since: u64,
}
