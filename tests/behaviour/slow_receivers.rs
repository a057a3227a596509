//! Receivers that do not read: evicted, and nobody waits for them.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, timeout};
use tokio_tungstenite::tungstenite::Message;

use crate::harness::{CLOSE, Chat, Launch, Server, Socket, TEXT, Wire, frame, on_one_server};

on_one_server! {
    slow_reader_is_evicted_without_delaying_others,
    an_evicted_reader_finds_whole_messages_and_the_reason,
    an_evicted_reader_that_never_reads_is_cut_off,
    an_evicted_reader_that_reads_on_has_two_seconds_to_answer,
    a_slow_listener_is_evicted_from_a_topic,
    an_echo_that_is_not_read_ends_its_own_connection_alone,
    a_reader_within_its_queue_is_not_evicted,
}

async fn slow_reader_is_evicted_without_delaying_others(launch: Launch) {
    let server = narrow(launch).start();
    let [mut alice, mut bob] = Chat::members(&server).await;
    let slow = slow_member(&server, &mut [&mut alice, &mut bob]).await;
    let sockets = server.sockets();
    let leave = talk_until_leave(&mut alice, &mut bob).await;
    assert_eq!(leave["content"]["users_online"], 2);
    // Each word went to bob before the next was said, and all of them while the slow one held on.
    assert_eq!(server.sockets(), sockets);
    assert_eq!(alice.until("leave").await, leave);
    // It is said to leave once, even when it is finally cut off.
    drop(slow);
    let last = Chat::enter(&server).await;
    assert_eq!(bob.next().await["from_id"], last.id);
}

async fn an_evicted_reader_finds_whole_messages_and_the_reason(launch: Launch) {
    let server = narrow(launch).start();
    let [mut alice, mut bob] = Chat::members(&server).await;
    let mut slow = slow_member(&server, &mut [&mut alice, &mut bob]).await;
    // Read first, so that the socket has room for messages.
    for kind in ["welcome", "users", "history"] {
        assert!(slow.text().await.contains(&format!("{kind:?}")));
    }
    // Until it stops reading it hears what is said; of what comes then, nothing may have left when it is evicted.
    alice.say(json!({"type": "message", "content": "first"})).await;
    assert_eq!(bob.next().await["content"], "first");
    assert!(slow.text().await.contains("\"first\""));
    talk_until_leave(&mut alice, &mut bob).await;
    let (mut heard, mut is_told_to_return) = (0, false);
    loop {
        let next = slow.frame().await.expect("a close frame before the end");
        if next.opcode == CLOSE {
            assert_eq!(next.payload[..2], 1013_u16.to_be_bytes());
            assert_eq!(&next.payload[2..], b"slow consumer");
            assert!(is_told_to_return);
            break;
        }
        assert_eq!((next.opcode, next.is_final), (TEXT, true));
        let message: Value = serde_json::from_slice(&next.payload).unwrap();
        if message["type"] == "reconnect" {
            is_told_to_return = true;
            continue;
        }
        assert!(!is_told_to_return, "it is the last message");
        let word = message["content"].as_str().unwrap();
        assert!(word.starts_with(&format!("{heard} ")), "a gap before the end");
        heard += 1;
    }
}

async fn an_evicted_reader_that_never_reads_is_cut_off(launch: Launch) {
    let server = narrow(launch).start();
    let [mut alice, mut bob] = Chat::members(&server).await;
    let before = server.sockets();
    let _slow = slow_member(&server, &mut [&mut alice, &mut bob]).await;
    assert!(server.sockets() > before);
    talk_until_leave(&mut alice, &mut bob).await;
    let start = Instant::now();
    server.falls_to_sockets(before).await;
    // Five seconds, less what passed before the clock above was read.
    let elapsed = start.elapsed();
    assert!(elapsed.as_secs() >= 3, "cut off after {elapsed:?}");
}

