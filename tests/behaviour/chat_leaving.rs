//! Leaving: announced once, whatever ended the connection.

use serde_json::{Value, json};

use crate::harness::{
    CLOSE, Chat, Header, Launch, Server, TEXT, Wire, frame, from_system, on_one_and_four_shards,
};

on_one_and_four_shards! {
    a_close_is_announced_once,
    a_reset_is_announced_once,
    an_end_without_a_close_is_announced_once,
    an_idle_timeout_is_announced_once,
    a_protocol_error_is_announced_once,
    a_close_followed_by_a_reset_is_announced_once,
    words_after_a_close_are_not_heard,
    a_departed_user_is_gone_from_the_list,
    leaving_is_announced_in_the_last_room_alone,
}

async fn a_close_is_announced_once(launch: Launch) {
    let server = launch.start();
    let [mut alice, bob] = Chat::members(&server).await;
    let leave = json!({
        "user_id": bob.id, "user_name": bob.name, "users_online": 1, "room": "general",
    });
    bob.leave().await;
    assert_eq!(alice.next().await, from_system("leave", leave));
    assert_silence(&server, &mut alice).await;
}

async fn a_reset_is_announced_once(launch: Launch) {
    let server = launch.start();
    let mut alice = Chat::enter(&server).await;
    let (wire, leave) = visitor(&server, &mut alice).await;
    wire.reset();
    assert_eq!(alice.next().await, leave);
    assert_silence(&server, &mut alice).await;
}

async fn an_end_without_a_close_is_announced_once(launch: Launch) {
    let server = launch.start();
    let mut alice = Chat::enter(&server).await;
    let (mut wire, leave) = visitor(&server, &mut alice).await;
    wire.half_close().await;
    assert_eq!(alice.next().await, leave);
    // The server has ended it too, though this side never closed its receiving half.
    while wire.frame().await.is_some() {}
    assert_silence(&server, &mut alice).await;
}

async fn an_idle_timeout_is_announced_once(launch: Launch) {
    let server = launch.flag("--ping-interval", "100ms").flag("--idle-timeout", "400ms").start();
    let mut alice = Chat::enter(&server).await;
    let (_wire, leave) = visitor(&server, &mut alice).await;
    assert_eq!(alice.next().await, leave);
    assert_silence(&server, &mut alice).await;
}

async fn a_protocol_error_is_announced_once(launch: Launch) {
    let server = launch.start();
    let mut alice = Chat::enter(&server).await;
    let (mut wire, leave) = visitor(&server, &mut alice).await;
    let unmasked = Header { is_masked: false, ..Header::of(TEXT) };
    wire.send(unmasked.with(b"hello")).await;
    assert_eq!(alice.next().await, leave);
    assert_silence(&server, &mut alice).await;
}

async fn a_close_followed_by_a_reset_is_announced_once(launch: Launch) {
    let server = launch.start();
    let mut alice = Chat::enter(&server).await;
    let (mut wire, leave) = visitor(&server, &mut alice).await;
    wire.send(frame(CLOSE, 1000_u16.to_be_bytes())).await;
    wire.reset();
    assert_eq!(alice.next().await, leave);
    assert_silence(&server, &mut alice).await;
}

async fn words_after_a_close_are_not_heard(launch: Launch) {
    let server = launch.start();
    let mut alice = Chat::enter(&server).await;
    let (mut wire, leave) = visitor(&server, &mut alice).await;
    let mut bytes = frame(CLOSE, 1000_u16.to_be_bytes());
    bytes.extend(frame(TEXT, r#"{"type":"message","content":"one more thing"}"#));
    wire.send(bytes).await;
    assert_eq!(alice.next().await, leave);
    assert_silence(&server, &mut alice).await;
}

async fn a_departed_user_is_gone_from_the_list(launch: Launch) {
    let server = launch.start();
    let [mut alice, bob] = Chat::members(&server).await;
    bob.leave().await;
    assert_eq!(alice.next().await["type"], "leave");
    alice.say(json!({"type": "get_users"})).await;
    let users = alice.next().await;
    assert_eq!(users["content"].as_array().unwrap().len(), 1);
    assert_eq!(users["content"][0]["id"], alice.id);
}

async fn leaving_is_announced_in_the_last_room_alone(launch: Launch) {
    let server = launch.start();
    let [mut alice, mut bob, mut carol] = Chat::members(&server).await;
    for mover in [&mut bob, &mut carol] {
        mover.move_to("random").await;
        assert_eq!(alice.until("leave").await["from_id"], 0);
    }
    assert_eq!(bob.next().await["type"], "join");
    let leave = json!({
        "user_id": carol.id, "user_name": carol.name, "users_online": 1, "room": "random",
    });
    carol.leave().await;
    assert_eq!(bob.next().await, from_system("leave", leave));
    assert_silence(&server, &mut alice).await;
}

/// A member of the room on a raw connection, and the leave that alice must see of it.
async fn visitor(server: &Server, alice: &mut Chat) -> (Wire, Value) {
    let mut wire = Wire::upgrade(server, "/chat").await;
    let join = alice.next().await;
    assert_eq!(join["type"], "join");
    for _ in ["welcome", "users", "history"] {
        wire.text().await;
    }
    let mut leave = join["content"].clone();
    leave["users_online"] = json!(1);
    (wire, from_system("leave", leave))
}

/// Nothing is on its way to alice: the next she hears is the next that happens in her room.
async fn assert_silence(server: &Server, alice: &mut Chat) {
    let newcomer = Chat::enter(server).await;
    let join = alice.next().await;
    assert_eq!((&join["type"], &join["from_id"]), (&json!("join"), &json!(newcomer.id)));
}
