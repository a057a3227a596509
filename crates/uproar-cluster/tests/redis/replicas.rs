//! Entries that must be on a replica.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use uproar_cluster::{Answer, Event, Proposal, Reply};

use crate::client::{Node, Options};
use crate::node::publish;
use crate::proxy::{Mode, Proxy};
use crate::server::Server;

/// A primary with a replica, which has everything by now, and the line between them.
async fn pair() -> (Server, Server, Proxy) {
    let mut primary = Server::start();
    let proxy = Proxy::before(primary.socket()).await;
    let mut replica = Server::start();
    replica.call(&["REPLICAOF", "127.0.0.1", &proxy.port.to_string()]);
    primary.call(&["SET", "something", "written"]);
    let waited = tokio::task::spawn_blocking(move || (primary.call(&["WAIT", "1", "20000"]), primary));
    let (waited, primary) = waited.await.unwrap();
    assert_eq!(waited, Reply::Number(1));
    (primary, replica, proxy)
}

/// The number of the own entry with this ticket; and the last that is replicated, when it is read.
async fn entry_of(node: &mut Node, ticket: u64, through: &mut u64) -> u64 {
    loop {
        match node.event().await {
            Event::Entry { entry, tickets } if tickets.contains(&Some(ticket)) => return entry.number,
            Event::Replicated { through: more } => {
                assert!(more > *through);
                *through = more;
            }
            _ => {}
        }
    }
}

async fn until_replicated(node: &mut Node, number: u64, through: &mut u64) {
    let begun = Instant::now();
    while *through < number {
        assert!(begun.elapsed() < Duration::from_secs(60), "{through} and not {number}");
        if let Event::Replicated { through: more } = node.event().await {
            *through = more;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_entry_is_told_of_once_the_replica_has_it() {
    let (primary, replica, _line) = pair().await;
    let proxy = Proxy::before(primary.socket()).await;
    let options = Options { replicas: 1 };
    let mut a = Node::begin_with("a", 1, &format!("redis://127.0.0.1:{}", proxy.port), options).await;
    let (mut through, mut seen) = (0, 0);
    let room = a.open("general").await;
    let first = a.propose(publish(&room, "one"), None).await;
    let first = entry_of(&mut a, first, &mut through).await;
    until_replicated(&mut a, first, &mut through).await;

    replica.signal(Signal::STOP);
    let stopped = through;
    let begun = Instant::now();
    for _ in 0..10 {
        let ticket = a.propose(publish(&room, "more"), None).await;
        seen = entry_of(&mut a, ticket, &mut through).await;
    }
    assert!(begun.elapsed() < Duration::from_secs(6), "{:?}: one wait of a second, not ten", begun.elapsed());
    // What was written before may have reached it.
    assert!(through <= stopped.max(seen - 10), "{through}");
    // On a new line nothing is known of what was appended on the last one, until something is appended there.
    proxy.set(Mode::Cut);
    tokio::task::yield_now().await;
    proxy.set(Mode::Open);
    let mut last = seen;
    while last < seen + 3 {
        match a.event().await {
            Event::Entry { entry, .. } => last = entry.number,
            Event::Replicated { through: more } => through = more,
            _ => {}
        }
    }
    assert!(through < seen, "{through}");
    assert!(a.notes.count("waited 1 true") > 0 && a.notes.count("waited 0 false") > 0);
    replica.signal(Signal::CONT);
    until_replicated(&mut a, seen, &mut through).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_too_few_is_asked_again_without_another_batch() {
    let (primary, replica, _line) = pair().await;
    let options = Options { replicas: 1 };
    let address = format!("unix://{}", primary.socket().display());
    let mut a = Node::begin_with("a", 1, &address, options).await;
    replica.signal(Signal::STOP);
    let mut through = 0;
    let ticket = a.propose(Proposal::Open { name: "x".into() }, None).await;
    let number = entry_of(&mut a, ticket, &mut through).await;
    assert!(through < number);
    replica.signal(Signal::CONT);
    until_replicated(&mut a, number, &mut through).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_replicas_that_were_asked_for_nothing_is_told() {
    let server = Server::start();
    let address = format!("unix://{}", server.socket().display());
    let mut a = Node::begin_with("a", 1, &address, Options { replicas: 0 }).await;
    let mut b = Node::begin_with("b", 1, &address, Options { replicas: 1 }).await;
    let room = a.open("general").await;
    let (mut of_a, mut of_b) = (0, 0);
    for _ in 0..3 {
        let ticket = a.propose(publish(&room, "x"), None).await;
        entry_of(&mut a, ticket, &mut of_a).await;
        let ticket = b.propose(publish(&room, "x"), None).await;
        entry_of(&mut b, ticket, &mut of_b).await;
    }
    assert_eq!((of_a, of_b), (0, 0));
    assert!(matches!(a.decide(Proposal::Canary).await, crate::client::Got::Answer(Answer::Done)));
}
