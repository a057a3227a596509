//! The counts of a run.

use serde::Serialize;

/// The counts of a run. All but the first two include the warm-up.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Counts {
    /// Measured broadcasts handed to the kernel.
    pub sent: u64,
    /// Their deliveries, each counted once.
    pub received: u64,
    /// Deliveries that arrived while measuring, the warm-up's stragglers included.
    pub received_in_window: u64,
    /// Deliveries that had arrived before.
    pub duplicates: u64,
    /// Deliveries overtaken by a later broadcast of the same speaker.
    pub disorder: u64,
    /// Broadcasts that reached a client that should not get them.
    pub misdelivered: u64,
    /// Deliveries to a client that was about to leave or had only just come, so that they were not
    /// expected. They are in no other figure.
    pub outside_presence: u64,
    /// Deliveries that are not what was sent, or not in the shape that the dialect prescribes.
    pub altered: u64,
    /// Chat: messages whose id does not grow, or differs between receivers.
    pub id_conflicts: u64,
    /// Chat: acknowledgements to speakers.
    pub acknowledged: u64,
    /// Chat: error messages from the server.
    pub server_errors: u64,
    /// Messages that are none of this run's broadcasts.
    pub other_messages: u64,
}

impl Counts {
    /// Adds another thread's counts.
    pub fn merge(&mut self, other: &Self) {
        let Self {
            sent,
            received,
            received_in_window,
            duplicates,
            disorder,
            misdelivered,
            outside_presence,
            altered,
            id_conflicts,
            acknowledged,
            server_errors,
            other_messages,
        } = other;
        self.sent += sent;
        self.received += received;
        self.received_in_window += received_in_window;
        self.duplicates += duplicates;
        self.disorder += disorder;
        self.misdelivered += misdelivered;
        self.outside_presence += outside_presence;
        self.altered += altered;
        self.id_conflicts += id_conflicts;
        self.acknowledged += acknowledged;
        self.server_errors += server_errors;
        self.other_messages += other_messages;
    }
}

/// How often clients left and rejoined, the warm-up included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ChurnCounts {
    /// Leaves.
    pub left: u64,
    /// Confirmed rejoins.
    pub rejoined: u64,
    /// Clients that were still on their way when it ended.
    pub under_way: u64,
    /// Leaves that came to nothing, because the client was still away from the last time, or lost.
    pub skipped: u64,
}

impl ChurnCounts {
    /// Adds another thread's.
    pub fn merge(&mut self, other: &Self) {
        self.left += other.left;
        self.rejoined += other.rejoined;
        self.under_way += other.under_way;
        self.skipped += other.skipped;
    }

    /// Clients that left and will not be back.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.left - self.rejoined - self.under_way
    }
}
