//! A client of a shard: its connection and its session.

use std::sync::Arc;

use uproar_protocol::connection::KeepAlive;
use uproar_ring::ConnectionId;

use super::link::Link;
use super::rate::TokenBucket;
use super::token_connections::TokenConnections;
use super::user::{RoomMembership, User};
use crate::metrics::Dialect;

/// One client.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) link: Link,
    pub(super) session: Session,
}

/// The kind of a client, with its state.
#[derive(Debug)]
pub(super) enum Session {
    /// A user, with a name and in a room.
    User(Box<User>),
    /// A connection that is subscribed to a topic, and publishes to it if it may. `bucket` is what it may still publish
    /// where that has a rate.
    Raw { topic: Arc<str>, membership: TopicMembership, may_publish: bool, bucket: Option<Box<TokenBucket>> },
    /// Gets its own messages back.
    Echo,
}

/// Whether a raw connection is on its topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TopicMembership {
    None,
    Joining,
    In { place: u32 },
}

impl Client {
    /// True while its input must wait: for an answer from a home, or until a long answer has left.
    pub(super) fn is_awaiting(&self) -> bool {
        self.link.is_over_limit() || self.session.is_awaiting()
    }

    /// True when its input, or the end of its input, can be read.
    pub(super) fn has_readable_input(&self) -> bool {
        let connection = &self.link.connection;
        let has_input = connection.has_pending() && connection.is_reading();
        (has_input || connection.is_at_end_of_stream() && connection.is_open()) && !self.is_awaiting()
    }

    /// When the timers should look at this client.
    pub(super) fn due_ms(&self, keep_alive: &KeepAlive) -> u64 {
        let due_ms = self.link.connection.next_due_ms(keep_alive);
        match self.link.is_open() {
            true => {
                due_ms.min(self.session.idle_due_ms(&self.link, keep_alive)).min(self.link.session_due_ms())
            }
            false => due_ms,
        }
    }
}

impl Session {
    /// Whether it is a user that has signed in.
    pub(super) fn is_signed_in(&self) -> bool {
        matches!(self, Self::User(user) if user.is_signed_in())
    }

    /// Whether it has shown an account: by signing in, or, where it is no user, with a token.
    pub(super) fn has_account(&self, id: ConnectionId, token_connections: &TokenConnections) -> bool {
        self.is_signed_in() || token_connections.account(id).is_some()
    }

    /// True while an answer from a home or from the verifier is awaited.
    pub(super) fn is_awaiting(&self) -> bool {
        match self {
            Self::User(user) => user.is_awaiting(),
            Self::Raw { membership, .. } => *membership == TopicMembership::Joining,
            Self::Echo => false,
        }
    }

    /// True while a home counts it as a member, or was asked to.
    pub(super) fn is_member(&self) -> bool {
        match self {
            Self::User(user) => user.membership != RoomMembership::None,
            Self::Raw { membership, .. } => *membership != TopicMembership::None,
            Self::Echo => false,
        }
    }

    /// Notes its new place among the members of its room or topic on this shard.
    pub(super) fn set_place(&mut self, new_place: u32) {
        match self {
            Self::User(user) => {
                if let RoomMembership::In { place, .. } | RoomMembership::Leaving { place, .. } =
                    &mut user.membership
                {
                    *place = new_place;
                }
            }
            Self::Raw { membership, .. } => *membership = TopicMembership::In { place: new_place },
            Self::Echo => {}
        }
    }

    /// When the connection is closed as idle, unless something is received. A hub client must also send a message: for it
    /// only messages end a silence.
    pub(super) fn idle_due_ms(&self, link: &Link, keep_alive: &KeepAlive) -> u64 {
        let unanswered_ms = link.connection.idle_due_ms(keep_alive);
        // The dialect is asked of the link: after each send of a chat client, a look at its user would be a cache miss.
        match self {
            // Unread input counts as activity; and nothing can be sent before the 101.
            Self::User(user)
                if link.dialect == Dialect::Hub && !link.connection.has_pending() && link.is_greeted() =>
            {
                unanswered_ms.min(user.last_message_ms + keep_alive.idle_timeout_ms)
            }
            _ => unanswered_ms,
        }
    }
}
