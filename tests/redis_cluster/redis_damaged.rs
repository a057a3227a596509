//! A key of Redis that has become something else, and one that somebody has changed.

use serde_json::json;

use crate::harness::{Chat, eventually};
use crate::nodes::{node, says, start_two};
use crate::redis::Redis;
use crate::room::{all_hear, history, one_on_each};

#[tokio::test]
async fn a_history_that_is_no_list_any_more_is_written_anew_from_memory() {
    let redis = Redis::start();
    let [a, b] = start_two(&redis);
    let [mut alice, mut bob] = one_on_each([&a, &b]).await;
    all_hear(&mut alice, &mut [&mut bob], "one").await;
    let key = "{uproar:0}:history:general";
    redis.command(&["SET", key, "a string"]);
    // The log has it, and so the nodes do, before Redis finds that it cannot add it to the history.
    all_hear(&mut alice, &mut [&mut bob], "two").await;
    says(&a, "what Redis has of a room is damaged; writing it anew").await;
    eventually("a list again", async || redis.command(&["TYPE", key]) == "list").await;
    eventually("no damage", async || redis.command(&["EXISTS", "{uproar:0}:damaged"]) == "0").await;
    all_hear(&mut bob, &mut [&mut alice], "three").await;

    // This node has nothing but what it reads from Redis.
    let c = node(&redis, "c").start();
    let mut carl = Chat::enter(&c).await;
    assert_eq!(history(&mut carl).await.contents(), ["one", "two", "three"]);
}

#[tokio::test]
async fn an_entry_that_does_not_fit_has_the_nodes_begin_anew_with_what_redis_has() {
    let redis = Redis::start();
    let [a, b] = start_two(&redis);
    let [mut alice, mut bob] = one_on_each([&a, &b]).await;
    all_hear(&mut alice, &mut [&mut bob], "one").await;
    let room = redis.command(&["HGET", "{uproar:0}:rooms", "general"]);
    let changed = room.replacen(" 1 ", " 500 ", 1);
    assert_ne!(changed, room);
    redis.command(&["HSET", "{uproar:0}:rooms", "general", &changed]);
    alice.say(json!({"type": "message", "content": "two"})).await;
    for (node, member) in [(&a, &mut alice), (&b, &mut bob)] {
        assert_eq!(member.closed_in_the_end().await.0, 1012);
        says(node, "this server serves again").await;
    }
    let [mut alice, mut bob] = one_on_each([&a, &b]).await;
    assert_eq!(history(&mut alice).await.messages.last(), Some(&(501, "two".to_owned())));
    assert_eq!(all_hear(&mut bob, &mut [&mut alice], "three").await, 502);
}
