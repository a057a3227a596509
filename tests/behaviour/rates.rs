//! How fast one connection may talk.

use serde_json::{Value, json};
use tokio::time::{Duration, Instant, interval};
use tokio_tungstenite::tungstenite::Message;

use crate::harness::{Chat, Launch, Socket, error, on_one_server};

on_one_server! {
    past_the_burst_each_message_is_refused,
    a_dropped_message_reaches_nobody,
    the_allowance_refills,
    a_hundred_messages_may_come_at_once_by_default,
    refused_messages_count,
    control_frames_do_not_count,
    each_connection_has_its_own_allowance,
    raw_and_echo_have_no_limit,
    answers_are_limited_in_bytes,
    many_ordinary_joins_in_a_row_are_answered,
}

const TOO_MANY: &str = "Too many messages";

async fn past_the_burst_each_message_is_refused(launch: Launch) {
    let server = slow(launch).start();
    let mut alice = Chat::enter(&server).await;
    alice.burst(questions(10)).await;
    let (answered, refused) = answers(&mut alice, 10).await;
    assert_eq!((answered, refused), (5, 5));
}

async fn a_dropped_message_reaches_nobody(launch: Launch) {
    let server = slow(launch).start();
    let [mut alice, mut bob] = Chat::members(&server).await;
    alice.burst((0..8).map(|n| json!({"type": "message", "content": n.to_string()}))).await;
    for n in 0..5 {
        assert_eq!(bob.next().await["content"], n.to_string());
    }
    bob.message("enough").await;
    let mut kinds = Vec::new();
    for _ in 0..9 {
        kinds.push(alice.next().await["type"].clone());
    }
    kinds.sort_by_key(Value::to_string);
    let expected = [vec!["error"; 3], vec!["message"], vec!["message_sent"; 5]].concat();
    assert_eq!(kinds, expected);
}

async fn the_allowance_refills(launch: Launch) {
    let server = launch.flag("--rate", 2).flag("--burst", 3).start();
    let mut alice = Chat::enter(&server).await;
    let start = Instant::now();
    alice.burst(questions(5)).await;
    assert_eq!(answers(&mut alice, 5).await, (3, 2));
    // The refused ones cost nothing, so that asking again and again earns an answer.
    let mut pace = interval(Duration::from_millis(50));
    let mut earned = 0;
    for _ in 0..200 {
        pace.tick().await;
        alice.burst(questions(1)).await;
        earned += answers(&mut alice, 1).await.0;
        if earned == 2 {
            // Half a second each, less what a clock of milliseconds rounds off.
            let elapsed = start.elapsed();
            assert!(elapsed >= Duration::from_millis(990), "two earned within {elapsed:?}");
            return;
        }
    }
    panic!("{earned} of two answers earned within ten seconds");
}

async fn a_hundred_messages_may_come_at_once_by_default(launch: Launch) {
    let server = launch.start();
    let mut alice = Chat::enter(&server).await;
    alice.burst(questions(200)).await;
    let (answered, _) = answers(&mut alice, 200).await;
    // What the server takes to read them earns some more.
    assert!((100..150).contains(&answered), "{answered} of 200 answered");
}

async fn refused_messages_count(launch: Launch) {
    let server = slow(launch).start();
    let mut alice = Chat::enter(&server).await;
    let refused = ["nonsense".into(), "[]".into(), Message::binary(vec![0]), "{}".into()];
    alice.socket().send_all(refused).await;
    alice.send("x".repeat(20_000)).await;
    for _ in 0..4 {
        assert_eq!(alice.next().await, error("Invalid message format"));
    }
    assert_eq!(alice.next().await, error("Message too large"));
    alice.say(json!({"type": "get_stats"})).await;
    assert_eq!(alice.next().await, error(TOO_MANY));
}

