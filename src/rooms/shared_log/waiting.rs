//! What a room has not been answered yet: proposals on their way to the log, and requests that come behind those of the same
//! client.

use std::collections::{HashMap, VecDeque};

use crate::rooms::ClientRef;
use crate::rooms::log::{Proposal, Unlogged};
use crate::rooms::shared::Ticket;

/// Proposals and requests without an outcome.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    /// In the order of their tickets.
    proposed: VecDeque<(Ticket, Proposal)>,
    /// What each client waits for, in order. It begins with a proposal.
    clients: HashMap<ClientRef, VecDeque<Step>>,
    /// Requests that wait no more.
    free: VecDeque<Unlogged>,
}

#[derive(Debug)]
enum Step {
    /// The number of its ticket.
    Proposed(u64),
    Requested(Unlogged),
}

impl Waiting {
    pub(super) fn is_empty(&self) -> bool {
        self.proposed.is_empty() && self.free.is_empty()
    }

    /// True while something that this client has proposed has no outcome.
    pub(super) fn has_proposed(&self, client: ClientRef) -> bool {
        self.clients.contains_key(&client)
    }

    /// A proposal is on its way. Its ticket is later than those before.
    pub(super) fn push(&mut self, ticket: Ticket, proposal: Proposal) {
        if let Some(client) = proposal.origin() {
            self.clients.entry(client).or_default().push_back(Step::Proposed(ticket.number));
        }
        self.proposed.push_back((ticket, proposal));
    }

    /// A request comes behind what its client has proposed.
    pub(super) fn push_request(&mut self, request: Unlogged) {
        match self.clients.get_mut(&request.origin()) {
            Some(steps) => steps.push_back(Step::Requested(request)),
            None => self.free.push_back(request),
        }
    }

    /// Takes a proposal that has an outcome, which frees the requests behind it.
    pub(super) fn take(&mut self, ticket: Ticket) -> Option<Proposal> {
        let place = self.proposed.binary_search_by_key(&ticket.number, |(its, _)| its.number).ok()?;
        let (_, proposal) = self.proposed.remove(place)?;
        if let Some(client) = proposal.origin()
            && let Some(steps) = self.clients.get_mut(&client)
        {
            steps.retain(|step| !matches!(step, Step::Proposed(number) if *number == ticket.number));
            while let Some(Step::Requested(_)) = steps.front() {
                if let Some(Step::Requested(request)) = steps.pop_front() {
                    self.free.push_back(request);
                }
            }
            if steps.is_empty() {
                self.clients.remove(&client);
            }
        }
        Some(proposal)
    }

    /// Frees all requests.
    pub(super) fn free_all(&mut self) {
        for steps in self.clients.values_mut() {
            for step in std::mem::take(steps) {
                match step {
                    Step::Proposed(_) => steps.push_back(step),
                    Step::Requested(request) => self.free.push_back(request),
                }
            }
        }
    }

    /// The next request that waits for nothing any more.
    pub(super) fn poll_free(&mut self) -> Option<Unlogged> {
        self.free.pop_front()
    }

    /// Everything that waits.
    pub(super) fn drain(mut self) -> impl Iterator<Item = Proposal> {
        self.free_all();
        let proposed = self.proposed.into_iter().map(|(_, proposal)| proposal);
        proposed.chain(self.free.into_iter().map(Proposal::Unlogged))
    }
}

#[cfg(test)]
mod tests {
    use uproar_ring::ConnectionId;

    use super::*;
    use crate::rooms::log::Change;
    use crate::rooms::{Content, NewMessage, RoomIndex, ShardIndex, UserId};

    fn client(index: u32) -> ClientRef {
        ClientRef { shard: ShardIndex(0), connection: ConnectionId { index, generation: 0 } }
    }

    fn ticket(number: u64) -> Ticket {
        Ticket { room: RoomIndex::none_at(ShardIndex(0)), number }
    }

    fn message(by: u32) -> Proposal {
        let user = UserId::from_wire(1).unwrap();
        let content = Content::Text("a".into());
        let message = NewMessage { user, name: "a".into(), account: None, content };
        Change::Message { message, visit: None, origin: client(by) }.into()
    }

    fn request(by: u32) -> Unlogged {
        Unlogged::ListNames { origin: client(by) }
    }

    /// The clients of the requests that are free.
    fn freed(waiting: &mut Waiting) -> Vec<u32> {
        std::iter::from_fn(|| waiting.poll_free()).map(|it| it.origin().connection.index).collect()
    }

    #[test]
    fn a_request_waits_for_what_its_client_has_proposed_before_and_for_nothing_else() {
        let mut waiting = Waiting::default();
        waiting.push(ticket(1), message(1));
        waiting.push(ticket(2), message(2));
        waiting.push_request(request(1));
        waiting.push(ticket(3), message(1));
        waiting.push_request(request(1));
        waiting.push_request(request(2));
        assert_eq!(freed(&mut waiting), [0; 0]);
        assert!(waiting.take(ticket(2)).is_some());
        assert_eq!((freed(&mut waiting), waiting.has_proposed(client(2))), (vec![2], false));
        assert!(waiting.take(ticket(1)).is_some());
        assert_eq!(freed(&mut waiting), [1]);
        assert!(waiting.take(ticket(1)).is_none());
        assert!(waiting.take(ticket(3)).is_some());
        assert_eq!((freed(&mut waiting), waiting.is_empty()), (vec![1], true));
    }

    #[test]
    fn all_requests_can_be_freed_at_once() {
        let mut waiting = Waiting::default();
        waiting.push(ticket(1), message(1));
        waiting.push_request(request(1));
        waiting.push(ticket(2), message(1));
        waiting.push_request(request(1));
        waiting.free_all();
        assert_eq!((freed(&mut waiting), waiting.has_proposed(client(1))), (vec![1, 1], true));
        waiting.push_request(request(1));
        assert_eq!(waiting.drain().count(), 3);
    }
}
