//! Private messages.

use serde_json::{Value, json};

use crate::harness::{Chat, Launch, Server, error, on_one_server, on_two_nodes};

on_one_server! {
    a_private_message_reaches_its_target_alone,
    the_target_may_be_a_numeric_string,
    one_may_write_to_oneself,
    every_pair_of_many_can_write_to_each_other,
    unknown_and_departed_users_are_not_found,
    a_target_that_is_no_id_is_refused,
    empty_content_is_ignored_once_the_target_is_found,
    users_in_other_rooms_are_reached,
}

on_two_nodes! {
    a_private_message_reaches_its_target_alone,
    the_target_may_be_a_numeric_string,
    one_may_write_to_oneself,
    every_pair_of_many_can_write_to_each_other,
    unknown_and_departed_users_are_not_found,
    a_target_that_is_no_id_is_refused,
    empty_content_is_ignored_once_the_target_is_found,
}

const NOT_FOUND: &str = "User not found or offline";

async fn a_private_message_reaches_its_target_alone(launch: Launch) {
    let server = launch.start();
    let [mut alice, mut bob, mut carol] = Chat::members(&server).await;
    alice.say(to(&json!(bob.id), "psst")).await;
    assert_eq!(alice.next().await, sent(&bob, "psst"));
    assert_eq!(bob.next().await, received(&alice, "psst"));
    alice.message("aloud").await;
    assert_eq!(carol.next().await["content"], "aloud");
}

async fn the_target_may_be_a_numeric_string(launch: Launch) {
    let server = launch.start();
    let [mut alice, mut bob] = Chat::members(&server).await;
    alice.say(to(&json!(bob.id.to_string()), "psst")).await;
    assert_eq!(alice.next().await, sent(&bob, "psst"));
    assert_eq!(bob.next().await, received(&alice, "psst"));
}

async fn one_may_write_to_oneself(launch: Launch) {
    let server = launch.start();
    let mut alice = Chat::enter(&server).await;
    alice.say(to(&json!(alice.id), "remember")).await;
    let both = [alice.next().await, alice.next().await];
    assert!(both.contains(&received(&alice, "remember")), "{both:?}");
    assert!(both.contains(&sent(&alice, "remember")), "{both:?}");
}

async fn users_in_other_rooms_are_reached(launch: Launch) {
    let server = launch.start();
    let [mut alice, mut bob] = Chat::members(&server).await;
    bob.move_to("random").await;
    assert_eq!(alice.next().await["type"], "leave");
    bob.say(json!({"type": "set_name", "name": "Bob"})).await;
    assert_eq!(bob.next().await["type"], "name_changed");
    bob.name = "Bob".to_owned();
    alice.say(to(&json!(bob.id), "over there?")).await;
    assert_eq!(alice.next().await, sent(&bob, "over there?"));
    assert_eq!(bob.next().await, received(&alice, "over there?"));
    bob.say(to(&json!(alice.id), "yes")).await;
    assert_eq!(bob.next().await, sent(&alice, "yes"));
    assert_eq!(alice.next().await, received(&bob, "yes"));
}

async fn every_pair_of_many_can_write_to_each_other(launch: Launch) {
    let server = launch.start();
    let mut crowd = Chat::crowd(&server, 8).await;
    for from in 0..crowd.len() {
        for target in (0..crowd.len()).filter(|target| *target != from) {
            let text = format!("{from} to {target}");
            let id = crowd[target].id;
            crowd[from].say(to(&json!(id), &text)).await;
            assert_eq!(crowd[from].next().await, sent(&crowd[target], &text));
            let expected = received(&crowd[from], &text);
            assert_eq!(crowd[target].next().await, expected);
        }
    }
}

async fn unknown_and_departed_users_are_not_found(launch: Launch) {
    let server = launch.start();
    let [mut alice, bob] = Chat::members(&server).await;
    let departed = bob.id;
    bob.leave().await;
    assert_eq!(alice.next().await["type"], "leave");
    let unknown = [
        json!(departed),
        json!(departed.to_string()),
        json!(departed + 1000),
        json!(0),
        json!("0"),
        json!(9_007_199_254_740_993_u64),
        json!(u64::MAX),
    ];
    for id in unknown {
        for content in ["hello?", ""] {
            alice.say(to(&id, content)).await;
            assert_eq!(alice.next().await, error(NOT_FOUND), "{id} {content:?}");
        }
    }
}

async fn a_target_that_is_no_id_is_refused(launch: Launch) {
    let server = launch.start();
    let mut alice = Chat::enter(&server).await;
    for id in [
        json!("Alice"),
        json!(""),
        json!(-1),
        json!(1.5),
        json!(1e300),
        json!("99999999999999999999999999"),
        json!(null),
        json!([alice.id]),
        json!({"id": alice.id}),
        json!(true),
    ] {
        alice.say(to(&id, "hello?")).await;
        assert_is_no_target(alice.next().await);
    }
    alice.say(json!({"type": "private_message", "content": "to whom?"})).await;
    assert_is_no_target(alice.next().await);
}

async fn empty_content_is_ignored_once_the_target_is_found(launch: Launch) {
    let server = launch.start();
    let [mut alice, mut bob] = Chat::members(&server).await;
    alice.say(to(&json!(bob.id), "")).await;
    alice.say(json!({"type": "private_message", "to_id": bob.id})).await;
    alice.say(to(&json!(bob.id), "words")).await;
    assert_eq!(alice.next().await, sent(&bob, "words"));
    assert_eq!(bob.next().await, received(&alice, "words"));
    alice.say(json!({"type": "private_message", "to_id": bob.id, "content": 5})).await;
    assert_eq!(alice.next().await, error("Invalid message format"));
    assert_nothing_is_left(&server, bob).await;
}

/// Two refusals fit what is no id: the one for an absent user, and the one for a wrong type.
fn assert_is_no_target(answer: Value) {
    let refusals = [error(NOT_FOUND), error("Invalid message format")];
    assert!(refusals.contains(&answer), "{answer}");
}

/// What was sent before is in front of what another says now.
async fn assert_nothing_is_left(server: &Server, mut chat: Chat) {
    let last = Chat::enter(server).await;
    assert_eq!(chat.next().await["from_id"], last.id);
}

fn to(id: &Value, content: &str) -> Value {
    json!({"type": "private_message", "to_id": id, "content": content})
}

fn sent(target: &Chat, content: &str) -> Value {
    json!({
        "type": "private_message_sent", "to_id": target.id, "to_name": target.name,
        "content": content,
    })
}

fn received(sender: &Chat, content: &str) -> Value {
    json!({
        "type": "private_message", "from_id": sender.id, "from_name": sender.name,
        "content": content,
    })
}
