//! What can be measured of a partition's log.

use std::time::Duration;

/// Is told what happens, to count and to time it. Its methods are called by the task that drives the bridge, so they
/// must not wait. `()` looks away.
pub trait Observer {
    /// Both connections are open, for the first time or again.
    fn connected(&mut self) {}

    /// A connection was lost, or was given up.
    fn disconnected(&mut self) {}

    /// A batch is in the log: how many proposals it has, and how many bytes their payloads. `round_trip` is the time
    /// from sending it to the answer, with that for replicas.
    fn appended(&mut self, proposals: usize, payload_bytes: usize, round_trip: Duration) {
        let _ = (proposals, payload_bytes, round_trip);
    }

    /// `WAIT` has told how many replicas have all that was appended, and whether those are enough.
    fn waited(&mut self, replicas: u64, is_enough: bool) {
        let _ = (replicas, is_enough);
    }

    /// So many entries were read.
    fn read(&mut self, entries: usize) {
        let _ = entries;
    }

    /// How many entries the log is ahead of what was read, as far as this node knows: its end is known when a batch is
    /// answered, at least once a second.
    fn behind(&mut self, entries: u64) {
        let _ = entries;
    }

    /// So many own proposals are without an outcome.
    fn unanswered(&mut self, proposals: usize) {
        let _ = proposals;
    }

    /// A canary of this node was read. The time since is the age of what this node knows.
    fn canary_seen(&mut self) {}

    /// So many proposals were refused because they had waited too long.
    fn timed_out(&mut self, proposals: usize) {
        let _ = proposals;
    }

    /// So many own proposals came to nothing because Redis has something damaged of their rooms.
    fn damaged(&mut self, proposals: usize) {
        let _ = proposals;
    }

    /// Batches are not appended until the log is recovered.
    fn recovery_began(&mut self) {}

    /// They are again.
    fn recovery_ended(&mut self) {}
}

impl Observer for () {}
