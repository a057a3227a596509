//! Bridges driven over real connections.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use tokio::time::timeout;
use uproar_cluster::client::{Given, Link, Order, RedisAddress, Status, drive, session_key};
use uproar_cluster::{
    Answer, Bridge, Config, End, Event, Incarnation, Keys, Mirror, Proposal, Room, Settings,
};

use crate::node::{join, keys, publish};
use crate::observer::Notes;
use crate::proxy::{Mode, Proxy};
use crate::server::Server;

/// A node on a real line.
pub(crate) struct Node {
    link: Link<u64>,
    pub(crate) mirror: Mirror,
    pub(crate) notes: Notes,
    next_ticket: u64,
    /// Outcomes that nobody has asked for yet.
    outcomes: BTreeMap<u64, Got>,
}

/// What a node got for a proposal.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Got {
    Answer(Answer),
    Refused,
    Ended(End),
}

/// What a node is started with beside its name.
#[derive(Clone, Copy, Default)]
pub(crate) struct Options {
    pub(crate) replicas: u16,
}

impl Node {
    pub(crate) async fn begin(name: &str, incarnation: u64, address: &str) -> Self {
        Self::begin_with(name, incarnation, address, Options::default()).await
    }

    pub(crate) async fn begin_with(name: &str, incarnation: u64, address: &str, options: Options) -> Self {
        let notes = Notes::default();
        let mut link = connect(name, incarnation, address, options, notes.clone());
        match event(&mut link).await {
            Event::Begun(mirror) => {
                Self { link, mirror: *mirror, notes, next_ticket: 1, outcomes: BTreeMap::new() }
            }
            other => panic!("{other:?}"),
        }
    }

    pub(crate) async fn event(&mut self) -> Event<u64> {
        event(&mut self.link).await
    }

    /// Waits until the node has no connection. A proposal that it gets from then on is certainly not under way.
    pub(crate) async fn disconnected(&mut self) {
        let is_away = |status: &Status| status.trouble.as_deref() == Some("Redis cannot be reached");
        let waiting = timeout(Duration::from_secs(30), self.link.status.wait_for(is_away));
        waiting.await.expect("it stays connected for 30 s").expect("the bridge is gone");
    }

    pub(crate) async fn propose(&mut self, proposal: Proposal, timeout_ms: Option<u64>) -> u64 {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        let order = Order { proposal, ticket: Some(ticket), timeout_ms };
        self.link.orders.send(order).await.unwrap();
        ticket
    }

    pub(crate) async fn outcome(&mut self, ticket: u64) -> Got {
        let begun = Instant::now();
        loop {
            assert!(begun.elapsed() < Duration::from_secs(60), "no outcome within 60 s");
            if let Some(got) = self.outcomes.remove(&ticket) {
                return got;
            }
            match event(&mut self.link).await {
                Event::Entry { entry, tickets } => {
                    self.mirror.apply(&entry);
                    let got = tickets.iter().zip(&entry.answers);
                    let got = got.filter_map(|(it, answer)| Some(((*it)?, Got::Answer(answer.clone()))));
                    self.outcomes.extend(got);
                }
                Event::Refused(refused) => {
                    self.outcomes.insert(refused, Got::Refused);
                }
                Event::Ended { end, .. } => return Got::Ended(end),
                Event::Rewrite => {
                    let rooms = self.mirror.rooms.clone().into_iter().collect();
                    let Mirror { left, terms, .. } = self.mirror.clone();
                    self.link.given.send(Given::Rewrite { rooms, left, terms }).unwrap();
                }
                _ => {}
            }
        }
    }

    pub(crate) async fn decide(&mut self, proposal: Proposal) -> Got {
        let ticket = self.propose(proposal, None).await;
        self.outcome(ticket).await
    }

    pub(crate) async fn open(&mut self, name: &str) -> Room {
        match self.decide(Proposal::Open { name: name.into() }).await {
            Got::Answer(Answer::Opened(opened)) => Room { name: name.into(), opened },
            other => panic!("{other:?}"),
        }
    }
}

fn connect(name: &str, incarnation: u64, address: &str, options: Options, notes: Notes) -> Link<u64> {
    let keys = Keys::of_partition(0);
    let config = Config {
        node: name.parse().unwrap(),
        incarnation: Incarnation(incarnation),
        keys: keys.clone(),
        settings: Settings {
            history: 5,
            log_bytes: 64 << 20,
            left_ms: 60_000,
            agreed: "the same".to_owned(),
        },
        replicas: options.replicas,
    };
    let address: RedisAddress = address.parse().unwrap();
    let (link, driving) = drive(|now_ms| Bridge::new(config, now_ms), keys, address, 64, notes);
    tokio::spawn(driving);
    link
}

