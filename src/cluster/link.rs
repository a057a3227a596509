//! A shard's end of the thread of the cluster.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use tokio::sync::mpsc;
use uproar_cluster::Partitions;
use uproar_ring::Waker;

use crate::mail::{LogMail, NodeMail, NodeOrder, TermsOrder};
use crate::rooms::{Receipt, SHARED_PROPOSALS_MAX, ShardIndex, SharedProposal};

/// The batches of receipts that wait for a shard: each comes from one entry of the log.
pub(super) const RECEIPTS_WAITING_MAX: usize = 64;

/// The mail of a shard that is not in the log yet, beyond which its clients' input waits: as much as its homes may propose.
const MAIL_WAITING_MAX: usize = SHARED_PROPOSALS_MAX;

/// What a shard gives to the log.
#[derive(Debug)]
pub(super) enum FromShard {
    Proposal(SharedProposal),
    Mail(Box<NodeMail>, MailPlace),
    /// An order, and the shard that goes on with it.
    Terms(Box<TermsOrder>, ShardIndex, MailPlace),
    Order(Box<NodeOrder>, MailPlace),
}

/// A shard's connection to the shared log.
#[derive(Debug)]
pub struct ClusterLink {
    /// By partition. Bounded by what homes may have without an answer, [`SHARED_PROPOSALS_MAX`], by as much mail, and by the
    /// turn that reaches it.
    pub(super) proposals: Vec<mpsc::UnboundedSender<FromShard>>,
    pub(super) shard: ShardIndex,
    pub(super) partitions: Partitions,
    pub(super) receipts: mpsc::Receiver<Vec<Receipt>>,
    pub(super) trust: Trust,
    pub(super) mail_room: MailRoom,
}

impl ClusterLink {
    /// Gives a proposal to the log of its room.
    pub fn propose(&self, proposal: SharedProposal) {
        let partition = self.partitions.of(&proposal.room);
        self.send(partition, FromShard::Proposal(proposal));
    }

    /// Gives mail for another server to the log of its sender's room, and an order about bans or mutes to the first one.
    pub fn post(&self, mail: LogMail) {
        let place = self.mail_room.take();
        match mail {
            LogMail::Node(mail) => {
                self.send(self.partitions.of(&mail.room), FromShard::Mail(mail, place));
            }
            LogMail::Order(order) => {
                self.send(self.partitions.of(&order.room), FromShard::Order(order, place));
            }
            LogMail::Terms(order) => self.send(0, FromShard::Terms(order, self.shard, place)),
        }
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

    /// The room for mail of this shard.
    #[must_use]
    pub fn mail_room(&self) -> MailRoom {
        self.mail_room.clone()
    }
}

/// The room that a shard's mail to other servers has on its way to the log.
#[derive(Clone, Debug)]
pub struct MailRoom {
    taken: Arc<AtomicUsize>,
    shard: Waker,
}

impl MailRoom {
    pub(super) fn of(shard: Waker) -> Self {
        Self { taken: Arc::default(), shard }
    }

    /// False while the shard's clients should not cause more mail.
    #[must_use]
    pub fn is_left(&self) -> bool {
        self.taken.load(Ordering::Relaxed) < MAIL_WAITING_MAX
    }

    fn take(&self) -> MailPlace {
        self.taken.fetch_add(1, Ordering::Relaxed);
        MailPlace(self.clone())
    }
}

/// The place of one piece of mail, until it is in the log or refused.
#[derive(Debug)]
pub(super) struct MailPlace(MailRoom);

impl Drop for MailPlace {
    fn drop(&mut self) {
        if self.0.taken.fetch_sub(1, Ordering::Relaxed) == MAIL_WAITING_MAX {
            self.0.shard.wake();
        }
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
