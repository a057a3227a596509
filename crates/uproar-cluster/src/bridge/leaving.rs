//! How long a node may take to end in order.

use crate::PROGRESS_MS;

/// How long Redis may be without an answer, in milliseconds, before a node ends without one. Then the others declare it
/// gone.
const SILENCE_MS_MAX: u64 = 2_000;

/// How long it may take altogether, in milliseconds: as long as a recovery. A node that ends during one would cost the
/// epoch.
const LEAVING_MS_MAX: u64 = PROGRESS_MS;

/// A node on its way out.
#[derive(Clone, Copy, Debug)]
pub(super) struct Leaving {
    since_ms: u64,
    /// When Redis has last answered without refusing.
    heard_ms: u64,
}

impl Leaving {
    pub(super) fn new(now_ms: u64) -> Self {
        Self { since_ms: now_ms, heard_ms: now_ms }
    }

    /// Redis has answered without refusing.
    pub(super) fn note_heard(&mut self, now_ms: u64) {
        self.heard_ms = now_ms;
    }

    /// When the node ends at the latest, if Redis does not answer until then.
    pub(super) fn deadline_ms(self) -> u64 {
        (self.heard_ms + SILENCE_MS_MAX).min(self.since_ms + LEAVING_MS_MAX)
    }
}
