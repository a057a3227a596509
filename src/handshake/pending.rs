//! The pending connections of an acceptor, and which one is closed when there are too many.
//!
//! A new connection never waits: another one is closed in its favour. First the oldest connection that has sent
//! nothing for a second, then the oldest without a complete request, then those that are being answered. Young silent
//! connections are spared because their first bytes are still on the way: otherwise many clients that send one byte
//! each would keep all others out.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

/// A connection counts as silent when its first bytes take longer: two round trips of a phone with a poor connection.
const SILENCE_MIN: Duration = Duration::from_secs(1);

/// The progress of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Progress {
    /// It has sent nothing.
    Silent,
    /// It has begun with TLS or with its request.
    Begun,
    /// It has been answered, and is closing.
    Answered,
    /// It is being answered.
    Answering,
}

/// The order of connections: by progress, then by age.
type Rank = (Progress, u64);

/// The connections of an acceptor.
#[derive(Debug, Default)]
pub(super) struct PendingConnections {
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
    /// The network by which its address is counted; `None` for an address without limits.
    network: Option<IpAddr>,
    entered: Instant,
    displaced: Rc<Notify>,
}

impl Ranks {
    fn insert(&mut self, rank: Rank, entry: Entry) {
        if let Some(network) = entry.network {
            self.of_network.entry(network).or_default().insert(rank);
        }
        self.all.insert(rank, entry);
    }

    /// The first connection with at least this progress, of a network or of all.
    fn first_from(&self, progress: Progress, network: Option<IpAddr>) -> Option<Rank> {
        let from = (progress, 0)..;
        match network {
            None => self.all.range(from).next().map(|(rank, _)| *rank),
            Some(network) => self.of_network.get(&network)?.range(from).next().copied(),
        }
    }

