//! Users that come back on another node than the one that they have left.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use crate::harness::{Chat, TokenKey, error, eventually};
use crate::nodes::{becomes_unready, node, start, start_two};
use crate::redis::Redis;
use crate::room::{come_back, enter_as, enter_at, history, next_of, one_on_each, users};

#[tokio::test]
async fn a_node_that_begins_later_knows_who_has_left() {
    let redis = Redis::start();
    let [a, b] = start_two(&redis);
    let mut alice = Chat::enter(&a).await;
    let mut bob = enter_as(&b, "Bob").await;
    assert_eq!(next_of(&mut alice, "join").await, bob.id);
    let mut carl = enter_as(&a, "Carl").await;
    assert_eq!(next_of(&mut alice, "join").await, carl.id);
    assert_eq!(next_of(&mut bob, "join").await, carl.id);
    carl.move_to("games").await;
    assert_eq!(next_of(&mut alice, "leave").await, carl.id);
    let mut watcher = Chat::enter(&a).await;
    assert_eq!(next_of(&mut alice, "join").await, watcher.id);
    watcher.move_to("games").await;
    assert_eq!(next_of(&mut carl, "join").await, watcher.id);
    end(&mut carl).await;
    assert_eq!(next_of(&mut watcher, "leave").await, carl.id);
    b.signal(Signal::KILL);
    while next_of(&mut alice, "leave").await != bob.id {}

    // Neither this node nor the next life of the other one has seen them.
    let c = node(&redis, "c").start();
    drop(b);
    let b = node(&redis, "b").start();
    let carl = come_back(&c, &carl).await;
    assert_eq!(next_of(&mut watcher, "join").await, carl.id, "in the room that he has left");
    let mut bob = come_back(&b, &bob).await;
    assert_eq!(next_of(&mut alice, "join").await, bob.id);
    let mut present = [alice.id, bob.id];
    present.sort_unstable();
    assert_eq!(users(&mut bob).await, present);
    // One who is there is nobody who has left.
    assert_eq!(users(&mut watcher).await.len(), 2);
}

#[tokio::test]
async fn who_has_left_is_known_even_where_redis_has_lost_everything() {
    let redis = Redis::start();
    let [a, b] = start_two(&redis);
    let mut alice = Chat::enter(&a).await;
    let mut bob = enter_as(&b, "Bob").await;
    assert_eq!(next_of(&mut alice, "join").await, bob.id);
    end(&mut bob).await;
    assert_eq!(next_of(&mut alice, "leave").await, bob.id);
    let old = history(&mut alice).await.epoch;
    redis.command(&["FLUSHALL"]);
    eventually("a new epoch", async || history(&mut alice).await.epoch != old).await;
    let c = node(&redis, "c").start();
    let bob = come_back(&c, &bob).await;
    assert_eq!(next_of(&mut alice, "join").await, bob.id);
}

#[tokio::test]
async fn a_session_that_cannot_be_taken_over_is_not_waited_for_for_ever() {
    let mut redis = Redis::start();
    let [a, b] = start_two(&redis);
    let [mut alice, bob] = one_on_each([&a, &b]).await;
    b.signal(Signal::KILL);
    let came = Instant::now();
    let back = format!("/chat?session={}", bob.session);
    // One comes while there is a log, and nobody who would answer in it, and one when that is out of reach.
    let late = async {
        alice.message("still here").await;
        redis.kill();
        becomes_unready(&a).await;
        Chat::connect_at(&a, &back).await
    };
    let (mut early, mut late) = tokio::join!(Chat::connect_at(&a, &back), late);
    for newcomer in [&mut early, &mut late] {
        assert_eq!(newcomer.closed().await, (1013, "Try again later".to_owned()));
    }
    assert!(came.elapsed() < Duration::from_secs(25), "{:?}", came.elapsed());
}

