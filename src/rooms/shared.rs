//! The interface between homes and the log that several servers share.
//!
//! A server of a cluster is a *node*. Each node has all rooms of the cluster, with a home each. What is proposed to a room
//! goes into the shared log, and the homes of all nodes apply what comes out of it: so every room is the same everywhere, in
//! the same order.
//!
//! - [`SharedProposal`] goes to the log, and [`SharedReceipt`] comes back.
//!
//! The log of one room, as its home sees it, is in [`shared_log`](super::shared_log).

use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use uproar_cluster::{Entry, Incarnation, NodeName};

use super::RoomIndex;

/// The most proposals of a shard's homes without an answer. Then the shard takes no requests, and its clients' input waits.
pub const SHARED_PROPOSALS_MAX: usize = 4_096;

/// How long a message may wait while the log cannot be reached, in milliseconds; then it is refused.
pub(super) const MESSAGE_TIMEOUT_MS: u64 = 3_000;

/// The same for one that wants to join a room, in milliseconds.
pub(super) const JOIN_TIMEOUT_MS: u64 = 10_000;

/// Something that a home proposes to the shared log.
#[derive(Debug)]
pub struct SharedProposal {
    /// Names it in the answer.
    pub ticket: Ticket,
    /// The name of the room that it is about. The rooms of one partition have one order.
    pub room: Arc<str>,
    /// What it is.
    pub kind: SharedProposalKind,
    /// How long it may wait while the log cannot be reached, in milliseconds. `None`: until it can be.
    pub timeout_ms: Option<u64>,
}

/// Names a proposal of a home.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// The room that it is about.
    pub room: RoomIndex,
    /// No other one of this shard has it.
    pub number: u64,
}

/// What is proposed.
#[derive(Debug)]
pub enum SharedProposalKind {
    /// A change of the room.
    Change(uproar_cluster::Proposal),
    /// Something that all nodes are to hear in the order of the room, or one, and that nothing keeps.
    Tell(Option<Arc<NodeLife>>, RoomNotice),
}

/// What nodes tell each other of a room beside its changes.
#[expect(missing_docs, reason = "the fields are what their names and types say")]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RoomNotice {
    /// A member by this visit has started or stopped typing.
    Typing { room: Arc<str>, opened: u64, user: u64, visit: u64, name: Arc<str>, is_typing: bool },
    /// The members of a room that clients have created are to leave it.
    Close { room: Arc<str>, opened: u64 },
    /// A message of a raw topic.
    Relay { topic: Arc<str>, is_text: bool, payload: Bytes },
    /// A user has read a message of this author, who is on the node that is told.
    Read { room: Arc<str>, opened: u64, author: u64, message: u64, reader: u64, read_at: u64 },
}

impl RoomNotice {
    /// The name of the room or topic.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        match self {
            Self::Typing { room, .. } | Self::Close { room, .. } | Self::Read { room, .. } => room,
            Self::Relay { topic, .. } => topic,
        }
    }

    /// The room as the log names it; `None` for a topic.
    pub(super) fn room(&self) -> Option<uproar_cluster::Room> {
        match self {
            Self::Typing { room, opened, .. }
            | Self::Close { room, opened }
            | Self::Read { room, opened, .. } => {
                Some(uproar_cluster::Room { name: Arc::clone(room), opened: *opened })
            }
            Self::Relay { .. } => None,
        }
    }
}

/// A node in one of its lives.
pub type NodeLife = (NodeName, Incarnation);

/// Why the shared log is at its end for this server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogEnd {
    /// The other nodes have declared this one gone.
    Fenced,
    /// It cannot go on from where it is in the log, or not take part any more.
    PlaceLost,
}

/// What the shared log tells the homes of a shard.
#[derive(Clone, Debug)]
pub enum SharedReceipt {
    /// A decision of an entry.
    Decided(Decision),
    /// What a node has told of a room.
    Noticed {
        /// What it has told.
        notice: RoomNotice,
        /// The node that has told it.
        by: NodeLife,
        /// The ticket, if it is a proposal of this shard.
        ticket: Option<Ticket>,
    },
    /// Enough replicas have the entries of this server up to this one.
    Replicated {
        /// The partition of the log.
        partition: u16,
        /// The entry.
        through: u64,
    },
    /// The log of a partition can or cannot be reached from now on. At the start it can.
    Reached {
        /// The partition.
        partition: u16,
        /// Whether it can.
        is_reached: bool,
    },
    /// What was to be told to another node is in the log.
    Told(Ticket),
    /// The proposal with this ticket has waited too long. It will not happen.
    Refused(Ticket),
    /// The log is at its end for this server. Nothing follows, and nobody will be told what became of what was proposed.
    Ended(LogEnd),
}

/// A proposal with what the log has decided.
#[derive(Clone, Debug)]
pub struct Decision {
    /// The partition of the log.
    pub partition: u16,
    /// The entry.
    pub entry: Arc<Entry>,
    /// Which of its proposals.
    pub index: usize,
    /// The ticket, if it is a proposal of this shard.
    pub ticket: Option<Ticket>,
}

impl Decision {
    /// What was proposed, and what was decided.
    pub(super) fn parts(&self) -> (&uproar_cluster::Proposal, &uproar_cluster::Answer) {
        (&self.entry.batch.proposals()[self.index], &self.entry.answers[self.index])
    }

    /// When, in Unix seconds.
    pub(super) fn unix_seconds(&self) -> u64 {
        self.entry.time_ms / 1_000
    }
}
