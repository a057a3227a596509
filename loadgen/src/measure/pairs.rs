//! Deliveries by the server of their speaker and the server of their receiver.
//!
//! A run over several servers has a latency for each pair of them, and what goes wrong is the fault of one of two. A run
//! with one server keeps nothing here.

use serde::Serialize;

use crate::plan::Plan;
use crate::timings::Timings;

/// What one thread records of a pair of servers.
#[derive(Clone, Debug, Default)]
pub struct PairRecord {
    /// Intended → received.
    pub latency: Timings,
    /// What was wrong, the warm-up included.
    pub violations: Violations,
}

/// How often there was not one order over all servers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Violations {
    /// Deliveries that had arrived before.
    pub duplicates: u64,
    /// Deliveries overtaken by a later broadcast of the same speaker.
    pub disorder: u64,
    /// Broadcasts that reached a client that should not get them.
    pub misdelivered: u64,
    /// Chat: messages whose id was not above that of the message before.
    pub ids_not_growing: u64,
    /// Chat: messages that had one id for a receiver on the first server, and another for one on the second.
    pub ids_differing: u64,
}

impl Violations {
    /// Adds others.
    pub fn merge(&mut self, other: &Self) {
        let Self { duplicates, disorder, misdelivered, ids_not_growing, ids_differing } = other;
        self.duplicates += duplicates;
        self.disorder += disorder;
        self.misdelivered += misdelivered;
        self.ids_not_growing += ids_not_growing;
        self.ids_differing += ids_differing;
    }
}

/// A record for each pair of servers; none with one server.
#[derive(Clone, Debug, Default)]
pub struct Pairs {
    /// The records, by the first server and then by the second.
    records: Vec<PairRecord>,
    servers: usize,
}

impl Pairs {
    /// Empty records for so many servers.
    #[must_use]
    pub fn new(servers: usize) -> Self {
        let count = if servers > 1 { servers * servers } else { 0 };
        Self { records: vec![PairRecord::default(); count], servers }
    }

    /// The record of two servers; `None` with one server.
    pub fn at(&mut self, from: usize, to: usize) -> Option<&mut PairRecord> {
        self.records.get_mut(from * self.servers + to)
    }

    /// The record of a speaker's server and a receiver's; `None` with one server.
    pub fn between(&mut self, plan: &Plan, speaker: u32, receiver: u32) -> Option<&mut PairRecord> {
        if self.records.is_empty() {
            return None;
        }
        self.at(plan.server_index(speaker), plan.server_index(receiver))
    }

    /// Adds what another thread has recorded.
    pub fn merge(&mut self, other: &Self) {
        for (own, other) in self.records.iter_mut().zip(&other.records) {
            own.latency.merge(&other.latency);
            own.violations.merge(&other.violations);
        }
    }

    /// Each record, with the places of its servers.
    pub fn iter(&self) -> impl Iterator<Item = ((usize, usize), &PairRecord)> {
        let place = |index: usize| (index / self.servers, index % self.servers);
        self.records.iter().enumerate().map(move |(index, record)| (place(index), record))
    }
}
