//! What is kept of a chat user for the case that it comes back on another connection.

use std::sync::Arc;

use super::UserId;

/// A user's name, room and account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserSession {
    /// The display name.
    pub name: Arc<str>,
    /// The name of the room that the user is in, or on its way to.
    pub room: Arc<str>,
    /// The account that the session belongs to: the one with which the user has signed in last, on whichever connection.
    pub account: Option<Arc<str>>,
}

/// A session whose connection has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndedSession {
    /// The user's id.
    pub user: UserId,
    /// What is kept.
    pub session: Arc<UserSession>,
    /// When the connection ended, in Unix seconds.
    pub ended_at: u64,
    /// Until when it may be resumed, on the clock that shards share ([`Now::uptime_ms`](crate::clock::Now::uptime_ms)).
    pub expires_ms: u64,
}

/// A session as the storage keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredSession {
    /// What is kept.
    pub session: Arc<UserSession>,
    /// When the connection ended, in Unix seconds; `None` while the user is online.
    pub ended_at: Option<u64>,
}
