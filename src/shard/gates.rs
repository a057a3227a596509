//! Answers that wait for the storage, and everything that stands behind them in the order of a room.
//!
//! A *gate* is an answer that must not be sent before the storage's receipt. Frames in the room's order wait behind it;
//! all other frames pass it, into the connection's queue, so a late disk does not delay them.

use std::collections::VecDeque;

use uproar_ring::SharedBytes;

use crate::rooms::RoomCursor;

/// How many times the queue's limit may wait behind gates. The peer does not cause a late disk, and a broadcast is
/// held once for everyone, so this is more than the limit; but it must be bounded.
pub const GATED_LIMITS_MAX: usize = 8;

/// The frames from the first gate on. Most connections have none.
///
/// Invariant: `charged_bytes` is the sum of the charges of the frames in `queue`.
#[derive(Debug, Default)]
pub(super) struct Gates {
    /// Begins with a gate, or is empty.
    queue: VecDeque<Gated>,
    charged_bytes: usize,
}

#[derive(Debug)]
enum Gated {
    /// Leaves when everything before it has left.
    SharedBytes(SharedBytes),
    /// An answer that is sent once the storage's receipt for this message has arrived.
    Gate(RoomCursor, SharedBytes),
}

impl Gated {
    fn charged_bytes(&self) -> usize {
        let (Self::SharedBytes(frame) | Self::Gate(_, frame)) = self;
        frame.charged_bytes()
    }
}

impl Gates {
    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// How many frames wait.
    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }

    /// The bytes charged for all waiting frames.
    pub(super) fn charged_bytes(&self) -> usize {
        self.charged_bytes
    }

    /// Appends a frame that stands behind the gates.
    pub(super) fn push(&mut self, frame: SharedBytes) {
        if !frame.is_empty() {
            self.append(Gated::SharedBytes(frame));
        }
    }

    /// Appends a gate.
    pub(super) fn push_gate(&mut self, cursor: RoomCursor, answer: SharedBytes) {
        self.append(Gated::Gate(cursor, answer));
    }

    /// Opens the gate of a message; `other`, if any, replaces its answer. Returns the frames that may be sent now,
    /// or `None` when there is no such gate any more.
    pub(super) fn open(
        &mut self,
        cursor: RoomCursor,
        other: Option<SharedBytes>,
    ) -> Option<Vec<SharedBytes>> {
        let gate =
            self.queue.iter_mut().find(|gated| matches!(gated, Gated::Gate(its, _) if *its == cursor))?;
        let before = gate.charged_bytes();
        let (Gated::SharedBytes(answer) | Gated::Gate(_, answer)) = gate;
        *gate = Gated::SharedBytes(other.unwrap_or_else(|| answer.clone()));
        self.charged_bytes = self.charged_bytes - before + gate.charged_bytes();
        let mut released = Vec::new();
        while let Some(Gated::SharedBytes(_)) = self.queue.front()
            && let Some(Gated::SharedBytes(frame)) = self.queue.pop_front()
        {
            self.charged_bytes -= frame.charged_bytes();
            released.push(frame);
        }
        Some(released)
    }

    fn append(&mut self, gated: Gated) {
        self.charged_bytes += gated.charged_bytes();
        self.queue.push_back(gated);
    }
}
