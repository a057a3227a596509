//! A batch of proposals, which becomes one entry.

use bytes::Bytes;

use crate::Proposal;
use crate::terms::NUMBERS_AN_ENTRY;

/// The most proposals of a batch. The script takes some 10 µs for each, so no batch holds Redis up for long.
pub const BATCH_PROPOSALS_MAX: usize = 512;

const _: () = assert!(NUMBERS_AN_ENTRY > BATCH_PROPOSALS_MAX as u64, "each proposal has a number of its own");

/// A batch takes no further proposal from this size on, in bytes. So one proposal larger than that goes alone.
pub const BATCH_BYTES_MAX: usize = 256 << 10;

/// What a proposal counts for beside its payload, in bytes: names of rooms and accounts are shorter than this.
const PROPOSAL_BYTES: usize = 256;

/// Proposals in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    proposals: Vec<Proposal>,
    bytes: usize,
}

impl Batch {
    /// True when a proposal with a payload of so many bytes may be added.
    #[must_use]
    pub fn has_room_for(&self, payload_bytes: usize) -> bool {
        let bytes = self.bytes + PROPOSAL_BYTES + payload_bytes;
        self.proposals.is_empty() || (self.proposals.len() < BATCH_PROPOSALS_MAX && bytes <= BATCH_BYTES_MAX)
    }

    /// Adds a proposal, for which there is room: see [`Batch::has_room_for`].
    pub fn push(&mut self, proposal: Proposal) {
        self.bytes += PROPOSAL_BYTES + proposal.payload().len();
        self.proposals.push(proposal);
    }

    /// The proposals.
    #[must_use]
    pub fn proposals(&self) -> &[Proposal] {
        &self.proposals
    }

    /// True without any.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.proposals.is_empty()
    }

    /// The proposals as nodes read them, and their payloads, one behind the other.
    pub(crate) fn encode(&self) -> (Vec<u8>, Vec<u8>) {
        let lengths: Vec<(&Proposal, usize)> =
            self.proposals.iter().map(|proposal| (proposal, proposal.payload().len())).collect();
        let proposals = postcard::to_stdvec(&lengths).expect("Bug: a proposal cannot be written");
        let payloads = self.proposals.iter().flat_map(|proposal| proposal.payload()).copied().collect();
        (proposals, payloads)
    }

    /// Reads what [`Batch::encode`] writes; `None` when it is something else.
    pub(crate) fn decode(proposals: &[u8], mut payloads: Bytes) -> Option<Self> {
        let lengths: Vec<(Proposal, usize)> = postcard::from_bytes(proposals).ok()?;
        let mut batch = Self::default();
        for (mut proposal, length) in lengths {
            if length > payloads.len() {
                return None;
            }
            proposal.set_payload(payloads.split_to(length));
            batch.push(proposal);
        }
        payloads.is_empty().then_some(batch)
    }
}

impl FromIterator<Proposal> for Batch {
    fn from_iter<I: IntoIterator<Item = Proposal>>(proposals: I) -> Self {
        let mut batch = Self::default();
        proposals.into_iter().for_each(|proposal| batch.push(proposal));
        batch
    }
}
