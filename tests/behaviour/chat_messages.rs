//! Messages to a room.

use serde_json::{Value, json};

use crate::harness::{Chat, Launch, direct, error, from, on_one_and_four_shards};

on_one_and_four_shards! {
    a_message_reaches_the_others_and_its_sender_learns_its_id,
    ids_grow_by_one_within_a_room,
    rooms_number_their_messages_on_their_own,
    empty_and_missing_content_is_ignored,
    content_arrives_as_it_was_written,
    content_that_is_no_text_is_refused,
    unknown_fields_are_ignored,
}

async fn a_message_reaches_the_others_and_its_sender_learns_its_id(launch: Launch) {
    let server = launch.start();
    let [mut alice, mut bob, mut carol] = Chat::members(&server).await;
    alice.say(json!({"type": "message", "content": "hello"})).await;
    let sent = alice.next().await;
    let id = sent["content"]["message_id"].clone();
    assert!(id.is_u64(), "{sent}");
    let content = json!({"message_id": id, "room": "general"});
    assert_eq!(sent, direct("message_sent", content));

    let mut message = from(&alice, "message", json!("hello"));
    message["message_id"] = id;
    assert_eq!(bob.next().await, message);
    assert_eq!(carol.next().await, message);

    // The sender did not get it as well: bob's answer comes next.
    bob.message("hello yourself").await;
    assert_eq!(alice.next().await["content"], "hello yourself");
}

async fn ids_grow_by_one_within_a_room(launch: Launch) {
    let server = launch.start();
    let mut members = Chat::crowd(&server, 3).await;
    let mut last = members[0].message("first").await;
    for turn in 0..30 {
        let speaker = turn % members.len();
        // The others' messages come before one's own answer; they were sent before.
        members[speaker].say(json!({"type": "message", "content": "next"})).await;
        let sent = members[speaker].until("message_sent").await;
        assert_eq!(sent["content"]["message_id"], last + 1);
        last += 1;
    }
}

async fn rooms_number_their_messages_on_their_own(launch: Launch) {
    let server = launch.start();
    let mut alice = Chat::enter(&server).await;
    let first = alice.message("in general").await;
    alice.message("in general again").await;
    alice.move_to("random").await;
    assert_eq!(alice.message("in random").await, first);
    alice.move_to("general").await;
    assert_eq!(alice.message("back in general").await, first + 2);
}

async fn empty_and_missing_content_is_ignored(launch: Launch) {
    let server = launch.start();
    let [mut alice, mut bob] = Chat::members(&server).await;
    let before = alice.message("before").await;
    assert_eq!(bob.next().await["content"], "before");
    alice.say(json!({"type": "message", "content": ""})).await;
    alice.say(json!({"type": "message"})).await;
    assert_eq!(alice.message("after").await, before + 1);
    assert_eq!(bob.next().await["content"], "after");
}

async fn content_arrives_as_it_was_written(launch: Launch) {
    let server = launch.start();
    let [mut alice, mut bob] = Chat::members(&server).await;
    for content in [
        " ",
        "\0",
        "\"\\/\u{8}\u{c}\n\r\t",
        "</script><b>&amp;",
        "\u{2028}\u{2029}\u{feff}\u{fffd}\u{ffff}",
        "日本語 и русский 👩‍👩‍👧‍👦 e\u{301}",
        "\u{7f}\u{80}\u{10ffff}",
    ] {
        alice.message(content).await;
        assert_eq!(bob.next().await["content"], content);
    }
    // Escaped or not, the text is the same.
    alice.send(r#"{"type":"\u006dessage","content":"\ud83d\ude00\u0041"}"#).await;
    assert_eq!(bob.next().await["content"], "😀A");
}

async fn content_that_is_no_text_is_refused(launch: Launch) {
    let server = launch.start();
    let mut alice = Chat::enter(&server).await;
    for content in [json!(5), json!(true), json!(["text"]), json!({"text": "text"})] {
        alice.say(json!({"type": "message", "content": content})).await;
        assert_eq!(alice.next().await, error("Invalid message format"), "{content}");
    }
}

async fn unknown_fields_are_ignored(launch: Launch) {
    let server = launch.start();
    let [mut alice, mut bob] = Chat::members(&server).await;
    let message = json!({
        "type": "message", "content": "plain", "to_id": "nobody", "from_id": 7, "name": [],
        "more": {"type": "set_name", "content": [null]}, "": 12345678901234567890_u64,
    });
    alice.say(message).await;
    assert_eq!(alice.next().await["type"], "message_sent");
    let message: Value = bob.next().await;
    assert_eq!((&message["content"], &message["from_id"]), (&json!("plain"), &json!(alice.id)));
}
