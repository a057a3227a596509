//! Where a connection is in its life, and how long each part of its end may take.

/// How a socket is to be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseMode {
    /// The kernel sends what it still has to send.
    Graceful,
    /// The kernel drops what it still has to send, and the peer sees a reset: for a peer that does not read.
    Abort,
}

/// How long a peer may take to answer our close frame, or our FIN, in milliseconds.
pub const ANSWER_MS: u64 = 2_000;

/// How long a closing connection may go without reading any of the remaining bytes, in milliseconds.
pub const STALL_MS: u64 = 5_000;

/// How long closing may take in all, in milliseconds, so that nobody stays by reading a byte every few seconds.
pub const CLOSE_MS: u64 = 30_000;

/// Where a connection is in its life. It only moves forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Messages are exchanged.
    Open,
    /// Our close frame is queued, and the peer's is awaited.
    Closing(Closing),
    /// Nothing more is read. The queue is sent, then a FIN, and then the peer's FIN is awaited.
    Lingering(Closing),
    /// Only the close of the socket is left. The mode is there until it was asked for.
    Ended(Option<CloseMode>),
}

/// The deadlines of a closing connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Closing {
    /// When it is cut off, unless it makes progress.
    pub(super) progress_due_ms: u64,
    /// When it is cut off in any case.
    last_due_ms: u64,
    /// True once our FIN was asked for.
    pub(super) is_fin_sent: bool,
}

impl Closing {
    pub(super) fn begin(now_ms: u64) -> Self {
        Self { progress_due_ms: now_ms + STALL_MS, last_due_ms: now_ms + CLOSE_MS, is_fin_sent: false }
    }

    /// For a peer that has not answered our close: time for the end of TLS and TCP.
    pub(super) fn last(now_ms: u64) -> Self {
        let due_ms = now_ms + ANSWER_MS;
        Self { progress_due_ms: due_ms, last_due_ms: due_ms, is_fin_sent: false }
    }

    pub(super) fn due_ms(&self) -> u64 {
        self.progress_due_ms.min(self.last_due_ms)
    }
}
