//! The connections of a lobby, and which of them makes place for a newcomer when there are too many.
//!
//! No newcomer waits for a place. It gets that of the connection which is likeliest to want nothing: the one that has
//! been silent for the longest time, or else has been at its request for the longest time. Those that are answered
//! come last.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::rc::Rc;

use tokio::sync::Notify;

/// How far a connection has come, in the order in which they make place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Progress {
    /// It has sent nothing.
    Silent,
    /// It has begun with TLS or with its request.
    Begun,
    /// It has been answered, and has to end.
    Answered,
    /// It is being answered.
    Answering,
}

/// The order in which connections make place: by their progress, and then by their age.
type Rank = (Progress, u64);

/// The connections of a lobby.
#[derive(Debug, Default)]
pub(super) struct Pending {
    ranks: RefCell<Ranks>,
}

/// Invariant: `of_network` has the ranks of `all` that belong to a network, and no empty set.
#[derive(Debug, Default)]
struct Ranks {
    next_age: u64,
    all: BTreeMap<Rank, Entry>,
    of_network: HashMap<IpAddr, BTreeSet<Rank>>,
}

#[derive(Debug)]
struct Entry {
    /// What its address is counted by, if it is.
    network: Option<IpAddr>,
    displaced: Rc<Notify>,
}

impl Ranks {
    fn insert(&mut self, rank: Rank, entry: Entry) {
        if let Some(network) = entry.network {
            self.of_network.entry(network).or_default().insert(rank);
        }
        self.all.insert(rank, entry);
    }

    fn remove(&mut self, rank: Rank) -> Option<Entry> {
        let entry = self.all.remove(&rank)?;
        if let Some(network) = entry.network
            && let Some(ranks) = self.of_network.get_mut(&network)
        {
            ranks.remove(&rank);
            if ranks.is_empty() {
                self.of_network.remove(&network);
            }
        }
        Some(entry)
    }
}

impl Pending {
    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.ranks.borrow().all.len()
    }

    /// Enters a connection; `network` is what its address is counted by, if it is.
    pub(super) fn enter(self: &Rc<Self>, network: Option<IpAddr>) -> Ticket {
        let mut ranks = self.ranks.borrow_mut();
        let rank = (Progress::Silent, ranks.next_age);
        ranks.next_age += 1;
        let displaced = Rc::new(Notify::new());
        ranks.insert(rank, Entry { network, displaced: Rc::clone(&displaced) });
        Ticket { pending: Rc::clone(self), rank, displaced }
    }

    /// Has the first connection in order make place, of this network or of any. False when there is none.
    pub(super) fn displace(&self, network: Option<IpAddr>) -> bool {
        let mut ranks = self.ranks.borrow_mut();
        let first = match network {
            None => ranks.all.keys().next().copied(),
            Some(network) => ranks.of_network.get(&network).and_then(BTreeSet::first).copied(),
        };
        let Some(entry) = first.and_then(|rank| ranks.remove(rank)) else { return false };
        entry.displaced.notify_one();
        true
    }
}

/// A connection's entry, until it is dropped.
#[derive(Debug)]
pub(super) struct Ticket {
    pending: Rc<Pending>,
    rank: Rank,
    displaced: Rc<Notify>,
}

impl Ticket {
    /// Notes that something has come from the connection.
    pub(super) fn hear(&mut self) {
        if self.rank.0 == Progress::Silent {
            self.advance(Progress::Begun);
        }
    }

    /// Notes how far the connection has come. One that has been told to make place is in no order any more.
    pub(super) fn advance(&mut self, progress: Progress) {
        let mut ranks = self.pending.ranks.borrow_mut();
        let entry = ranks.remove(self.rank);
        self.rank.0 = progress;
        if let Some(entry) = entry {
            ranks.insert(self.rank, entry);
        }
    }

    /// Told when the connection has to make place.
    pub(super) fn displaced(&self) -> Rc<Notify> {
        Rc::clone(&self.displaced)
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.pending.ranks.borrow_mut().remove(self.rank);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Which of the tickets have been told to make place, in the order in which one after the other was.
    fn order(pending: &Pending, network: Option<IpAddr>, tickets: &[Ticket]) -> Vec<usize> {
        let mut order = Vec::new();
        let entries = || {
            let ranks = pending.ranks.borrow();
            tickets.iter().map(|ticket| ranks.all.contains_key(&ticket.rank)).collect::<Vec<_>>()
        };
        loop {
            let before = entries();
            if !pending.displace(network) {
                return order;
            }
            let after = entries();
            order.extend((0..tickets.len()).filter(|&n| before[n] && !after[n]));
        }
    }

    #[test]
    fn the_oldest_silent_one_goes_first_and_the_answered_go_last() {
        let pending = Rc::new(Pending::default());
        let mut tickets: Vec<Ticket> = (0..7).map(|_| pending.enter(None)).collect();
        tickets[0].advance(Progress::Answering);
        tickets[1].hear();
        tickets[3].advance(Progress::Answering);
        tickets[3].advance(Progress::Answered);
        tickets[4].hear();
        tickets[4].hear();
        drop(tickets.remove(6));
        assert_eq!(pending.len(), 6);
        assert_eq!(order(&pending, None, &tickets), [2, 5, 1, 4, 3, 0]);
        assert_eq!(pending.len(), 0);
        // They are in no order any more, whatever becomes of them.
        tickets[0].advance(Progress::Answered);
        drop(tickets);
        assert!(!pending.displace(None));
    }

    #[test]
    fn a_network_makes_place_for_itself() {
        let pending = Rc::new(Pending::default());
        let networks = ["192.0.2.1", "192.0.2.2"].map(|network| network.parse().expect(network));
        let mut tickets: Vec<Ticket> = (0..6).map(|n| pending.enter(networks.get(n % 3).copied())).collect();
        tickets[1].hear();
        assert_eq!(order(&pending, Some(networks[1]), &tickets), [4, 1]);
        assert_eq!(order(&pending, None, &tickets), [0, 2, 3, 5]);
        drop(tickets);
        assert!(pending.ranks.borrow().of_network.is_empty());
    }
}
