//! The program publishes.

use futures_util::FutureExt as _;
use serde_json::json;
use tungstenite::Message as Frame;
use uproar::api::{Message, PublishError};

use crate::{Client, PATIENCE, small, start};

#[tokio::test]
async fn messages_reach_rooms_in_their_order() {
    let server = start(small());
    let mut member = Client::enter(server.local_addr());
    let first = server.publish("general", "one").await.unwrap();
    let from_shop = Message::text("two").from_name("Shop").from_account("shop-7");
    let second = server.publish("general", from_shop).await.unwrap();
    assert_eq!(second.message_id.0, first.message_id.0 + 1);
    assert_eq!(second.epoch, first.epoch);
    let (one, two) = (member.until("message"), member.until("message"));
    assert_eq!(
        (&one["content"], &one["from_id"], &one["from_name"]),
        (&json!("one"), &json!(0), &json!("System"))
    );
    assert_eq!((&two["from_name"], &two["from_account"]), (&json!("Shop"), &json!("shop-7")));
}

#[tokio::test]
async fn a_room_that_matches_a_pattern_is_opened() {
    let server = start(small());
    assert_eq!(server.stats().rooms, small().rooms.len());
    server.publish("team-1", Message::image("https://example.com/a.png")).await.unwrap();
    assert_eq!(server.stats().rooms, small().rooms.len() + 1);
}

#[tokio::test]
async fn what_is_wrong_with_a_message_is_an_error() {
    let server = start(small());
    let wrong = |message: &str| PublishError::Invalid(message.to_owned());
    for (room, message, error) in [
        ("nowhere", Message::text("hello"), PublishError::NoRoom),
        ("general", Message::text(""), wrong("content is empty")),
        ("general", Message::text("x".repeat(100_000)), wrong("content is longer than 10240 bytes")),
        (
            "general",
            Message::image("ftp://example.com"),
            wrong("image is no URL with http or https of at most 2,048 characters"),
        ),
        (
            "general",
            Message::text("hello").from_name("\u{200b}"),
            wrong("from_name is no valid name: 1 to 20 characters that show"),
        ),
        (
            "general",
            Message::text("hello").from_account(""),
            wrong("from_account has not 1 to 128 characters"),
        ),
    ] {
        assert_eq!(server.publish(room, message).await, Err(error));
    }
    assert_eq!(server.broadcast(&"t".repeat(100_000), "hello").await, Err(PublishError::NoTopic));
    let long = server.broadcast("prices", vec![0; 32 << 20]).await.unwrap_err();
    assert!(matches!(&long, PublishError::Invalid(error) if error.contains("longer than")), "{long}");
}

#[tokio::test]
async fn topics_are_heard_as_text_and_as_bytes() {
    let server = start(small());
    let mut listener = Client::at(server.local_addr(), "/broadcast/prices");
    // The upgrade is answered before its shard has subscribed.
    let subscribed = async { while server.broadcast("prices", "are you there?").await.unwrap() == 0 {} };
    tokio::time::timeout(PATIENCE, subscribed).await.expect("it is subscribed");
    assert_eq!(server.broadcast("elsewhere", "nobody listens").await, Ok(0));
    assert_eq!(server.broadcast("prices", b"\x00\xff".to_vec()).await, Ok(1));
    assert_eq!(listener.0.read().unwrap(), Frame::text("are you there?"));
    assert_eq!(listener.0.read().unwrap(), Frame::binary(b"\x00\xff".to_vec()));
}

#[test]
fn a_program_without_a_runtime_can_publish() {
    let server = start(small());
    let mut member = Client::enter(server.local_addr());
    let others: Vec<_> = (0..4)
        .map(|thread| {
            let backend = server.backend();
            std::thread::spawn(move || {
                let publish = backend.publish("general", Message::text(format!("from {thread}")));
                drop(publish.now_or_never());
            })
        })
        .collect();
    for thread in others {
        thread.join().unwrap();
    }
    // Each was given up at once, and carried out.
    let mut said: Vec<_> = (0..4).map(|_| member.until("message")["content"].to_string()).collect();
    said.sort();
    assert_eq!(said, ["\"from 0\"", "\"from 1\"", "\"from 2\"", "\"from 3\""]);
}