async fn control_frames_do_not_count(launch: Launch) {
    let server = slow(launch).start();
    let mut alice = Chat::enter(&server).await;
    let controls = (0..50).flat_map(|_| [Message::Ping("?".into()), Message::Pong("!".into())]);
    alice.socket().send_all(controls).await;
    alice.burst(questions(5)).await;
    let mut answered = 0;
    while answered < 5 {
        match alice.socket().next().await.unwrap() {
            Message::Pong(_) => {}
            Message::Text(text) => {
                assert!(text.contains("\"stats\""), "{text}");
                answered += 1;
            }
            other => panic!("{other:?}"),
        }
    }
}

async fn each_connection_has_its_own_allowance(launch: Launch) {
    let server = slow(launch).start();
    let [mut alice, mut bob] = Chat::members(&server).await;
    alice.burst(questions(20)).await;
    bob.burst(questions(5)).await;
    assert_eq!(answers(&mut bob, 5).await, (5, 0));
    assert_eq!(answers(&mut alice, 20).await, (5, 15));
}

async fn raw_and_echo_have_no_limit(launch: Launch) {
    let server = launch.start();
    for path in ["/echo", "/broadcast"] {
        let mut socket = Socket::connect(&server, path).await;
        let words = (0..2000).map(|n| Message::text(n.to_string()));
        socket.send_all(words).await;
        for n in 0..2000 {
            assert_eq!(socket.text().await, n.to_string());
        }
    }
}

async fn answers_are_limited_in_bytes(launch: Launch) {
    let server = launch.start();
    let mut alice = Chat::enter(&server).await;
    // The longest history that there is by default: nearly a mebibyte.
    alice.messages((0..100).map(|n| format!("{n} {}", "x".repeat(9_000)))).await;
    let mut bob = Chat::enter(&server).await;
    let start = Instant::now();
    let (mut answered, mut refused) = (0, 0);
    // One after the other, so that no queue and no rate stands in the way.
    let mut pace = interval(Duration::from_millis(25));
    for _ in 0..40 {
        pace.tick().await;
        bob.say(json!({"type": "resume", "room": "general", "after": 0})).await;
        let answer = bob.next().await;
        if answer == error(TOO_MANY) {
            refused += 1;
            continue;
        }
        assert_eq!(answer["type"], "room_joined");
        for kind in ["users", "history"] {
            assert_eq!(bob.next().await["type"], kind);
        }
        answered += 1;
    }
    let seconds = start.elapsed().as_secs();
    assert!((8..=11 + 2 * seconds).contains(&answered), "{answered} of 40 answered in {seconds} s");
    assert_eq!(answered + refused, 40);
    // What is no list is answered, and a newcomer is told everything.
    alice.burst(questions(1)).await;
    assert_eq!(alice.until("stats").await["type"], "stats");
    bob.burst(questions(1)).await;
    assert_eq!(bob.next().await["type"], "stats");
    Chat::enter(&server).await;
}

async fn many_ordinary_joins_in_a_row_are_answered(launch: Launch) {
    let server = launch.start();
    let mut alice = Chat::enter(&server).await;
    alice.messages((0..20).map(|n| format!("{n} {}", "x".repeat(300)))).await;
    for n in 0..60 {
        alice.move_to(["random", "general"][n % 2]).await;
    }
}

/// So slow that nothing is earned back while a test runs.
fn slow(launch: Launch) -> Launch {
    launch.flag("--rate", 1).flag("--burst", 5)
}

fn questions(count: usize) -> impl Iterator<Item = Value> {
    std::iter::repeat_n(json!({"type": "get_stats"}), count)
}

/// Sorts answers into those to the question and those that refuse it.
async fn answers(chat: &mut Chat, count: usize) -> (usize, usize) {
    let (mut answered, mut refused) = (0, 0);
    for _ in 0..count {
        let answer = chat.next().await;
        if answer["type"] == "stats" {
            answered += 1;
        } else {
            assert_eq!(answer, error(TOO_MANY));
            refused += 1;
        }
    }
    (answered, refused)
}
