//! The configuration that all connections of one endpoint share: their side, limits and times.

use crate::frames::Role;

/// The configuration that all connections of one endpoint share.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// A client's source of masks, which yields one that the server cannot predict, another one each time (RFC 6455,
    /// 5.3). A server has none.
    pub new_mask: Option<fn() -> [u8; 4]>,
    /// The longest message that is received, in bytes. A longer one fails the connection with 1009.
    pub message_bytes_max: usize,
    /// What may wait to be sent.
    pub queue: QueueLimits,
    /// How long each part of a connection's end may take.
    pub closing: ClosingTimes,
}

impl Config {
    /// The side that these connections are on.
    #[inline]
    #[must_use]
    pub fn role(&self) -> Role {
        match self.new_mask {
            Some(_) => Role::Client,
            None => Role::Server,
        }
    }

    /// The mask of the next frame.
    pub(super) fn mask(&self) -> Option<[u8; 4]> {
        self.new_mask.map(|new_mask| new_mask())
    }
}

/// The limits of a queue.
#[derive(Clone, Copy, Debug)]
pub struct QueueLimits {
    /// The most that waiting entries may be charged together, in bytes.
    pub charged_bytes_max: usize,
    /// What an entry is charged beside its bytes: the memory that its owner and the queue keep for it.
    pub overhead_bytes: usize,
    /// When pings and pongs leave.
    pub control: ControlOrder,
}

/// When pings and pongs leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ControlOrder {
    /// Where they stand in the queue. A send takes everything that waits. It suits messages that are encoded once for many
    /// connections, and are short.
    Queued,
    /// Ahead of messages that wait, even between two fragments of one (RFC 6455, 5.4). A send takes one entry, so that they
    /// wait for a fragment at most; frames of this connection alone are collected in entries of that size.
    Ahead {
        /// How many bytes of answers to pings may wait. The next answer takes the place of all of them: an endpoint "MAY
        /// elect to send a Pong frame for only the most recently processed Ping frame" (RFC 6455, 5.5.3).
        pong_bytes_max: usize,
    },
}

/// How long each part of a connection's end may take, in milliseconds.
#[derive(Clone, Copy, Debug)]
pub struct ClosingTimes {
    /// How long the peer may take to answer our close frame once it has left.
    pub answer_ms: u64,
    /// How long the peer's FIN is awaited.
    pub fin_ms: u64,
    /// How long the peer may go without reading any of the remaining bytes.
    pub stall_ms: u64,
    /// How long the end may take in all, so that nobody stays by reading a byte every few seconds.
    pub total_ms: u64,
}

impl Default for ClosingTimes {
    fn default() -> Self {
        Self { answer_ms: 2_000, fin_ms: 2_000, stall_ms: 5_000, total_ms: 30_000 }
    }
}

/// How long a connection may be silent.
#[derive(Clone, Copy, Debug)]
pub struct KeepAlive {
    /// Silence after which a ping is due.
    pub ping_interval_ms: u64,
    /// Silence after which the connection is idle, unless it was not pinged and given the time to answer. Longer than
    /// `ping_interval_ms`.
    pub idle_timeout_ms: u64,
}

impl KeepAlive {
    /// No limit: the caller has its own rule for silent peers.
    pub const OFF: Self = Self { ping_interval_ms: u64::MAX, idle_timeout_ms: u64::MAX };
}
