//! Many connections at once, and what is left of them afterwards.

use std::collections::HashSet;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::json;
use tokio::sync::Mutex;

use crate::harness::{CLOSE, Chat, Launch, Server, Wire, eventually, frame, on_one_server};

on_one_server! {
    silent_crowds_come_and_go_beside_a_chat_and_leave_nothing_behind,
    many_closing_at_once_are_each_said_to_leave_once,
    many_joining_at_once_are_each_announced_once,
}

/// What a crowd is, where descriptors allow it.
const CROWD: usize = 5000;

/// Held by the test that has one: each takes a good part of the descriptors, and of the machine.
static ONE_CROWD: Mutex<()> = Mutex::const_new(());

/// The first crowd grows every pool and slab; the second must fit into what the first left.
///
/// Four of five never send a byte. The others are upgraded, and silent from then on.
async fn silent_crowds_come_and_go_beside_a_chat_and_leave_nothing_behind(launch: Launch) {
    let _alone = ONE_CROWD.lock().await;
    let count = crowd_allowed();
    // However long it takes to come, nobody is sent away for being silent.
    let launch = launch.flag("--handshake-timeout", "10m").flag("--idle-timeout", "10m");
    let server = launch.without_rate_limit().start();
    let [mut alice, mut bob] = Chat::members(&server).await;
    let sockets = server.sockets();
    let mut descriptors = 0;
    // With a crowd inside, since what was freed is given back some time after it has gone.
    let mut resident = Vec::new();
    for round in 0..2 {
        let mut crowd = Vec::new();
        for n in 0..count {
            if n % 5 < 4 {
                crowd.push(Wire::connect(&server).await);
            } else {
                crowd.push(Wire::upgrade(&server, ["/broadcast/silent", "/echo"][n % 2]).await);
            }
            if n % 50 == 0 {
                exchange(&mut alice, &mut bob).await;
            }
        }
        eventually("everybody is inside", async || server.sockets() == sockets + count).await;
        exchange(&mut alice, &mut bob).await;
        resident.push(server.resident_kib());
        for (n, wire) in crowd.into_iter().enumerate() {
            if n % 2 == 0 {
                wire.reset();
            }
            if n % 50 == 0 {
                exchange(&mut alice, &mut bob).await;
            }
        }
        server.falls_to_sockets(sockets).await;
        if round == 0 {
            descriptors = server.descriptors();
        }
    }
    assert!(server.descriptors() <= descriptors);
    let [first, second] = resident[..] else { unreachable!("two crowds came") };
    assert!(second <= first + first / 5, "{first} KiB grew to {second} KiB");
}

async fn many_closing_at_once_are_each_said_to_leave_once(launch: Launch) {
    let server = launch
        .flag("--presence", "exact")
        .flag("--handshake-timeout", "10m")
        .flag("--idle-timeout", "10m")
        .start();
    let mut alice = Chat::enter(&server).await;
    let (mut crowd, mut ids) = come(&server, &mut alice, 200).await;
    for (n, mut wire) in crowd.drain(..).enumerate() {
        match n % 4 {
            0 => wire.reset(),
            1 => drop(wire),
            2 => wire.send(frame(CLOSE, 1000_u16.to_be_bytes())).await,
            _ => wire.send(frame(0x3, "nonsense")).await,
        }
    }
    let mut online = 201;
    while !ids.is_empty() {
        let leave = alice.next().await;
        let content = &leave["content"];
        assert_eq!(leave["type"], "leave");
        assert!(ids.remove(&content["user_id"].as_u64().unwrap()), "{leave} again");
        online -= 1;
        assert_eq!(content["users_online"], online);
    }
    let last = Chat::enter(&server).await;
    assert_eq!(alice.next().await["from_id"], last.id);
}

async fn many_joining_at_once_are_each_announced_once(launch: Launch) {
    let server = launch
        .flag("--presence", "exact")
        .flag("--handshake-timeout", "10m")
        .flag("--idle-timeout", "10m")
        .start();
    let mut alice = Chat::enter(&server).await;
    let mut bob = Chat::enter(&server).await;
    assert_eq!(alice.next().await["type"], "join");
    let (_crowd, ids) = come(&server, &mut alice, 100).await;
    assert_eq!(ids.len(), 100);
    let mut online = 2;
    for _ in 0..100 {
        let join = bob.next().await;
        online += 1;
        assert_eq!((&join["type"], &join["content"]["users_online"]), (&json!("join"), &json!(online)));
    }
}

/// Connects a crowd all at once, and returns it with the ids that were announced.
async fn come(server: &Server, alice: &mut Chat, count: usize) -> (Vec<Wire>, HashSet<u64>) {
    let crowd = (0..count).map(|_| Wire::upgrade(server, "/chat"));
    let crowd = futures_util::future::join_all(crowd).await;
    let mut ids = HashSet::new();
    while ids.len() < count {
        let join = alice.next().await;
        assert_eq!(join["type"], "join");
        assert!(ids.insert(join["from_id"].as_u64().unwrap()), "{join} again");
    }
    (crowd, ids)
}

/// Both say a word, and the other hears it: before [`PATIENCE`](crate::harness::PATIENCE) is over, while the
/// crowd would be waited for through ten minutes of handshake timeout.
async fn exchange(alice: &mut Chat, bob: &mut Chat) {
    alice.message("ping").await;
    assert_eq!(bob.next().await["content"], "ping");
    bob.message("pong").await;
    assert_eq!(alice.next().await["content"], "pong");
}

/// Raises the descriptor limit as far as it goes, and returns how large a crowd may be.
///
/// This process holds its ends of a crowd beside all that other tests hold. The server inherits the limit.
fn crowd_allowed() -> usize {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let limit = Rlimit { current: maximum, maximum };
    setrlimit(Resource::Nofile, limit).expect("the soft limit may rise to the hard one");
    let descriptors = maximum.map_or(usize::MAX, |maximum| maximum as usize);
    let spare = 4000;
    let count = CROWD.min(descriptors.saturating_sub(spare));
    if count < CROWD {
        eprintln!("a crowd of {count} instead of {CROWD}: the hard limit is {descriptors} descriptors");
    }
    count
}
