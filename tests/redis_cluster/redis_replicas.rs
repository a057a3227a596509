//! Messages that a replica must have before they are acknowledged.

use rustix::process::Signal;
use serde_json::json;

use crate::harness::eventually;
use crate::nodes::{node, start};
use crate::redis::Redis;
use crate::room::{all_hear, next_message, one_on_each};

#[tokio::test]
async fn a_message_is_acknowledged_once_a_replica_has_it_and_seen_before() {
    let (primary, port) = Redis::start_primary();
    let (replica, _) = Redis::follow(port).await;
    let [a, b] = start(["a", "b"].map(|name| node(&primary, name).flag("--redis-replicas", 1)));
    let [mut alice, mut anna, mut bob] = one_on_each([&a, &a, &b]).await;
    let first = all_hear(&mut alice, &mut [&mut anna, &mut bob], "both").await;

    replica.signal(Signal::STOP);
    alice.say(json!({"type": "message", "content": "one"})).await;
    for other in [&mut anna, &mut bob] {
        assert_eq!(next_message(other).await, (first + 1, "one".to_owned()));
    }
    // Her node has it. Without replicas it would have acknowledged it before this answer.
    alice.say(json!({"type": "get_stats"})).await;
    assert_eq!(alice.next().await["type"], "stats");
    replica.signal(Signal::CONT);
    let sent = alice.next().await;
    assert_eq!((&sent["type"], &sent["content"]["message_id"]), (&json!("message_sent"), &json!(first + 1)));
    all_hear(&mut bob, &mut [&mut alice, &mut anna], "two").await;
}

#[tokio::test]
async fn a_message_to_a_room_that_was_forgotten_meanwhile_is_acknowledged_as_well() {
    let (primary, port) = Redis::start_primary();
    let (replica, _) = Redis::follow(port).await;
    let [a, b] = start(["a", "b"].map(|name| {
        let launch = node(&primary, name).flag("--redis-replicas", 1);
        launch.flag("--room-pattern", "tea-*").flag("--room-ttl", "1s")
    }));
    let [mut alice, mut bob] = one_on_each([&a, &b]).await;
    alice.move_to("tea-1").await;
    replica.signal(Signal::STOP);
    alice.say(json!({"type": "message", "content": "one"})).await;
    alice.say(json!({"type": "join_room", "room": "general"})).await;
    // The room has no members any more, and is forgotten.
    eventually("it is forgotten", async || {
        bob.say(json!({"type": "get_rooms", "prefix": "tea-"})).await;
        bob.until("rooms").await["content"].as_array().unwrap().is_empty()
    })
    .await;
    replica.signal(Signal::CONT);
    assert_eq!(alice.until("message_sent").await["content"]["message_id"], 1);
    assert_eq!(alice.until("room_joined").await["content"]["room"], "general");
}
