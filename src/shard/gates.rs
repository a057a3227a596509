//! Answers that wait for the storage, and everything that stands behind them in the order of a room.
//!
//! An answer that must not leave before the storage has spoken is a *gate*. What is pushed in order waits behind it;
//! everything else goes past it into the connection's queue, so a late disk silences nobody.

use std::collections::VecDeque;

use uproar_ring::SharedBytes;

use crate::rooms::RoomCursor;

/// How many times the queue's limit may wait behind gates. The peer cannot help that the disk is late, and a broadcast is
/// held once for everyone, so this is more than the limit; somewhere it has to end.
pub const GATED_LIMITS_MAX: usize = 8;

/// What waits behind the first gate, the gate included. Most connections have none.
///
/// Invariant: `charged_bytes` is what those in `queue` are charged.
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
    /// An answer that leaves once the storage has spoken about the message at its place.
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

    /// What is charged for all that waits.
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
    pub(super) fn push_gate(&mut self, place: RoomCursor, answer: SharedBytes) {
        self.append(Gated::Gate(place, answer));
    }

    /// Opens the gate of a place; `other` replaces its answer, where there is one. Yields the frames that may leave now,
    /// or `None` when there is no such gate any more.
    pub(super) fn open(&mut self, place: RoomCursor, other: Option<SharedBytes>) -> Option<Vec<SharedBytes>> {
        let gate =
            self.queue.iter_mut().find(|gated| matches!(gated, Gated::Gate(its, _) if *its == place))?;
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