async fn event(link: &mut Link<u64>) -> Event<u64> {
    let event = timeout(Duration::from_secs(30), link.events.recv()).await;
    event.expect("nothing happens for 30 s").expect("the bridge is gone")
}

pub(crate) fn address_of(server: &Server) -> String {
    format!("unix://{}", server.socket().display())
}

#[tokio::test]
async fn nodes_talk_through_redis() {
    let server = Server::start();
    let mut a = Node::begin("a", 1, &address_of(&server)).await;
    let mut b = Node::begin("b", 2, &address_of(&server)).await;
    let room = a.open("general").await;
    assert_eq!(b.decide(join(&room, 1, 0)).await, Got::Answer(Answer::Done));
    assert_eq!(a.decide(publish(&room, "one")).await, Got::Answer(Answer::Sent(1)));
    assert_eq!(b.decide(publish(&room, "two")).await, Got::Answer(Answer::Sent(2)));
    assert_eq!(b.mirror.rooms["general"].history.len(), 2);
}

#[tokio::test]
async fn a_redis_that_starts_again_costs_a_pause() {
    let server = Server::start();
    let socket = server.socket();
    let proxy = Proxy::before(socket).await;
    let address = format!("redis://127.0.0.1:{}", proxy.port);
    let mut a = Node::begin("a", 1, &address).await;
    let mut b = Node::begin("b", 2, &address).await;
    let room = a.open("general").await;
    assert_eq!(a.decide(publish(&room, "one")).await, Got::Answer(Answer::Sent(1)));
    let epoch = a.mirror.epoch.clone();
    let server = server.restart();
    proxy.lead_to(server.socket());
    let begun = Instant::now();
    let of_b = b.propose(publish(&room, "two"), None).await;
    let of_a = a.decide(publish(&room, "three")).await;
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    let Got::Answer(Answer::Sent(a_sent)) = of_a else { panic!("{of_a:?}") };
    let Got::Answer(Answer::Sent(b_sent)) = b.outcome(of_b).await else { panic!() };
    // Whoever finds Redis first is first.
    assert_eq!(a_sent + b_sent, 2 + 3);
    assert_eq!(b.mirror.epoch, epoch);
}

#[tokio::test]
async fn a_line_that_is_cut_costs_nothing() {
    let server = Server::start();
    let proxy = Proxy::before(server.socket()).await;
    let mut a = Node::begin("a", 1, &format!("redis://127.0.0.1:{}", proxy.port)).await;
    let room = a.open("general").await;
    for n in 1..=5 {
        let ticket = a.propose(publish(&room, "x"), None).await;
        proxy.set(Mode::Cut);
        tokio::task::yield_now().await;
        proxy.set(Mode::Open);
        assert_eq!(a.outcome(ticket).await, Got::Answer(Answer::Sent(n)), "once, and not twice");
    }
}

