//! What backends and those who watch the server may cost a turn.

use std::collections::HashSet;
use std::sync::Arc;

use uproar::accounts::Identity;
use uproar::events::{self, EVENTS_WAITING_MAX, Event as Watched, EventFilter};
use uproar::handshake::route::Endpoint;
use uproar::mail::{ACCOUNT_CONNECTIONS_SHOWN, ConnectionPage, Delivery, FACTS_A_PAGE, Request};
use uproar::rooms::{ClientRef, Instance, ShardIndex};
use uproar_ring::{ConnectionId, Submission};

use crate::alone::{Alone, Event, text};

/// A request of the HTTP API.
pub(crate) fn ticket(index: u32) -> ClientRef {
    ClientRef { shard: ShardIndex::API, connection: ConnectionId { index, generation: 0 } }
}

/// A connection that has shown an account.
pub(crate) fn of_account(alone: &mut Alone, account: &str, endpoint: Endpoint) -> ConnectionId {
    let identity =
        Identity { account: account.into(), name: account.into(), is_admin: false, rights: Arc::default() };
    alone.connect_as(endpoint, identity)
}

#[test]
fn lists_of_connections_cost_a_turn_a_bounded_number_of_system_calls() {
    const CONNECTIONS: usize = 500;
    const REQUESTS: u32 = 200;
    let mut alone = Alone::new();
    let all: HashSet<_> = (0..CONNECTIONS).map(|_| alone.connect(Endpoint::Echo)).collect();
    let page = ConnectionPage { from_slot: 0, limit: 1_000, queued_over: None, account: None, address: None };
    let request = |number| Request::ListConnections { page: page.clone(), origin: ticket(number) };
    alone.ring.requests.extend((0..REQUESTS).map(request));
    let mut turns = 0;
    while !alone.ring.requests.is_empty() {
        alone.turn();
        let asked = alone.ring.asked_of.drain(..).count();
        assert!(asked > 0 && asked <= 1_300, "{asked} system calls in a turn");
        turns += 1;
    }
    assert!(turns >= 10, "{turns} turns");
    assert_eq!(alone.ring.answers.len(), REQUESTS as usize);
    // One after the other, the parts have each connection once.
    let mut listed = Vec::new();
    let mut from_slot = Some(0);
    while let Some(slot) = from_slot {
        alone.ring.answers.clear();
        let page = ConnectionPage { from_slot: slot, ..page.clone() };
        alone.ring.requests.push_back(Request::ListConnections { page, origin: ticket(0) });
        alone.turn();
        let Some(Delivery::Connections { facts, next_slot, .. }) = alone.ring.answers.pop() else {
            panic!("it is answered at once")
        };
        assert!(facts.len() <= FACTS_A_PAGE);
        listed.extend(facts.iter().map(|facts| facts.name.client.connection));
        from_slot = next_slot;
    }
    assert_eq!((listed.len(), listed.iter().copied().collect::<HashSet<_>>()), (CONNECTIONS, all));
}

/// Goal: the reports of a crowd that ends at once are spread over turns, and each is made while the kernel knows the
/// connection: [`Alone`] refuses to tell of one that is closed.
#[test]
fn a_crowd_that_ends_at_once_is_reported_in_several_turns() {
    const CONNECTIONS: usize = 5_000;
    let (log, mut senders, collector) = events::open(Instance::random(), 1);
    let mut reader = log.reader(EventFilter::default());
    let mut alone = Alone::new();
    let all: HashSet<_> = (0..CONNECTIONS).map(|_| alone.connect(Endpoint::Echo)).collect();
    alone.shard.report_events(senders.remove(0));
    for id in &all {
        alone.queue(*id, Event::EndOfStream);
    }
    let mut reported = Vec::new();
    let mut closed = 0;
    let mut turns = 0;
    while alone.is_busy() || turns == 0 {
        closed += alone.turn().iter().filter(|it| matches!(it, Submission::Close(..))).count();
        let asked: Vec<_> = alone.ring.asked_of.drain(..).collect();
        assert!(asked.len() <= 1_400, "{} reports in a turn", asked.len());
        reported.extend(asked);
        turns += 1;
        assert!(turns <= 100, "it is not idle");
    }
    assert_eq!((reported.len(), closed), (CONNECTIONS, CONNECTIONS));
    assert_eq!(reported.into_iter().collect::<HashSet<_>>(), all);
    drop(alone);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(collector.run());
    let mut told = 0;
    while let Some(logged) = reader.try_next() {
        told += usize::from(matches!(logged.event, Watched::Connection { .. }));
    }
    assert_eq!(told, CONNECTIONS);
}

#[test]
fn events_that_fit_no_queue_are_counted_and_ends_are_kept() {
    const LOST: usize = 100;
    let (log, mut senders, _collector) = events::open(Instance::random(), 1);
    let mut alone = Alone::new();
    let speaker = alone.connect(Endpoint::Chat);
    alone.complete_sends();
    alone.turn();
    alone.shard.report_events(senders.remove(0));
    let messages = text(br#"{"type":"message","content":"hello"}"#).repeat(EVENTS_WAITING_MAX + LOST);
    alone.receives(speaker, &messages);
    let mut turns = 0;
    while alone.is_busy() || !alone.ring.events.is_empty() {
        alone.turn();
        alone.complete_sends();
        turns += 1;
        assert!(turns <= 10_000, "it is not idle");
    }
    assert_eq!(alone.metrics.events_lost.get(), LOST as u64);
    alone.queue(speaker, Event::EndOfStream);
    alone.turn();
    let client = ClientRef { shard: ShardIndex(0), connection: speaker };
    assert!(log.ended().find(client, std::time::Instant::now()).is_some());
    // Its leave, and its end.
    assert_eq!(alone.metrics.events_lost.get(), LOST as u64 + 2);
}

#[test]
fn of_an_account_with_very_many_connections_some_are_shown() {
    const CONNECTIONS: usize = ACCOUNT_CONNECTIONS_SHOWN + 10;
    let mut alone = Alone::new();
    for _ in 0..CONNECTIONS {
        of_account(&mut alone, "ann", Endpoint::Echo);
    }
    of_account(&mut alone, "ben", Endpoint::Echo);
    alone.ring.requests.push_back(Request::ShowAccount { account: "ann".into(), origin: ticket(0) });
    alone.turn();
    let Some(Delivery::AccountShown { connections, total, .. }) = alone.ring.answers.pop() else {
        panic!("it is answered at once")
    };
    assert_eq!((connections.len(), total), (ACCOUNT_CONNECTIONS_SHOWN, CONNECTIONS));
}
