//! What may be set for every socket, whichever side opened it.

use std::time::Duration;

/// How one side of a connection behaves.
#[derive(Clone, Debug)]
pub struct Options {
    /// The longest message that is taken, in bytes. The peer of a longer one is told 1009. 16 MiB, because a
    /// message is held in memory until it is complete; less is better wherever many strangers connect.
    pub message_bytes_max: usize,
    /// How many bytes may wait to be sent before a writer has to wait, and be it for a slow peer. 256 KiB, some
    /// round trips of a good line. One message may exceed it.
    pub queue_bytes_max: usize,
    /// How long [`Socket::close`](super::Socket::close) waits for the peer's close. 5 s.
    pub close_timeout: Duration,
    /// Whether pings are sent to find out if the peer is still there. Not unless asked for.
    pub heartbeat: Option<Heartbeat>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            message_bytes_max: 16 * 1024 * 1024,
            queue_bytes_max: 256 * 1024,
            close_timeout: Duration::from_secs(5),
            heartbeat: None,
        }
    }
}

/// Pings for a peer that is silent, and the end for one that stays so.
///
/// Silence is noticed while somebody reads. Who only writes is told when nothing leaves for `timeout`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heartbeat {
    /// After how much silence a ping is sent. 30 s: proxies and routers forget connections after a minute or
    /// more.
    pub interval: Duration,
    /// After how much silence the connection is ended. 75 s: two pings have gone unanswered by then.
    pub timeout: Duration,
}

impl Default for Heartbeat {
    fn default() -> Self {
        Self { interval: Duration::from_secs(30), timeout: Duration::from_secs(75) }
    }
}
