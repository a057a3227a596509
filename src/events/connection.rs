//! The facts of one connection, live or ended.

use std::sync::Arc;

use uproar_ring::TcpFacts;

use crate::address::ClientAddress;
use crate::metrics::{Dialect, EndReason};
use crate::rooms::{ConnectionName, UserId};

/// Whether an event is about the begin or the end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionPhase {
    /// It was upgraded.
    Begin,
    /// It is no longer open.
    End,
}

impl ConnectionPhase {
    /// Its name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Begin => "begin",
            Self::End => "end",
        }
    }
}

/// What the server knows of a connection, at one moment.
#[derive(Clone, Debug)]
pub struct ConnectionFacts {
    /// Its name.
    pub name: ConnectionName,
    /// What it speaks.
    pub dialect: Dialect,
    /// When it was upgraded, in Unix seconds.
    pub since: u64,
    /// The client's address.
    pub address: ClientAddress,
    /// The account that it has shown.
    pub account: Option<Arc<str>>,
    /// The user; chat and hub.
    pub user: Option<UserId>,
    /// The user's display name.
    pub display_name: Option<Arc<str>>,
    /// The room that the user is in, or on the way to.
    pub room: Option<Arc<str>>,
    /// The topic; raw.
    pub topic: Option<Arc<str>>,
    /// What is charged for all that waits to be sent to it. For an ended one: at its end, as the next one.
    pub queued_bytes: usize,
    /// How many frames wait.
    pub queued_frames: usize,
    /// What the kernel knows; `None` where it cannot tell, and for a new connection.
    pub tcp: Option<TcpFacts>,
    /// Messages from it.
    pub messages_in: u64,
    /// Messages queued for it.
    pub messages_out: u64,
    /// Bytes received since the upgrade, with framing and TLS.
    pub received_bytes: u64,
    /// Bytes that the kernel has taken, with the answer to the upgrade, framing and TLS.
    pub sent_bytes: u64,
    /// When something was received last, in Unix seconds.
    pub last_received: u64,
    /// Its limits.
    pub limits: ConnectionLimits,
    /// How it ended; `None` while it is open.
    pub end: Option<ConnectionEnd>,
}

impl ConnectionFacts {
    /// The smoothed round-trip time in milliseconds.
    #[must_use]
    pub fn round_trip_ms(&self) -> Option<f64> {
        self.tcp.map(|tcp| f64::from(tcp.round_trip_us) / 1_000.0)
    }
}

/// The limits of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// Bytes that may wait for it.
    pub queue_bytes: usize,
    /// The longest message from it.
    pub message_bytes: usize,
    /// Messages a second from it; `None` for no limit.
    pub messages_per_second: Option<u32>,
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionEnd {
    /// When, in Unix seconds.
    pub at: u64,
    /// Why.
    pub reason: EndReason,
    /// The code of the close frame that came first, the server's or the client's.
    pub code: Option<u16>,
}
