//! Who writes, and who has read.

use serde_json::{Value, json};

use crate::harness::{Chat, Launch, direct, error, from, on_one_and_four_shards, take_timestamp};

on_one_and_four_shards! {
    the_others_see_who_writes,
    typing_without_a_yes_or_no_is_refused,
    who_writes_is_told_in_ones_own_room_only,
    one_user_can_be_told_of_typing,
    the_author_learns_who_has_read,
    the_author_learns_it_in_another_room_too,
    ones_own_messages_may_be_read,
    an_author_who_has_left_is_told_nothing,
    what_the_room_does_not_keep_is_unknown,
    what_another_room_keeps_is_unknown,
    a_message_id_that_is_no_number_is_refused,
}

async fn the_others_see_who_writes(launch: Launch) {
    let server = launch.start();
    let [mut alice, mut bob, mut carol] = Chat::members(&server).await;
    for is_typing in [true, false, false] {
        alice.say(json!({"type": "typing", "is_typing": is_typing})).await;
        let content = json!({"user_id": alice.id, "user_name": alice.name, "is_typing": is_typing});
        let typing = from(&alice, "typing", content);
        assert_eq!(bob.next().await, typing);
        assert_eq!(carol.next().await, typing);
    }
    // The one who writes is not told, and no message has taken an id.
    assert_eq!(alice.message("written").await, 1);
}

async fn typing_without_a_yes_or_no_is_refused(launch: Launch) {
    let server = launch.start();
    let [mut alice, mut bob] = Chat::members(&server).await;
    alice.say(json!({"type": "typing"})).await;
    assert_eq!(alice.next().await, error("Invalid message format"));
    for value in [json!(1), json!(0), json!("true"), json!(null), json!([true]), json!({})] {
        alice.say(json!({"type": "typing", "is_typing": value})).await;
        assert_eq!(alice.next().await, error("Invalid message format"), "{value}");
    }
    alice.message("done").await;
    assert_eq!(bob.next().await["type"], "message");
}

async fn who_writes_is_told_in_ones_own_room_only(launch: Launch) {
    let server = launch.start();
    let [mut alice, mut bob] = Chat::members(&server).await;
    alice.move_to("random").await;
    assert_eq!(bob.next().await["type"], "leave");
    alice.say(json!({"type": "typing", "is_typing": true})).await;
    alice.move_to("general").await;
    assert_eq!(bob.next().await["type"], "join");
}

async fn one_user_can_be_told_of_typing(launch: Launch) {
    let server = launch.start();
    let [mut alice, mut bob, mut carol] = Chat::members(&server).await;
    bob.move_to("random").await;
    for member in [&mut alice, &mut carol] {
        assert_eq!(member.next().await["type"], "leave");
    }
    alice.say(json!({"type": "typing", "is_typing": true, "to_id": bob.id})).await;
    let content = json!({"user_id": alice.id, "user_name": alice.name, "is_typing": true, "private": true});
    assert_eq!(bob.next().await, from(&alice, "typing", content));
    for unknown in [json!(4_000), json!("x"), json!(null)] {
        alice.say(json!({"type": "typing", "is_typing": true, "to_id": unknown})).await;
        assert_eq!(alice.next().await, error("User not found or offline"), "{unknown}");
    }
    // Nobody else has heard of it.
    alice.message("done").await;
    assert_eq!(carol.next().await["type"], "message");
}

async fn the_author_learns_who_has_read(launch: Launch) {
    let server = launch.start();
    let [mut alice, mut bob, mut carol] = Chat::members(&server).await;
    let id = alice.message("read me").await;
    assert_eq!(bob.next().await["message_id"], id);
    assert_eq!(carol.next().await["message_id"], id);
    for reader in [&mut bob, &mut carol] {
        reader.say(json!({"type": "read", "message_id": id})).await;
        assert_eq!(next_read(&mut alice).await, read(id, reader));
    }
    // Nobody else is told, the reader included.
    carol.message("done").await;
    assert_eq!(bob.next().await["content"], "done");
    bob.message("done too").await;
    assert_eq!(carol.next().await["content"], "done too");
}

async fn the_author_learns_it_in_another_room_too(launch: Launch) {
    let server = launch.start();
    let [mut alice, mut bob] = Chat::members(&server).await;
    let id = alice.message("and off I go").await;
    alice.move_to("random").await;
    assert_eq!(bob.until("leave").await["content"]["user_id"], alice.id);
    bob.say(json!({"type": "read", "message_id": id})).await;
    assert_eq!(next_read(&mut alice).await, read(id, &bob));
}

async fn ones_own_messages_may_be_read(launch: Launch) {
    let server = launch.start();
    let mut alice = Chat::enter(&server).await;
    let id = alice.message("a note").await;
    alice.say(json!({"type": "read", "message_id": id})).await;
    assert_eq!(next_read(&mut alice).await, read(id, &alice));
}

async fn an_author_who_has_left_is_told_nothing(launch: Launch) {
    let server = launch.start();
    let [mut alice, mut bob] = Chat::members(&server).await;
    let id = alice.message("last words").await;
    assert_eq!(bob.next().await["message_id"], id);
    alice.leave().await;
    assert_eq!(bob.next().await["type"], "leave");
    bob.say(json!({"type": "read", "message_id": id})).await;
    // No answer, and no harm: the next question gets the next answer.
    bob.say(json!({"type": "read", "message_id": id + 1})).await;
    assert_eq!(bob.next().await, unknown(json!(id + 1)));
}

async fn what_the_room_does_not_keep_is_unknown(launch: Launch) {
    let server = launch.flag("--history", 2).start();
    let [mut alice, mut bob] = Chat::members(&server).await;
    let mut ids = Vec::new();
    for content in ["one", "two", "three"] {
        ids.push(alice.message(content).await);
        assert_eq!(bob.next().await["content"], content);
    }
    for id in [json!(0), json!(ids[0]), json!(ids[2] + 1), json!(u64::MAX), json!(-1)] {
        bob.say(json!({"type": "read", "message_id": id})).await;
        assert_eq!(bob.next().await, unknown(id));
    }
    bob.say(json!({"type": "read", "message_id": ids[1]})).await;
    assert_eq!(next_read(&mut alice).await, read(ids[1], &bob));
}

async fn what_another_room_keeps_is_unknown(launch: Launch) {
    let server = launch.start();
    let [mut alice, mut bob] = Chat::members(&server).await;
    let id = alice.message("in general").await;
    assert_eq!(bob.next().await["message_id"], id);
    bob.move_to("random").await;
    bob.say(json!({"type": "read", "message_id": id})).await;
    assert_eq!(bob.next().await, unknown(json!(id)));
}

async fn a_message_id_that_is_no_number_is_refused(launch: Launch) {
    let server = launch.start();
    let mut alice = Chat::enter(&server).await;
    let id = alice.message("here").await;
    alice.say(json!({"type": "read"})).await;
    assert_eq!(alice.next().await, error("Invalid message format"));
    for value in [json!(id.to_string()), json!(null), json!(true), json!([id]), json!({"id": id})] {
        alice.say(json!({"type": "read", "message_id": value})).await;
        assert_eq!(alice.next().await, error("Invalid message format"), "{value}");
    }
}

fn unknown(id: Value) -> Value {
    error(&format!("Unknown message: {id}"))
}

fn read(id: u64, reader: &Chat) -> Value {
    direct("message_read", json!({"message_id": id, "read_by": reader.id}))
}

/// The next message, without its times.
async fn next_read(author: &mut Chat) -> Value {
    let mut read = author.next().await;
    take_timestamp(&mut read["content"], "read_at");
    read
}
