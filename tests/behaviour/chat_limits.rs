//! The limits of a chat message's size.

use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use crate::harness::{CONTINUATION, Chat, Launch, TEXT, Wire, error, frame, on_one_and_four_shards, part};

on_one_and_four_shards! {
    a_message_of_the_limit_passes_and_a_byte_more_does_not,
    the_limit_can_be_set,
    the_limit_counts_bytes_of_the_whole_text,
    whatever_is_over_the_limit_is_too_large,
    fragments_are_measured_as_the_message_they_make,
    a_message_over_the_frame_limit_ends_the_connection,
}

const TOO_LARGE: &str = "Message too large";

async fn a_message_of_the_limit_passes_and_a_byte_more_does_not(launch: Launch) {
    let server = launch.start();
    check_limit(&mut Chat::members(&server).await, 10_240).await;
}

async fn the_limit_can_be_set(launch: Launch) {
    let server = launch.flag("--max-message", "1KiB").start();
    check_limit(&mut Chat::members(&server).await, 1024).await;
}

async fn the_limit_counts_bytes_of_the_whole_text(launch: Launch) {
    let server = launch.start();
    let mut alice = Chat::enter(&server).await;
    let spaces = " ".repeat(10_240);
    alice.send(format!(r#"{{"type":"get_stats"}}{spaces}"#)).await;
    assert_eq!(alice.next().await, error(TOO_LARGE));
    // 3,500 characters of three bytes each.
    alice.say(json!({"type": "message", "content": "日".repeat(3500)})).await;
    assert_eq!(alice.next().await, error(TOO_LARGE));
    // A JSON escape makes a short content long on the wire.
    let escaped = r"\u0041".repeat(2000);
    alice.send(format!(r#"{{"type":"message","content":"{escaped}"}}"#)).await;
    assert_eq!(alice.next().await, error(TOO_LARGE));
}

async fn whatever_is_over_the_limit_is_too_large(launch: Launch) {
    let server = launch.start();
    let mut alice = Chat::enter(&server).await;
    alice.send("x".repeat(10_241)).await;
    assert_eq!(alice.next().await, error(TOO_LARGE));
    alice.send("x".repeat(65_536)).await;
    assert_eq!(alice.next().await, error(TOO_LARGE));
    // Two refusals apply to a large binary message.
    alice.send(Message::binary(vec![b'x'; 10_241])).await;
    let answer = alice.next().await;
    assert!([error(TOO_LARGE), error("Invalid message format")].contains(&answer), "{answer}");
    alice.message("small").await;
}

async fn fragments_are_measured_as_the_message_they_make(launch: Launch) {
    let server = launch.start();
    let mut wire = Wire::upgrade(&server, "/chat").await;
    for kind in ["welcome", "users", "history"] {
        assert!(wire.text().await.contains(&format!("{kind:?}")));
    }
    for (length, answer) in [(10_240, "\"message_sent\""), (10_241, TOO_LARGE), (10_240, "\"message_sent\"")]
    {
        let message = message_of(length);
        let (first, rest) = message.split_at(6000);
        let (second, last) = rest.split_at(4000);
        let parts = [part(TEXT, first), part(CONTINUATION, second), frame(CONTINUATION, last)];
        wire.send(parts.concat()).await;
        let text = wire.text().await;
        assert!(text.contains(answer), "{length}: {text}");
    }
}

async fn a_message_over_the_frame_limit_ends_the_connection(launch: Launch) {
    let server = launch.start();
    let mut alice = Chat::enter(&server).await;
    alice.send("x".repeat(65_537)).await;
    assert_eq!(alice.closed().await.0, 1009);
}

async fn check_limit([alice, bob]: &mut [Chat; 2], limit: usize) {
    for length in [limit - 1, limit, limit + 1, limit] {
        let message = message_of(length);
        alice.send(message.clone()).await;
        let answer = alice.next().await;
        if length > limit {
            assert_eq!(answer, error(TOO_LARGE));
        } else {
            assert_eq!(answer["type"], "message_sent", "{length}");
            let sent: Value = serde_json::from_str(&message).unwrap();
            assert_eq!(bob.next().await["content"], sent["content"]);
        }
    }
}

/// A valid message of exactly `length` bytes.
fn message_of(length: usize) -> String {
    let bare = r#"{"type":"message","content":""}"#;
    let content = "x".repeat(length - bare.len());
    format!(r#"{{"type":"message","content":"{content}"}}"#)
}
