//! `reconnect`: chat members whom the server closes are told when to come back. Evicted ones, and shutdowns with gates and
//! over TLS, are tested where they are: `slow_receivers`, `shutdown`.

use std::collections::BTreeSet;

use rustix::process::Signal;
use serde_json::json;
use tokio::time::Instant;

use crate::harness::{
    AccountFile, CLOSE, Chat, Hub, Launch, PING, Server, Socket, TEXT, Wire, after_ms_of, frame,
    on_one_and_four_shards_only, password_of,
};

on_one_and_four_shards_only! {
    members_of_a_shutdown_return_one_after_the_other,
    a_silent_member_is_told_when_to_return,
    only_members_of_the_chat_dialect_are_told,
    a_member_that_is_kicked_is_not_told,
}

/// Reads to the close, and returns the text ahead of it and the code.
async fn last_words(wire: &mut Wire) -> (String, u16) {
    let mut last = String::new();
    loop {
        let next = wire.frame().await.expect("a close frame before the end");
        match next.opcode {
            CLOSE => {
                wire.send_anyway(frame(CLOSE, &next.payload)).await;
                return (last, u16::from_be_bytes([next.payload[0], next.payload[1]]));
            }
            TEXT => last = String::from_utf8(next.payload).unwrap(),
            _ => assert_eq!(next.opcode, PING),
        }
    }
}

async fn enter(server: &Server) -> Wire {
    let mut wire = Wire::upgrade(server, "/chat").await;
    while !wire.text().await.contains("\"history\"") {}
    wire
}

async fn members_of_a_shutdown_return_one_after_the_other(launch: Launch) {
    const MEMBERS: u64 = 400;
    let mut server = launch.flag("--drain-timeout", "60s").start();
    let mut members = Vec::new();
    for _ in 0..MEMBERS {
        members.push(enter(&server).await);
    }
    let start = Instant::now();
    server.signal(Signal::TERM);
    let mut delays = Vec::new();
    for member in &mut members {
        let (last, code) = last_words(member).await;
        assert_eq!(code, 1001);
        delays.push(after_ms_of(&last));
    }
    // The last of them returns when all others have had a slot, of which there are 1,000 in a second.
    let drained_ms = start.elapsed().as_millis() as u64;
    let last_ms = delays.iter().max().unwrap();
    assert!(last_ms + drained_ms + 1 >= MEMBERS, "{last_ms} ms, {drained_ms} ms after the signal");
    assert!(*last_ms < MEMBERS, "nobody waits for a slot that nobody has");
    // A shard closes 50 at least in one moment, and each of those has a slot of its own.
    let distinct: BTreeSet<_> = delays.iter().collect();
    assert!(distinct.len() >= 50, "{distinct:?}");
    assert_eq!(server.exit().await.code(), Some(0));
}

async fn a_silent_member_is_told_when_to_return(launch: Launch) {
    let server = launch.flag("--ping-interval", "200ms").flag("--idle-timeout", "2s").start();
    let mut wire = enter(&server).await;
    let (last, code) = last_words(&mut wire).await;
    assert_eq!((after_ms_of(&last), code), (0, 1001), "nobody else was closed");
}

async fn only_members_of_the_chat_dialect_are_told(launch: Launch) {
    let accounts = AccountFile::of(&["Ann"], &[]).await;
    let data = accounts.path().display();
    let mut server = launch.flag("--auth", "required").flag("--data", data).start();
    // It has not signed in, and is no member yet.
    let mut visitor = Chat::connect(&server).await;
    visitor.say(json!({"type": "get_rooms"})).await;
    assert_eq!(visitor.next().await["type"], "error");
    server.signal(Signal::TERM);
    assert_eq!(visitor.socket().closed().await.0, 1001);
    assert_eq!(server.exit().await.code(), Some(0));

    let mut server = Launch::with_shards(1).start();
    let mut bea = Hub::enter(&server, "Bea").await;
    let mut sockets = Socket::listeners(&server, "/broadcast", 1).await;
    sockets.push(Socket::connect(&server, "/echo").await);
    server.signal(Signal::TERM);
    assert_eq!(bea.closed().await.0, 1001);
    for socket in &mut sockets {
        assert_eq!(socket.closed().await.0, 1001);
    }
    assert_eq!(server.exit().await.code(), Some(0));
}

async fn a_member_that_is_kicked_is_not_told(launch: Launch) {
    let accounts = AccountFile::of(&[], &["Boss"]).await;
    let server = launch.flag("--data", accounts.path().display()).start();
    let [mut boss, mut ann] = Chat::members(&server).await;
    boss.say(json!({"type": "auth", "username": "Boss", "password": password_of("Boss")})).await;
    boss.until("auth_success").await;
    ann.until("user_renamed").await;
    boss.say(json!({"type": "kick", "target_id": ann.id})).await;
    assert_eq!(ann.next().await["type"], "kicked");
    assert_eq!(ann.closed().await.0, 1008);
}
