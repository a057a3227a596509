//! Which other nodes are alive.
//!
//! No clock is compared, and no key expires: a node that sees its own canaries reads the log, so one of which it sees
//! nothing meanwhile is silent. Where Redis stands still, nobody sees anything, and nobody is declared gone.

use std::collections::BTreeMap;

use crate::{Entry, FORMAT, LiveNode, Mirror, NodeName, Proposal, Tag};

/// Own canaries that a node sees without anything of another node, before it proposes that that one is gone. Each is
/// proposed a second after the last was answered, so at least 10 s lie between the first and the last of them.
const SILENCE_MAX: u32 = 11;

/// The other nodes.
#[derive(Clone, Debug, Default)]
pub(super) struct Peers(BTreeMap<NodeName, Peer>);

#[derive(Clone, Debug)]
struct Peer {
    last: Tag,
    /// Own canaries since then.
    silence: u32,
    /// The newest format that it reads.
    reads: u16,
}

impl Peers {
    /// All nodes but `own`.
    pub(super) fn new(mirror: &Mirror, own: &NodeName) -> Self {
        let others = mirror.nodes.iter().filter(|(node, _)| *node != own);
        let peer = |(node, last): (&NodeName, &Tag)| {
            let reads = mirror.formats.get(node).copied().unwrap_or(FORMAT);
            (node.clone(), Peer { last: last.clone(), silence: 0, reads })
        };
        Self(others.map(peer).collect())
    }

    /// An entry was read.
    pub(super) fn handle_entry(&mut self, entry: &Entry, own: &Tag) {
        if entry.tag.is_same_life(own) {
            if entry.batch.proposals().contains(&Proposal::Canary) {
                self.0.values_mut().for_each(|peer| peer.silence += 1);
            }
        } else if let [Proposal::Begin { reads, .. }, ..] = entry.batch.proposals() {
            let peer = Peer { last: entry.tag.clone(), silence: 0, reads: *reads };
            self.0.insert(entry.tag.node.clone(), peer);
        } else if let Some(peer) = self.0.get_mut(&entry.tag.node)
            && peer.last.is_same_life(&entry.tag)
        {
            (peer.last, peer.silence) = (entry.tag.clone(), 0);
        }
        for ended in entry.ended() {
            self.0.retain(|_, peer| peer.last.live() != ended);
        }
    }

    /// What to propose about nodes that were silent for long. It is proposed again as long as they are.
    pub(super) fn gone(&mut self) -> Vec<Proposal> {
        let silent = self.0.values_mut().filter(|peer| peer.silence >= SILENCE_MAX);
        let propose = |peer: &mut Peer| {
            // The answer comes within a canary or two.
            peer.silence = SILENCE_MAX - 3;
            Proposal::NodeGone { seen: peer.last.clone() }
        };
        silent.map(propose).collect()
    }

    /// Those that are thought alive.
    pub(super) fn live(&self) -> Vec<LiveNode> {
        self.0.values().map(|peer| peer.last.live()).collect()
    }

    /// True when all of them have higher names.
    pub(super) fn are_all_behind(&self, own: &NodeName) -> bool {
        self.0.keys().all(|node| node > own)
    }

    /// The format to write, which all of them read.
    pub(super) fn format(&self) -> u16 {
        self.0.values().map(|peer| peer.reads).fold(FORMAT, u16::min)
    }

    /// Their last batches, and the newest format that each reads.
    pub(super) fn last_batches(&self) -> impl Iterator<Item = (Tag, u16)> {
        self.0.values().map(|peer| (peer.last.clone(), peer.reads))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Batch;

    fn entry(node: &str, proposal: Proposal) -> Entry {
        Entry {
            number: 1,
            tag: format!("{node} 0000000000000001 1").parse().unwrap(),
            previous: None,
            time_ms: 0,
            total_bytes: 0,
            format: FORMAT,
            batch: Batch::from_iter([proposal]),
            answers: vec![crate::Answer::Done],
        }
    }

    #[test]
    fn the_format_is_the_newest_that_all_read() {
        let own: Tag = "b 0000000000000001 0".parse().unwrap();
        let mut peers = Peers::default();
        let begin = |reads| Proposal::Begin { replaces: None, reads };
        peers.handle_entry(&entry("c", begin(FORMAT + 1)), &own);
        assert_eq!(peers.format(), FORMAT);
        peers.handle_entry(&entry("a", begin(FORMAT - 1)), &own);
        assert_eq!((peers.format(), peers.are_all_behind(&own.node)), (FORMAT - 1, false));
        peers.handle_entry(&entry("a", Proposal::End), &own);
        assert_eq!((peers.format(), peers.are_all_behind(&own.node)), (FORMAT, true));
    }
}
