//! A Redis that somebody gets in the way of: it is paused, its clients are killed, its scripts are forgotten, it is full.

use serde_json::json;

use crate::harness::error;
use crate::nodes::start_two;
use crate::redis::Redis;
use crate::room::{all_hear, history, next_message, one_on_each};

#[tokio::test]
async fn what_an_administrator_does_to_it_delays_messages_and_loses_none() {
    let redis = Redis::start();
    let [a, b] = start_two(&redis);
    let [mut alice, mut bob] = one_on_each([&a, &b]).await;
    let before = history(&mut bob).await;
    let mut said = Vec::new();
    for command in [
        &["CLIENT", "PAUSE", "1500", "ALL"][..],
        &["CLIENT", "PAUSE", "1500", "WRITE"],
        &["SCRIPT", "FLUSH"],
        &["CLIENT", "KILL", "TYPE", "normal"],
    ] {
        redis.command(command);
        // Where a line has just gone, a message may wait for the next one, but not for so long that it is refused.
        said.push(command.join(" "));
        all_hear(&mut alice, &mut [&mut bob], &said[said.len() - 1]).await;
    }
    let after = history(&mut bob).await;
    assert_eq!((after.contents(), &after.epoch), (said.iter().map(String::as_str).collect(), &before.epoch));
}

#[tokio::test]
async fn a_full_one_has_messages_refused_and_takes_them_again_once_it_has_room() {
    let redis = Redis::start();
    let [a, b] = start_two(&redis);
    let [mut alice, mut bob] = one_on_each([&a, &b]).await;
    let first = all_hear(&mut alice, &mut [&mut bob], "before").await;
    redis.command(&["CONFIG", "SET", "maxmemory", "1"]);
    // For longer than the 10 s for which a node may be without an answer: this one has answers.
    for _ in 0..5 {
        alice.say(json!({"type": "message", "content": "too much"})).await;
        assert_eq!(alice.next().await, error("Message could not be stored"));
    }
    // Who is there stays, and reads.
    assert_eq!(history(&mut bob).await.contents(), ["before"]);
    redis.command(&["CONFIG", "SET", "maxmemory", "0"]);
    // It is tried again from time to time.
    let id = loop {
        bob.say(json!({"type": "message", "content": "after"})).await;
        let answer = bob.next().await;
        if answer["type"] == "message_sent" {
            break answer["content"]["message_id"].as_u64().unwrap();
        }
        assert_eq!(answer, error("Message could not be stored"));
    };
    assert_eq!(id, first + 1);
    assert_eq!(next_message(&mut alice).await, (id, "after".to_owned()));
}
