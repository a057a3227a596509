//! Clients that vanish at any byte, and clients that send nonsense.

use std::collections::HashSet;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::json;

use crate::harness::{
    CLOSE, Chat, Header, Launch, Server, TEXT, Wire, eventually, frame, on_one_server, upgrade_request,
};

on_one_server! {
    a_client_may_vanish_at_every_byte_of_the_handshake,
    a_client_may_vanish_at_every_byte_of_a_frame,
    garbage_instead_of_a_request_harms_nobody,
    garbage_instead_of_frames_harms_nobody,
    garbage_within_frames_harms_nobody,
    a_client_may_leave_while_it_joins,
}

async fn a_client_may_vanish_at_every_byte_of_the_handshake(launch: Launch) {
    let server = launch.start();
    let [mut alice, mut bob] = Chat::members(&server).await;
    let sockets = server.sockets();
    let request = upgrade_request("/echo");
    for end in 0..=request.len() {
        for with_reset in [false, true] {
            let mut wire = Wire::connect(&server).await;
            wire.send(&request[..end]).await;
            if with_reset {
                wire.reset();
            }
        }
    }
    assert_unharmed(&server, sockets, &mut alice, &mut bob).await;
}

async fn a_client_may_vanish_at_every_byte_of_a_frame(launch: Launch) {
    let server = launch.start();
    let [mut alice, mut bob] = Chat::members(&server).await;
    let sockets = server.sockets();
    let mut bytes = frame(TEXT, r#"{"type":"get_rooms"}"#);
    bytes.extend(frame(CLOSE, 1000_u16.to_be_bytes()));
    for end in 0..=bytes.len() {
        for with_reset in [false, true] {
            let mut wire = Wire::upgrade(&server, "/chat").await;
            wire.send(&bytes[..end]).await;
            if with_reset {
                wire.reset();
            }
        }
    }
    assert_each_join_has_its_leave(&server, sockets, &mut alice, &mut bob).await;
}

async fn garbage_instead_of_a_request_harms_nobody(launch: Launch) {
    let server = launch.start();
    let [mut alice, mut bob] = Chat::members(&server).await;
    let sockets = server.sockets();
    let mut random = random();
    for _ in 0..100 {
        let mut garbage = bytes(&mut random, 12_000);
        if random.random_bool(0.5) {
            // Something that begins well gets further.
            let request = upgrade_request("/chat");
            // Without the end of its last field: a line end in what follows would complete it.
            let kept = random.random_range(0..request.len() - 4);
            garbage = [&request.as_bytes()[..kept], &garbage].concat();
        }
        let mut wire = Wire::connect(&server).await;
        wire.send_anyway(garbage).await;
        if random.random_bool(0.5) {
            wire.reset();
        }
    }
    assert_unharmed(&server, sockets, &mut alice, &mut bob).await;
}

async fn garbage_instead_of_frames_harms_nobody(launch: Launch) {
    let server = launch.start();
    let [mut alice, mut bob] = Chat::members(&server).await;
    let sockets = server.sockets();
    let mut random = random();
    for n in 0..120 {
        let path = ["/echo", "/broadcast/garbage", "/broadcast"][n % 3];
        let mut wire = Wire::upgrade(&server, path).await;
        wire.send_anyway(bytes(&mut random, 5000)).await;
    }
    assert_unharmed(&server, sockets, &mut alice, &mut bob).await;
}

/// Valid frames carry nonsense to the dialects.
async fn garbage_within_frames_harms_nobody(launch: Launch) {
    let server = launch.without_rate_limit().start();
    let [mut alice, mut bob] = Chat::members(&server).await;
    let sockets = server.sockets();
    let mut random = random();
    let samples = [
        r#"{"type":"message","content":"x"}"#,
        r#"{"type":"set_name","name":"x"}"#,
        r#"{"type":"private_message","to_id":1,"content":"x"}"#,
        r#"{"type":"get_users","offset":0,"limit":10}"#,
        r#"{"type":"join_room","room":"general"}"#,
    ];
    for n in 0..60 {
        let path = ["/chat", "/echo", "/broadcast"][n % 3];
        let mut wire = Wire::upgrade(&server, path).await;
        let mut sent = Vec::new();
        for _ in 0..50 {
            let mut payload = samples[random.random_range(0..samples.len())].as_bytes().to_vec();
            for _ in 0..random.random_range(0..4) {
                let place = random.random_range(0..payload.len());
                // ASCII, so that most of it is text and reaches the dialect.
                payload[place] = random.random_range(0..128);
            }
            let header =
                Header { is_final: random.random_bool(0.95), ..Header::of(random.random_range(0..3)) };
            sent.extend(if random.random_bool(0.9) { frame(TEXT, payload) } else { header.with(&payload) });
        }
        wire.send_anyway(sent).await;
    }
    server.falls_to_sockets(sockets).await;
    // What got through by luck was news to both; this is the last of it.
    alice.say(json!({"type": "message", "content": "the end"})).await;
    while bob.next().await["content"] != "the end" {}
}

/// Whoever leaves before it was told that it has joined still leaves nothing behind.
async fn a_client_may_leave_while_it_joins(launch: Launch) {
    let server = launch.start();
    let [mut alice, mut bob] = Chat::members(&server).await;
    let sockets = server.sockets();
    for n in 0..50 {
        let mut wire = Wire::connect(&server).await;
        wire.send(upgrade_request("/chat")).await;
        match n % 3 {
            0 => wire.reset(),
            1 => drop(wire),
            _ => wire.send(frame(CLOSE, 1000_u16.to_be_bytes())).await,
        }
    }
    assert_each_join_has_its_leave(&server, sockets, &mut alice, &mut bob).await;
}

/// Whoever vanished before it was a member need not be announced at all, but nobody stays.
async fn assert_each_join_has_its_leave(server: &Server, sockets: usize, alice: &mut Chat, bob: &mut Chat) {
    server.falls_to_sockets(sockets).await;
    eventually("they are members no longer", async || {
        alice.say(json!({"type": "get_users"})).await;
        alice.until("users").await["content"].as_array().unwrap().len() == 2
    })
    .await;
    alice.say(json!({"type": "message", "content": "the end"})).await;
    let mut there = HashSet::new();
    loop {
        let event = bob.next().await;
        let id = event["content"]["user_id"].as_u64();
        match event["type"].as_str().unwrap() {
            "join" => assert!(there.insert(id), "{event} again"),
            "leave" => assert!(there.remove(&id), "{event} without a join"),
            _ => break,
        }
    }
    assert!(there.is_empty(), "{there:?} never left");
}

async fn assert_unharmed(server: &Server, sockets: usize, alice: &mut Chat, bob: &mut Chat) {
    server.falls_to_sockets(sockets).await;
    alice.message("still here?").await;
    assert_eq!(bob.next().await["content"], "still here?");
}

/// Randomness that a failure can be repeated with: its seed is printed.
fn random() -> StdRng {
    let seed = match std::env::var("SEED") {
        Ok(seed) => seed.parse().expect("SEED is a number"),
        Err(_) => rand::random(),
    };
    println!("SEED={seed}");
    StdRng::seed_from_u64(seed)
}

fn bytes(random: &mut StdRng, length_max: usize) -> Vec<u8> {
    let length = random.random_range(1..length_max);
    (0..length).map(|_| random.random()).collect()
}