#[tokio::test]
async fn a_line_that_says_nothing_more_is_noticed() {
    let server = Server::start();
    let proxy = Proxy::before(server.socket()).await;
    let mut a = Node::begin("a", 1, &format!("redis://127.0.0.1:{}", proxy.port)).await;
    let room = a.open("general").await;
    let taken = proxy.taken.load(std::sync::atomic::Ordering::Relaxed);
    proxy.set(Mode::Stalled);
    let begun = Instant::now();
    let message = a.propose(publish(&room, "x"), None).await;
    // It tries new lines; the old ones stay as they are.
    while proxy.taken.load(std::sync::atomic::Ordering::Relaxed) == taken {
        assert!(begun.elapsed() < Duration::from_secs(5), "no new line within 5 s");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    proxy.set(Mode::Open);
    assert_eq!(a.outcome(message).await, Got::Answer(Answer::Sent(1)));
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn rubbish_in_place_of_redis_is_survived() {
    let server = Server::start();
    let proxy = Proxy::before(server.socket()).await;
    let mut a = Node::begin("a", 1, &format!("redis://127.0.0.1:{}", proxy.port)).await;
    let room = a.open("general").await;
    proxy.set(Mode::Rubbish);
    let message = a.propose(publish(&room, "x"), Some(1_000)).await;
    let leave = a.propose(publish(&room, "y"), None).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    proxy.set(Mode::Open);
    // Whether the first had reached Redis is open; it has one outcome.
    let first = a.outcome(message).await;
    assert!(matches!(first, Got::Refused | Got::Answer(Answer::Sent(1))), "{first:?}");
    assert!(matches!(a.outcome(leave).await, Got::Answer(Answer::Sent(_))));
}

#[tokio::test]
async fn a_redis_that_stops_for_a_while_loses_nobody() {
    let server = Server::start();
    let mut a = Node::begin("a", 1, &address_of(&server)).await;
    let room = a.open("general").await;
    assert_eq!(a.decide(join(&room, 1, 0)).await, Got::Answer(Answer::Done));
    server.signal(rustix::process::Signal::STOP);
    let ticket = a.propose(publish(&room, "x"), None).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    server.signal(rustix::process::Signal::CONT);
    assert_eq!(a.outcome(ticket).await, Got::Answer(Answer::Sent(1)));
    assert_eq!(a.mirror.rooms["general"].members.len(), 1);
}

#[tokio::test]
async fn a_node_ends_in_order_with_redis_and_without() {
    let server = Server::start();
    let mut a = Node::begin("a", 1, &address_of(&server)).await;
    let mut b = Node::begin("b", 2, &address_of(&server)).await;
    let room = a.open("general").await;
    assert_eq!(b.decide(join(&room, 2, 0)).await, Got::Answer(Answer::Done));
    let message = b.propose(publish(&room, "last"), None).await;
    assert_eq!(b.outcome(message).await, Got::Answer(Answer::Sent(1)));
    b.link.given.send(Given::Leave).unwrap();
    assert_eq!(b.outcome(0).await, Got::Ended(End::Left));
    while a.mirror.nodes.len() > 1 {
        let Event::Entry { entry, .. } = event(&mut a.link).await else { panic!() };
        a.mirror.apply(&entry);
    }
    assert_eq!(a.mirror.rooms["general"].members.len(), 0);
    server.signal(rustix::process::Signal::STOP);
    let begun = Instant::now();
    a.link.given.send(Given::Leave).unwrap();
    assert_eq!(a.outcome(0).await, Got::Ended(End::Left));
    let waited_ms = begun.elapsed().as_millis();
    assert!((1_900..2_900).contains(&waited_ms), "{waited_ms} ms");
    server.signal(rustix::process::Signal::CONT);
}

#[tokio::test]
async fn a_demoted_redis_is_left() {
    let mut server = Server::start();
    let proxy = Proxy::before(server.socket()).await;
    let mut a = Node::begin("a", 1, &format!("redis://127.0.0.1:{}", proxy.port)).await;
    let room = a.open("general").await;
    server.call(&["REPLICAOF", "127.0.0.1", "1"]);
    a.disconnected().await;
    let message = a.propose(publish(&room, "x"), Some(3_000)).await;
    assert_eq!(a.outcome(message).await, Got::Refused);
    server.call(&["REPLICAOF", "NO", "ONE"]);
    assert_eq!(a.decide(publish(&room, "y")).await, Got::Answer(Answer::Sent(1)));
}

#[tokio::test]
async fn the_first_session_key_stays_and_comes_back_after_a_loss() {
    let mut server = Server::start();
    let address: RedisAddress = address_of(&server).parse().unwrap();
    let (first, second) = ([1; 32], [2; 32]);
    assert_eq!(session_key(&address, first).await.unwrap(), first);
    assert_eq!(session_key(&address, second).await.unwrap(), first);
    server.call(&["FLUSHALL"]);
    assert_eq!(session_key(&address, first).await.unwrap(), first);
    server.call(&["SET", &keys().session_key(), "short"]);
    let refused = session_key(&address, first).await.unwrap_err();
    assert_eq!(refused.to_string(), "session key: 5 bytes; remove it, and a node puts its own there");
}

#[tokio::test]
async fn whoever_takes_no_events_is_not_gone_for_the_others() {
    let server = Server::start();
    let mut a = Node::begin("a", 1, &address_of(&server)).await;
    let mut b = Node::begin("b", 2, &address_of(&server)).await;
    let room = a.open("general").await;
    assert_eq!(b.decide(join(&room, 2, 0)).await, Got::Answer(Answer::Done));
    // b takes nothing for longer than a silent node may be.
    let begun = Instant::now();
    let mut sent = 0;
    while begun.elapsed() < Duration::from_secs(13) {
        let Got::Answer(Answer::Sent(id)) = a.decide(publish(&room, "x")).await else { panic!() };
        sent = id;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(sent > 100);
    assert_eq!(a.mirror.rooms["general"].members.len(), 1);
    assert_eq!(b.decide(publish(&room, "x")).await, Got::Answer(Answer::Sent(sent + 1)));
}
