//! The phases of a connection.

use super::config::ClosingTimes;

/// How a socket is to be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseMode {
    /// The kernel sends what it still has to send.
    Graceful,
    /// The kernel drops what it still has to send, and the peer sees a reset: for a peer that does not read.
    Abort,
}

/// The phase of a connection. It only moves forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Messages are exchanged.
    Open(Silence),
    /// Our close frame is queued, and the peer's is awaited.
    Closing(Deadlines),
    /// Nothing more is read. The queue is sent, then a FIN, and then the peer's FIN is awaited.
    Lingering(Deadlines),
    /// Only the close of the socket is left. The mode is there until it was asked for.
    Ended(Option<CloseMode>),
}

/// How long an open connection has been silent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Silence {
    pub(super) last_received_ms: u64,
    /// When it was pinged, if nothing has been received since; [`NEVER_MS`] otherwise.
    pub(super) pinged_ms: u64,
}

/// A time that does not come.
pub(super) const NEVER_MS: u64 = u64::MAX;

impl Silence {
    pub(super) fn begin(now_ms: u64) -> Self {
        Self { last_received_ms: now_ms, pinged_ms: NEVER_MS }
    }

    pub(super) fn is_pinged(self) -> bool {
        self.pinged_ms != NEVER_MS
    }
}

/// The deadlines of a closing connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Deadlines {
    /// When it is cut off, unless it makes progress.
    pub(super) progress_due_ms: u64,
    /// When it is cut off in any case.
    pub(super) last_due_ms: u64,
}

impl Deadlines {
    pub(super) fn begin(times: &ClosingTimes, now_ms: u64) -> Self {
        Self { progress_due_ms: now_ms + times.stall_ms, last_due_ms: now_ms + times.total_ms }
    }

    /// For a peer that has not answered our close: time for the end of TLS and TCP.
    pub(super) fn last(times: &ClosingTimes, now_ms: u64) -> Self {
        let due_ms = now_ms + times.fin_ms;
        Self { progress_due_ms: due_ms, last_due_ms: due_ms }
    }

    pub(super) fn due_ms(self) -> u64 {
        self.progress_due_ms.min(self.last_due_ms)
    }
}