    /// The connection to close.
    fn next(&self, network: Option<IpAddr>, now: Instant) -> Option<Rank> {
        let first = self.first_from(Progress::Silent, network)?;
        let is_young = now.duration_since(self.all[&first].entered) < SILENCE_MIN;
        if first.0 != Progress::Silent || !is_young {
            return Some(first);
        }
        match self.first_from(Progress::Begun, network) {
            Some(begun) if begun.0 == Progress::Begun && begun.1 < first.1 => Some(begun),
            _ => Some(first),
        }
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

impl PendingConnections {
    /// The number of connections.
    pub(super) fn len(&self) -> usize {
        self.ranks.borrow().all.len()
    }

    /// Adds a connection; `network` is the one by which its address is counted, if it is.
    pub(super) fn enter(self: &Rc<Self>, network: Option<IpAddr>, now: Instant) -> Ticket {
        let mut ranks = self.ranks.borrow_mut();
        let rank = (Progress::Silent, ranks.next_age);
        ranks.next_age += 1;
        let displaced = Rc::new(Notify::new());
        ranks.insert(rank, Entry { network, entered: now, displaced: Rc::clone(&displaced) });
        Ticket { pending: Rc::clone(self), rank, displaced }
    }

    /// Closes a connection, of this network or of any. False when there is none.
    pub(super) fn displace(&self, network: Option<IpAddr>, now: Instant) -> bool {
        let mut ranks = self.ranks.borrow_mut();
        let next = ranks.next(network, now);
        let Some(entry) = next.and_then(|rank| ranks.remove(rank)) else { return false };
        entry.displaced.notify_one();
        true
    }
}

/// A connection's entry, until it is dropped.
#[derive(Debug)]
pub(super) struct Ticket {
    pending: Rc<PendingConnections>,
    rank: Rank,
    displaced: Rc<Notify>,
}

impl Ticket {
    /// Notes that bytes have been received.
    pub(super) fn note_received(&mut self) {
        if self.rank.0 == Progress::Silent {
            self.advance(Progress::Begun);
        }
    }

    /// Notes the progress of the connection, unless it has been displaced.
    pub(super) fn advance(&mut self, progress: Progress) {
        let mut ranks = self.pending.ranks.borrow_mut();
        let entry = ranks.remove(self.rank);
        self.rank.0 = progress;
        if let Some(entry) = entry {
            ranks.insert(self.rank, entry);
        }
    }

    /// Removes the connection, which can no longer be displaced.
    pub(super) fn withdraw(&mut self) {
        self.pending.ranks.borrow_mut().remove(self.rank);
    }

    /// The connections of which this is one.
    pub(super) fn pending(&self) -> &PendingConnections {
        &self.pending
    }

    /// Notes the network by which the connection's address is counted, which was not known so far, unless it has been
    /// displaced.
    pub(super) fn count_for(&mut self, network: Option<IpAddr>) {
        let mut ranks = self.pending.ranks.borrow_mut();
        if let Some(entry) = ranks.remove(self.rank) {
            ranks.insert(self.rank, Entry { network, ..entry });
        }
    }

    /// Notified when the connection is displaced.
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
    fn order(
        pending: &PendingConnections,
        network: Option<IpAddr>,
        tickets: &[Ticket],
        now: Instant,
    ) -> Vec<usize> {
        let mut order = Vec::new();
        let entries = || {
            let ranks = pending.ranks.borrow();
            tickets.iter().map(|ticket| ranks.all.contains_key(&ticket.rank)).collect::<Vec<_>>()
        };
        loop {
            let before = entries();
            if !pending.displace(network, now) {
                return order;
            }
            let after = entries();
            order.extend((0..tickets.len()).filter(|&n| before[n] && !after[n]));
        }
    }

    #[test]
    fn the_oldest_silent_one_goes_first_and_the_answered_go_last() {
        let pending = Rc::new(PendingConnections::default());
        let now = Instant::now();
        let mut tickets: Vec<Ticket> = (0..7).map(|_| pending.enter(None, now)).collect();
        tickets[0].advance(Progress::Answering);
        tickets[1].note_received();
        tickets[3].advance(Progress::Answering);
        tickets[3].advance(Progress::Answered);
        tickets[4].note_received();
        tickets[4].note_received();
        drop(tickets.remove(6));
        assert_eq!(pending.len(), 6);
        assert_eq!(order(&pending, None, &tickets, now + SILENCE_MIN), [2, 5, 1, 4, 3, 0]);
        assert_eq!(pending.len(), 0);
        // Displaced connections are in no order any more.
        tickets[0].advance(Progress::Answered);
        drop(tickets);
        assert!(!pending.displace(None, now));
    }

    #[test]
    fn a_crowd_that_sends_a_byte_each_does_not_displace_newcomers() {
        let pending = Rc::new(PendingConnections::default());
        let now = Instant::now();
        let mut tickets: Vec<Ticket> = (0..6).map(|_| pending.enter(None, now)).collect();
        for n in [0, 1, 3, 5] {
            tickets[n].note_received();
        }
        assert_eq!(order(&pending, None, &tickets, now), [0, 1, 2, 3, 4, 5]);
    }

    #[test]
    fn one_that_has_a_place_elsewhere_makes_none() {
        let pending = Rc::new(PendingConnections::default());
        let now = Instant::now();
        let mut ticket = pending.enter(None, now);
        ticket.note_received();
        ticket.withdraw();
        assert_eq!(pending.len(), 0);
        assert!(!pending.displace(None, now));
        ticket.advance(Progress::Answering);
        assert_eq!(pending.len(), 0);
    }

    #[test]
    fn a_connection_counts_for_the_network_that_is_told_later() {
        let pending = Rc::new(PendingConnections::default());
        let network = Some("192.0.2.1".parse().expect("an address"));
        let now = Instant::now();
        let mut tickets: Vec<Ticket> = (0..3).map(|_| pending.enter(None, now)).collect();
        tickets[1].note_received();
        tickets[1].count_for(network);
        assert_eq!(order(&pending, network, &tickets, now + SILENCE_MIN), [1]);
        tickets[1].count_for(network);
        assert_eq!(pending.len(), 2, "a displaced connection does not come back");
        assert_eq!(order(&pending, None, &tickets, now + SILENCE_MIN), [0, 2]);
    }

    #[test]
    fn a_network_makes_place_for_itself() {
        let pending = Rc::new(PendingConnections::default());
        let networks = ["192.0.2.1", "192.0.2.2"].map(|network| network.parse().expect(network));
        let now = Instant::now();
        let mut tickets: Vec<Ticket> =
            (0..6).map(|n| pending.enter(networks.get(n % 3).copied(), now)).collect();
        tickets[1].note_received();
        let later = now + SILENCE_MIN;
        assert_eq!(order(&pending, Some(networks[1]), &tickets, later), [4, 1]);
        assert_eq!(order(&pending, None, &tickets, later), [0, 2, 3, 5]);
        drop(tickets);
        assert!(pending.ranks.borrow().of_network.is_empty());
    }
}