#[tokio::test]
async fn of_crowds_on_two_nodes_one_stays_as_the_user() {
    let redis = Redis::start();
    let nodes = start_two(&redis);
    let [alice, mut watcher] = one_on_each([&nodes[0], &nodes[1]]).await;
    for _ in 0..5 {
        let path = format!("/chat?session={}", alice.session);
        let coming = (0..12).map(|number| Chat::connect_at(&nodes[number % 2], &path));
        let mut crowd: Vec<Chat> = futures_util::future::join_all(coming).await;
        let outcomes = futures_util::future::join_all(crowd.iter_mut().map(settle)).await;
        let ids: Vec<u64> = outcomes.into_iter().flatten().collect();
        assert!(ids.contains(&alice.id), "nobody is the user: {ids:?}");
        // The last that was the user still is, and can speak.
        let mut is_user = 0;
        for member in &mut crowd {
            is_user += usize::from(member.id == alice.id && speaks(member).await);
        }
        assert_eq!(is_user, 1);
        drop(crowd);
        eventually("all have left but the watcher", async || {
            watcher.say(json!({"type": "get_users"})).await;
            watcher.until("users").await["content"].as_array().unwrap().len() == 1
        })
        .await;
    }
}

/// Reads until it is in the room, or closed. The id that it was given, if it was welcomed.
async fn settle(chat: &mut Chat) -> Option<u64> {
    loop {
        let Some(Message::Text(text)) = chat.socket().next().await else { return None };
        let message: Value = serde_json::from_str(&text).unwrap();
        match message["type"].as_str() {
            Some("welcome") => chat.id = message["content"]["user_id"].as_u64().unwrap(),
            Some("history") => return Some(chat.id),
            _ => {}
        }
    }
}

/// Whether it can still send a message. One that is being closed cannot.
async fn speaks(chat: &mut Chat) -> bool {
    chat.say(json!({"type": "message", "content": "I am here"})).await;
    loop {
        match chat.socket().next().await {
            Some(Message::Text(text)) if text.contains("message_sent") => return true,
            Some(Message::Text(_)) => {}
            _ => return false,
        }
    }
}

#[tokio::test]
async fn a_session_stays_its_accounts_on_whatever_nodes_a_guest_resumes_it() {
    let redis = Redis::start();
    let key = TokenKey::new();
    let [a, b] = start(["a", "b"].map(|name| node(&redis, name).flag("--token-key", key.path().display())));
    let ann = key.token("ann", &["--name", "Ann"]).await;
    let mut ann = enter_at(&a, &format!("/chat?token={ann}")).await;
    // Without the token it is a guest, of whom nobody else is the owner.
    for node in [&b, &a, &b] {
        let mut guest = enter_at(node, &format!("/chat?session={}", ann.session)).await;
        assert_eq!(guest.id, ann.id);
        guest.say(json!({"type": "set_name", "name": "Someone"})).await;
        guest.until("name_changed").await;
        assert_eq!(ann.closed_in_the_end().await, (1008, "session resumed elsewhere".to_owned()));
        ann = guest;
    }
    let eve = key.token("eve", &["--name", "Eve"]).await;
    let eve = enter_at(&a, &format!("/chat?token={eve}&session={}", ann.session)).await;
    assert_ne!(eve.id, ann.id);
}

#[tokio::test]
async fn the_sender_of_a_private_message_is_told_where_its_receiver_was_gone() {
    let redis = Redis::start();
    let [a, b] = start_two(&redis);
    let [mut alice, mut bob] = one_on_each([&a, &b]).await;
    redis.signal(Signal::STOP);
    alice.say(json!({"type": "private_message", "to_id": bob.id, "content": "wait"})).await;
    end(&mut bob).await;
    redis.signal(Signal::CONT);
    assert_eq!(alice.until("private_message_sent").await["to_id"], bob.id);
    let told = alice.until("error").await;
    assert_eq!(told, error("User not found or offline"));
}

/// Closes the connection, with the closing handshake.
async fn end(chat: &mut Chat) {
    chat.send(Message::Close(None)).await;
    while let Some(Message::Text(_)) = chat.socket().next().await {}
}
