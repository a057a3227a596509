//! What is not a message of the chat dialect, and the refusals it gets. The connection stays.

use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use crate::harness::{Chat, Launch, error, on_one_and_four_shards};

on_one_and_four_shards! {
    what_is_no_json_object_with_a_type_is_refused,
    binary_messages_are_refused,
    unknown_types_are_named_in_the_refusal,
    deep_nesting_is_survived,
    numbers_beyond_all_bounds_are_survived,
    repeated_keys_get_one_answer,
    refusals_are_told_to_their_sender_alone,
}

const INVALID: &str = "Invalid message format";

async fn what_is_no_json_object_with_a_type_is_refused(launch: Launch) {
    let server = launch.start();
    let mut alice = Chat::enter(&server).await;
    for text in [
        "",
        " ",
        "hello",
        "{",
        "{}",
        "[]",
        "null",
        "5",
        "\"message\"",
        r#"[{"type":"get_stats"}]"#,
        r#"["get_stats"]"#,
        r#"{"content":"no type"}"#,
        r#"{"Type":"get_stats"}"#,
        r#"{"type":5}"#,
        r#"{"type":null}"#,
        r#"{"type":["get_stats"]}"#,
        r#"{"type":{"get_stats":null}}"#,
        r#"{"type":"get_stats"} {"type":"get_stats"}"#,
        r#"{"type":"get_stats"},"#,
        r#"{"type":"get_stats",}"#,
        r#"{'type':'get_stats'}"#,
        r#"{type:"get_stats"}"#,
        "{\"type\":\"get_\nstats\"}",
        "{\"type\":\"get_stats\"}\0",
        r#"{"type":"get_stats""#,
        r#"{"type":"message","content":"\x"}"#,
        r#"{"type":"message","content":NaN}"#,
    ] {
        alice.send(text).await;
        assert_eq!(alice.next().await, error(INVALID), "{text:?}");
    }
    assert_lives(&mut alice).await;
}

async fn binary_messages_are_refused(launch: Launch) {
    let server = launch.start();
    let mut alice = Chat::enter(&server).await;
    for bytes in [&b""[..], b"\xff\0\xfe", br#"{"type":"get_stats"}"#] {
        alice.send(Message::binary(bytes.to_vec())).await;
        assert_eq!(alice.next().await, error(INVALID), "{bytes:?}");
    }
    assert_lives(&mut alice).await;
}

async fn unknown_types_are_named_in_the_refusal(launch: Launch) {
    let server = launch.start();
    let mut alice = Chat::enter(&server).await;
    for kind in [
        "",
        "nonsense",
        "Message",
        "message ",
        "welcome",
        "join",
        "leave",
        "login",
        "日本 \"\\\n\0",
        &"x".repeat(5000),
    ] {
        alice.say(json!({"type": kind, "content": "x"})).await;
        assert_eq!(alice.next().await, error(&format!("Unknown message type: {kind}")));
    }
    assert_lives(&mut alice).await;
}

async fn deep_nesting_is_survived(launch: Launch) {
    let server =
        launch.flag("--max-frame", "2MiB").flag("--max-message", "2MiB").flag("--send-queue", "4MiB").start();
    let mut alice = Chat::enter(&server).await;
    let depth = 100_000;
    let (open, close) = ("[".repeat(depth), "]".repeat(depth));
    let objects = r#"{"a":"#.repeat(depth);
    for text in [
        open.clone(),
        format!("{open}{close}"),
        objects,
        format!(r#"{{"type":{open}{close}}}"#),
        format!(r#"{{"type":"message","content":{open}{close}}}"#),
    ] {
        alice.send(text).await;
        assert_eq!(alice.next().await, error(INVALID));
    }
    // An unknown field is ignored, but nobody has to follow it down there.
    alice.send(format!(r#"{{"type":"get_stats","x":{open}{close}}}"#)).await;
    let answer = alice.next().await;
    assert!(answer["type"] == "stats" || answer == error(INVALID), "{answer}");
    assert_lives(&mut alice).await;
}

async fn numbers_beyond_all_bounds_are_survived(launch: Launch) {
    let server = launch.start();
    let mut alice = Chat::enter(&server).await;
    let digits = "9".repeat(5000);
    for number in ["1e999", "-1e999", "1e-999", "18446744073709551616", digits.as_str()] {
        alice.send(format!(r#"{{"type":"private_message","to_id":{number},"content":"x"}}"#)).await;
        let answer = alice.next().await;
        let refusals = [error(INVALID), error("User not found or offline")];
        assert!(refusals.contains(&answer), "{answer}");
        alice.send(format!(r#"{{"type":"get_stats","unknown":{number}}}"#)).await;
        let answer = alice.next().await;
        assert!(answer["type"] == "stats" || answer == error(INVALID), "{answer}");
        alice.send(format!(r#"{{"type":"get_users","offset":{number}}}"#)).await;
        let answer = alice.next().await;
        assert!(answer["type"] == "users" || answer == error(INVALID), "{answer}");
    }
    assert_lives(&mut alice).await;
}

/// JSON leaves the meaning of repeated keys open, so only the count of the answers is tested.
async fn repeated_keys_get_one_answer(launch: Launch) {
    let server = launch.start();
    let mut alice = Chat::enter(&server).await;
    for text in [
        r#"{"type":"get_stats","type":"get_rooms"}"#,
        r#"{"type":"get_stats","type":5}"#,
        r#"{"type":"message","content":"one","content":"two"}"#,
        r#"{"type":"get_users","limit":1,"limit":2}"#,
    ] {
        alice.send(text).await;
        let answer = alice.next().await;
        let kinds = ["stats", "rooms", "message_sent", "users", "error"];
        assert!(kinds.iter().any(|kind| answer["type"] == *kind), "{answer}");
        assert_lives(&mut alice).await;
    }
}

async fn refusals_are_told_to_their_sender_alone(launch: Launch) {
    let server = launch.start();
    let [mut alice, mut bob] = Chat::members(&server).await;
    alice.send("nonsense").await;
    assert_eq!(alice.next().await, error(INVALID));
    alice.message("sense").await;
    assert_eq!(bob.next().await["content"], "sense");
}

/// The next question gets the next answer.
async fn assert_lives(chat: &mut Chat) {
    chat.say(json!({"type": "set_name", "name": ""})).await;
    let answer: Value = chat.next().await;
    assert_eq!(answer, error("Invalid name (1-20 characters required)"));
}
