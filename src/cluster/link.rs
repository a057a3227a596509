//! A shard's end of the thread of the cluster.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::mpsc;
use uproar_cluster::Partitions;

use crate::mail::NodeMail;
use crate::rooms::{Receipt, SharedProposal};

/// The batches of receipts that wait for a shard: each comes from one entry of the log.
pub(super) const RECEIPTS_WAITING_MAX: usize = 64;

/// What a shard gives to the log.
#[derive(Debug)]
pub(super) enum FromShard {
    Proposal(SharedProposal),
    Mail(Box<NodeMail>),
}

/// A shard's connection to the shared log.
#[derive(Debug)]
pub struct ClusterLink {
    /// By partition. Bounded by what homes may have without an answer:
    /// [`SHARED_PROPOSALS_MAX`](crate::rooms::SHARED_PROPOSALS_MAX), and the turn that reaches it.
    pub(super) proposals: Vec<mpsc::UnboundedSender<FromShard>>,
    pub(super) partitions: Partitions,
    pub(super) receipts: mpsc::Receiver<Vec<Receipt>>,
    pub(super) trust: Trust,
}

impl ClusterLink {
    /// Gives a proposal to the log of its room.
    pub fn propose(&self, proposal: SharedProposal) {
        let partition = self.partitions.of(&proposal.room);
        self.send(partition, FromShard::Proposal(proposal));
    }

    /// Gives mail for another server to the log of its sender's room.
    pub fn post(&self, mail: NodeMail) {
        let partition = self.partitions.of(&mail.room);
        self.send(partition, FromShard::Mail(Box::new(mail)));
    }

    fn send(&self, partition: u16, what: FromShard) {
        if let Some(proposals) = self.proposals.get(usize::from(partition)) {
            // Fails when the thread has ended, which ends the server.
            let _ = proposals.send(what);
        }
    }

    /// The receipts of an entry.
    pub fn take_receipts(&mut self) -> Option<Vec<Receipt>> {
        self.receipts.try_recv().ok()
    }

    /// True while there are receipts.
    #[must_use]
    pub fn has_receipts(&self) -> bool {
        !self.receipts.is_empty()
    }

    /// Whether this server may take input.
    #[must_use]
    pub fn trust(&self) -> Trust {
        self.trust.clone()
    }
}

/// Whether the others take this server for alive. Where it was silent for long, it takes no input until it knows.
#[derive(Clone, Debug, Default)]
pub struct Trust {
    /// A bit for each partition in which it was silent.
    silent: Arc<AtomicU64>,
}

impl Trust {
    /// True while it may take input.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.silent.load(Ordering::Relaxed) == 0
    }

    /// Notes for a partition whether it holds there.
    pub(super) fn set(&self, partition: u16, holds: bool) {
        let bit = 1 << partition;
        if holds {
            self.silent.fetch_and(!bit, Ordering::Relaxed);
        } else {
            self.silent.fetch_or(bit, Ordering::Relaxed);
        }
    }
}
