//! How long connecting took, step by step.

use crate::timings::Timings;

/// How long each client's beginning took, all counted from its connect(2).
#[derive(Clone, Debug, Default)]
pub struct Openings {
    /// Until TCP was connected, seen by the first bytes having left.
    pub tcp: Timings,
    /// Over TLS: until its handshake was complete.
    pub tls: Timings,
    /// Until the upgrade was accepted.
    pub upgrade: Timings,
    /// Chat: until welcome, users and history had arrived (in the room asked for).
    pub join: Timings,
}

impl Openings {
    /// Adds another thread's.
    pub fn merge(&mut self, other: &Self) {
        self.tcp.merge(&other.tcp);
        self.tls.merge(&other.tls);
        self.upgrade.merge(&other.upgrade);
        self.join.merge(&other.join);
    }
}