async fn an_evicted_reader_that_reads_on_has_two_seconds_to_answer(launch: Launch) {
    let server = narrow(launch).start();
    let [mut alice, mut bob] = Chat::members(&server).await;
    let before = server.sockets();
    let mut slow = slow_member(&server, &mut [&mut alice, &mut bob]).await;
    talk_until_leave(&mut alice, &mut bob).await;
    assert_eq!(slow.close().await, (1013, "slow consumer".to_owned()));
    let start = Instant::now();
    slow.end().await;
    let waited = start.elapsed();
    assert!(waited >= Duration::from_millis(1500), "cut off after {waited:?}");
    server.falls_to_sockets(before).await;
}

async fn a_slow_listener_is_evicted_from_a_topic(launch: Launch) {
    let server = launch.flag("--send-queue", "64KiB").start();
    let mut listeners = Socket::listeners(&server, "/broadcast", 2).await;
    let before = server.sockets();
    let mut slow = Wire::connect_narrow(&server).await;
    slow.upgrade_to("/broadcast").await;
    slow.send(frame(TEXT, "here")).await;
    for listener in &mut listeners {
        assert_eq!(listener.text().await, "here");
    }
    let word = Message::binary(vec![7; 30_000]);
    // Three megabytes are many times what its queue and the kernel hold for the slow one.
    for _ in 0..100 {
        listeners[0].send(word.clone()).await;
        for listener in &mut listeners {
            assert!(listener.next().await == Some(word.clone()));
        }
    }
    // All of that was heard while the slow one held on.
    assert_eq!(server.sockets(), before + 1);
    server.falls_to_sockets(before).await;
}

async fn an_echo_that_is_not_read_ends_its_own_connection_alone(launch: Launch) {
    let server = launch.flag("--send-queue", "64KiB").start();
    let mut other = Socket::connect(&server, "/echo").await;
    let before = server.sockets();
    let mut slow = Wire::connect_narrow(&server).await;
    slow.upgrade_to("/echo").await;
    let word = frame(TEXT, "x".repeat(30_000));
    for n in 0..600 {
        // Nobody reads the echoes, so the server closes at some point, or stops to read.
        let sent = timeout(Duration::from_secs(1), slow.send_anyway(&word)).await;
        other.send(n.to_string()).await;
        assert_eq!(other.text().await, n.to_string());
        if sent.is_err() {
            break;
        }
    }
    slow.reset();
    server.falls_to_sockets(before).await;
}

async fn a_reader_within_its_queue_is_not_evicted(launch: Launch) {
    let server = launch.without_rate_limit().start();
    let [mut alice, mut bob] = Chat::members(&server).await;
    let mut slow = slow_member(&server, &mut [&mut alice, &mut bob]).await;
    // 900 KiB are below the default of a mebibyte, whatever the kernel holds beside it.
    alice.messages((0..90).map(|n| format!("{n} {}", "x".repeat(10_000)))).await;
    for _ in ["welcome", "users", "history"] {
        slow.text().await;
    }
    for n in 0..90 {
        let message: Value = serde_json::from_str(&slow.text().await).unwrap();
        assert!(message["content"].as_str().unwrap().starts_with(&format!("{n} ")));
    }
    alice.message("end").await;
    assert!(slow.text().await.contains("\"end\""));
}

pub(crate) fn narrow(launch: Launch) -> Launch {
    launch.without_rate_limit().flag("--send-queue", "64KiB").flag("--max-message", "32KiB")
}

/// A member of the room that reads nothing of what it is sent.
pub(crate) async fn slow_member(server: &Server, others: &mut [&mut Chat]) -> Wire {
    let mut wire = Wire::connect_narrow(server).await;
    wire.upgrade_to("/chat").await;
    for other in others {
        assert_eq!(other.next().await["type"], "join");
    }
    wire
}

/// One says word after word, each only once the other has heard the last, until someone leaves.
pub(crate) async fn talk_until_leave(speaker: &mut Chat, listener: &mut Chat) -> Value {
    let padding = "x".repeat(30_000);
    // The kernel holds a few mebibytes at most; 60 are enough for any.
    for said in 0..2000 {
        let word = format!("{said} {padding}");
        speaker.say(json!({"type": "message", "content": word})).await;
        let heard = listener.next().await;
        if heard["type"] == "leave" {
            assert_eq!(listener.next().await["content"], word);
            return heard;
        }
        assert_eq!(heard["content"], word);
    }
    panic!("the slow reader was never evicted");
}
