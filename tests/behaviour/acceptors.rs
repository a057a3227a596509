//! How connections come to the shards: spread by how many each has, and, while the server ends, admitted or refused.

use futures_util::future::join_all;
use rustix::process::Signal;

use crate::counts::numbers;
use crate::harness::{
    CLOSE, Chat, Launch, Server, Wire, eventually, frame, on_one_server, run, upgrade_request,
};

on_one_server! {
    connections_are_spread_over_the_shards_by_their_number,
    several_acceptors_share_the_connections,
    whoever_upgrades_while_the_server_ends_is_admitted_or_refused,
    a_request_that_comes_to_its_end_while_the_server_drains_is_answered,
}

async fn connections_are_spread_over_the_shards_by_their_number(launch: Launch) {
    let server = launch.start();
    let shards = by_shard(&server).await.len();
    let mut clients = Vec::new();
    for _ in 0..3 * shards {
        clients.push(Wire::upgrade(&server, "/echo").await);
    }
    spreads(&server, &vec![3; shards]).await;
    // Everybody on the first shard leaves, and those who come take their places.
    let mut index = 0..;
    clients.retain(|_| index.next().unwrap() % shards != 0);
    let mut expected = vec![3; shards];
    expected[0] = 0;
    spreads(&server, &expected).await;
    for _ in 0..3 {
        clients.push(Wire::upgrade(&server, "/echo").await);
    }
    spreads(&server, &vec![3; shards]).await;
}

async fn several_acceptors_share_the_connections(launch: Launch) {
    let server = launch.flag("--acceptors", 3).start();
    let shards = by_shard(&server).await.len();
    let wires = (0..8 * shards).map(|_| Wire::upgrade(&server, "/echo"));
    let _clients = join_all(wires).await;
    spreads(&server, &vec![8; shards]).await;
}

async fn whoever_upgrades_while_the_server_ends_is_admitted_or_refused(launch: Launch) {
    let mut server = launch.flag("--drain-timeout", "20s").start();
    // Keeps the server from ending before everybody is answered: it does not answer its close.
    let stubborn = Wire::upgrade(&server, "/chat").await;
    let mut wires = Vec::new();
    for _ in 0..100 {
        wires.push(Wire::connect(&server).await);
    }
    for wire in &mut wires {
        wire.send(upgrade_request("/chat")).await;
    }
    server.signal(Signal::TERM);
    let ends = join_all(wires.into_iter().map(end)).await;
    let refused = ends.iter().filter(|end| **end == End::Refused).count();
    let closed = ends.iter().filter(|end| **end == End::ClosedForShutdown).count();
    assert_eq!(refused + closed, 100, "{refused} refused, {closed} admitted and closed");
    drop(stubborn);
    assert_eq!(server.exit().await.code(), Some(0));
}

async fn a_request_that_comes_to_its_end_while_the_server_drains_is_answered(launch: Launch) {
    let mut server = launch.start();
    let mut alice = Chat::enter(&server).await;
    let _stubborn = Wire::upgrade(&server, "/chat").await;
    assert_eq!(alice.next().await["type"], "join");
    let request = upgrade_request("/chat");
    let (begun, rest) = request.split_at(request.len() - 2);
    let mut wire = Wire::connect(&server).await;
    wire.send(begun).await;
    server.signal(Signal::TERM);
    assert_eq!(alice.closed().await.0, 1001);
    wire.send(rest).await;
    let response = wire.response().await;
    assert_eq!((response.status, response.body.trim_end()), (503, "draining"));
    assert_eq!(server.exit().await.code(), Some(0));
}

#[tokio::test]
async fn check_says_how_many_acceptors_there_are() {
    let checked = run(&["check", "--shards=17"], &[]).await;
    assert!(checked.stdout.contains("one for each of 17 shards and 2 acceptors"), "{}", checked.stdout);
    let checked = run(&["check", "--shards=1", "--acceptors=3"], &[]).await;
    assert!(checked.stdout.contains("one for each of 1 shard and 3 acceptors"), "{}", checked.stdout);
}

#[derive(Debug, PartialEq, Eq)]
enum End {
    Refused,
    ClosedForShutdown,
}

/// What becomes of a connection that has asked for an upgrade.
async fn end(mut wire: Wire) -> End {
    let response = wire.head().await;
    if response.status == 503 {
        return End::Refused;
    }
    assert_eq!(response.status, 101);
    loop {
        let heard = wire.frame().await.expect("a close before the end");
        if heard.opcode == CLOSE {
            assert_eq!(heard.payload[..2], 1001_u16.to_be_bytes());
            wire.send_anyway(frame(CLOSE, &heard.payload)).await;
            return End::ClosedForShutdown;
        }
    }
}

/// Waits until the shards have so many connections each.
async fn spreads(server: &Server, expected: &[u64]) {
    let mut seen = Vec::new();
    let name = format!("{expected:?} connections");
    eventually(&name, async || {
        seen = by_shard(server).await;
        seen == expected
    })
    .await;
}

/// How many connections each shard has.
async fn by_shard(server: &Server) -> Vec<u64> {
    let numbers = numbers(server).await;
    let of = |shard| numbers.get(&format!("uproar_shard_connections{{shard=\"{shard}\"}}")).copied();
    (0..).map_while(of).map(|connections| connections as u64).collect()
}
