//! Long histories: what a join sends may exceed the send queue's limit, however often one joins.

use serde_json::{Value, json};

use crate::harness::{Chat, Launch, Server, TEXT, Wire, frame, on_one_and_four_shards};

on_one_and_four_shards! {
    a_slow_newcomer_that_joins_again_at_once_gets_both_histories,
    a_slow_newcomer_that_resumes_at_once_gets_both_histories,
    joins_in_one_segment_are_all_answered,
}

const WORDS: usize = 1200;

async fn a_slow_newcomer_that_joins_again_at_once_gets_both_histories(launch: Launch) {
    let join = json!({"type": "join_room", "room": "general"});
    let joined = newcomer_that_says_at_once(launch, join).await;
    assert_eq!(joined["complete"], Value::Null);
}

async fn a_slow_newcomer_that_resumes_at_once_gets_both_histories(launch: Launch) {
    let resume = json!({"type": "resume", "room": "general", "after": 0});
    let resumed = newcomer_that_says_at_once(launch, resume).await;
    assert_eq!(resumed["complete"], true);
}

/// Reads slowly, right after asking for the history that it is about to get once more. Returns
/// what it got the second time. Its queue holds a tenth of one history.
async fn newcomer_that_says_at_once(launch: Launch, request: Value) -> Value {
    let (server, mut alice) = talkative(launch).await;
    let mut wire = Wire::connect_narrow(&server).await;
    wire.upgrade_to("/chat").await;
    assert_eq!(next(&mut wire).await["type"], "welcome");
    wire.send(frame(TEXT, request.to_string())).await;
    assert_eq!(alice.until("join").await["content"]["users_online"], 2);
    // It reads at its leisure: others talk to the server meanwhile.
    for round in 0..20 {
        alice.say(json!({"type": "get_stats"})).await;
        assert_eq!(alice.next().await["type"], "stats", "{round}");
        assert!(wire.receive().await, "the connection is open");
    }
    assert_eq!(next(&mut wire).await["type"], "users");
    assert_whole_history(&next(&mut wire).await);
    let history = assert_joined(&mut wire).await;
    // It is a member like any other.
    alice.message("the end").await;
    assert_eq!(next(&mut wire).await["content"], "the end");
    history
}

async fn joins_in_one_segment_are_all_answered(launch: Launch) {
    let (server, mut alice) = talkative(launch).await;
    let mut wire = Wire::upgrade(&server, "/chat").await;
    for kind in ["welcome", "users", "history"] {
        assert_eq!(next(&mut wire).await["type"], kind);
    }
    let join = frame(TEXT, json!({"type": "join_room", "room": "general"}).to_string());
    wire.send(join.repeat(6)).await;
    for _ in 0..6 {
        assert_joined(&mut wire).await;
    }
    assert_eq!(alice.until("join").await["content"]["users_online"], 2);
    alice.message("the end").await;
    assert_eq!(next(&mut wire).await["content"], "the end");
}

/// A server whose room keeps more than a mebibyte, and who said all that.
async fn talkative(launch: Launch) -> (Server, Chat) {
    let launch = launch.without_rate_limit().flag("--history", 1500);
    let server = launch.flag("--send-queue", "128KiB").flag("--max-frame", "64KiB").start();
    let mut alice = Chat::enter(&server).await;
    let padding = "x".repeat(900);
    alice.messages((0..WORDS).map(|n| format!("{n} {padding}"))).await;
    (server, alice)
}

/// The answer to joining one's own room, whole and in order.
async fn assert_joined(wire: &mut Wire) -> Value {
    assert_eq!(next(wire).await["type"], "room_joined");
    assert_eq!(next(wire).await["type"], "users");
    let history = next(wire).await;
    assert_whole_history(&history);
    history
}

fn assert_whole_history(history: &Value) {
    assert_eq!(history["type"], "history");
    let words = history["content"].as_array().unwrap();
    assert_eq!(words.len(), WORDS);
    for (n, word) in words.iter().enumerate() {
        let content = word["content"].as_str().unwrap();
        assert!(content.starts_with(&format!("{n} ")), "{content} is at {n}");
    }
}

async fn next(wire: &mut Wire) -> Value {
    serde_json::from_str(&wire.whole_text().await).unwrap()
}
