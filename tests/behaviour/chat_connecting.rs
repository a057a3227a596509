//! What a newcomer is told, and what the others are told of it.

use std::collections::HashSet;

use chrono::{Local, NaiveDateTime};
use serde_json::{Value, json};

use crate::harness::{Chat, Launch, Wire, direct, from, on_one_and_four_shards, take_epoch, take_timestamp};

on_one_and_four_shards! {
    a_newcomer_gets_welcome_users_and_history,
    the_others_are_told_of_a_newcomer,
    users_are_listed_in_the_order_of_their_ids,
    history_holds_the_last_messages_oldest_first,
    history_is_kept_when_all_have_left,
    a_long_history_reaches_a_newcomer_past_the_limit_of_its_queue,
    ids_are_never_given_twice,
    a_newcomer_misses_nothing_after_its_history,
}

async fn a_newcomer_gets_welcome_users_and_history(launch: Launch) {
    let server = launch.start();
    let mut alice = Chat::connect(&server).await;

    let mut welcome = alice.read_welcome().await;
    assert_eq!(alice.name, format!("User{}", alice.id));
    check_stats(&mut welcome["content"]["server_stats"], 1);
    let content = json!({
        "user_id": alice.id,
        "user_name": alice.name,
        "message": "Welcome to the chat room!",
        "server_stats": {},
        "room": "general",
        "session": alice.session,
    });
    assert_eq!(welcome, direct("welcome", content));

    let mut users = alice.next().await;
    take_timestamp(&mut users["content"][0], "connected_at");
    let content = json!([{"id": alice.id, "name": alice.name}]);
    assert_eq!(users, direct("users", content));

    let mut history = alice.next().await;
    take_epoch(&mut history);
    assert_eq!(history, direct("history", json!([])));
}

async fn the_others_are_told_of_a_newcomer(launch: Launch) {
    let server = launch.start();
    let mut alice = Chat::enter(&server).await;
    let mut bob = Chat::connect(&server).await;
    let welcome = bob.read_welcome().await;
    assert_eq!(welcome["content"]["server_stats"]["users_online"], 2);
    let content = json!({
        "user_id": bob.id, "user_name": bob.name, "users_online": 2, "room": "general",
    });
    assert_eq!(alice.next().await, from(&bob, "join", content));

    // The newcomer is not told of itself: what alice says comes next.
    bob.until("history").await;
    alice.message("hello").await;
    assert_eq!(bob.next().await["content"], "hello");
}

async fn users_are_listed_in_the_order_of_their_ids(launch: Launch) {
    let server = launch.start();
    let mut members = Chat::crowd(&server, 10).await;
    members.remove(4).leave().await;
    assert_eq!(members[0].next().await["type"], "leave");

    let mut newcomer = Chat::connect(&server).await;
    newcomer.read_welcome().await;
    let users = newcomer.next().await;
    assert_eq!(users["type"], "users");
    members.push(newcomer);
    let mut expected: Vec<_> = members.iter().map(|m| (m.id, m.name.clone())).collect();
    expected.sort();
    let listed = users["content"].as_array().unwrap().iter();
    let listed: Vec<_> = listed
        .map(|user| (user["id"].as_u64().unwrap(), user["name"].as_str().unwrap().to_owned()))
        .collect();
    assert_eq!(listed, expected);
}

async fn history_holds_the_last_messages_oldest_first(launch: Launch) {
    let server = launch.flag("--history", 3).start();
    let mut alice = Chat::enter(&server).await;
    let mut ids = Vec::new();
    for content in ["one", "two", "three", "four", "five"] {
        ids.push(alice.message(content).await);
    }
    let mut bob = Chat::connect(&server).await;
    bob.until("users").await;
    let mut history = bob.next().await;
    take_epoch(&mut history);
    for entry in history["content"].as_array_mut().unwrap() {
        take_timestamp(entry, "timestamp");
    }
    let entry = |id: u64, content: &str| {
        json!({
            "message_id": id, "type": "message", "sender": alice.name, "from_id": alice.id,
            "content": content,
        })
    };
    let entries = json!([entry(ids[2], "three"), entry(ids[3], "four"), entry(ids[4], "five")]);
    assert_eq!(history, direct("history", entries));
}

async fn history_is_kept_when_all_have_left(launch: Launch) {
    let server = launch.start();
    let mut alice = Chat::enter(&server).await;
    let first = alice.message("anybody?").await;
    alice.leave().await;
    let mut bob = Chat::connect(&server).await;
    let history = bob.until("history").await;
    assert_eq!(history["content"][0]["content"], "anybody?");
    assert_eq!(history["content"][0]["message_id"], first);
    assert_eq!(bob.message("too late").await, first + 1);
}

async fn a_long_history_reaches_a_newcomer_past_the_limit_of_its_queue(launch: Launch) {
    let server = launch.without_rate_limit().flag("--send-queue", "64KiB").start();
    let mut alice = Chat::enter(&server).await;
    let content = "x".repeat(10_000);
    for _ in 0..100 {
        alice.message(&content).await;
    }
    // A megabyte of history, for someone who does not even read it quickly.
    let mut wire = Wire::connect_narrow(&server).await;
    wire.upgrade_to("/chat").await;
    assert_eq!(alice.next().await["type"], "join");
    assert!(wire.text().await.contains("\"welcome\""));
    assert!(wire.text().await.contains("\"users\""));
    let mut history = Vec::new();
    loop {
        let frame = wire.frame().await.expect("the rest of the history");
        history.extend(frame.payload);
        if frame.is_final {
            break;
        }
    }
    let history: Value = serde_json::from_slice(&history).unwrap();
    assert_eq!(history["content"].as_array().unwrap().len(), 100);
    alice.message("and still a member").await;
    assert!(wire.text().await.contains("and still a member"));
}

async fn ids_are_never_given_twice(launch: Launch) {
    let server = launch.start();
    let mut ids = HashSet::new();
    for _ in 0..5 {
        let mut crowd = Vec::new();
        for _ in 0..8 {
            let mut member = Chat::connect(&server).await;
            member.read_welcome().await;
            assert!(ids.insert(member.id), "{} again", member.id);
            assert!(member.id > 0, "0 is the system's");
            crowd.push(member);
        }
        crowd.pop().unwrap().leave().await;
    }
    let (alice, bob) = tokio::join!(Chat::enter(&server), Chat::enter(&server));
    assert!(ids.insert(alice.id) && ids.insert(bob.id));
}

/// History and the messages that follow it join without gap or overlap, while others talk.
async fn a_newcomer_misses_nothing_after_its_history(launch: Launch) {
    let server = launch.without_rate_limit().flag("--history", 10_000).start();
    let mut speaker = Chat::enter(&server).await;
    for round in 0..20 {
        let burst = (0..20).map(|n| json!({"type": "message", "content": format!("{round}.{n}")}));
        speaker.burst(burst).await;
        let mut newcomer = Chat::connect(&server).await;
        let history = newcomer.until("history").await;
        let history = history["content"].as_array().unwrap();
        let mut heard = history.len() as u64;
        speaker.burst([json!({"type": "message", "content": "end"})]).await;
        let first = history.first().map(|entry| entry["message_id"].as_u64().unwrap());
        let mut next = first.map(|first| first + heard);
        loop {
            let message = newcomer.next().await;
            assert_eq!(message["type"], "message");
            let id = message["message_id"].as_u64().unwrap();
            assert_eq!(id, next.unwrap_or(id), "after {heard} messages");
            next = Some(id + 1);
            heard += 1;
            if message["content"] == "end" {
                break;
            }
        }
        assert_eq!(heard, (round + 1) * 21);
        newcomer.leave().await;
        speaker.until("leave").await;
    }
}

/// Takes the fields off a STATS object, and leaves what should not be there.
pub(crate) fn check_stats(stats: &mut Value, users_online: u64) {
    let stats = stats.as_object_mut().expect("an object");
    assert_eq!(stats.remove("users_online"), Some(json!(users_online)));
    let uptime = stats.remove("uptime_seconds").expect("an uptime");
    assert!(uptime.as_u64().is_some_and(|seconds| seconds <= 60), "{uptime}");
    let time = stats.remove("server_time").expect("a time");
    let time = time.as_str().unwrap();
    assert_eq!(time.len(), "YYYY-MM-DD HH:MM:SS".len(), "{time}");
    let time = NaiveDateTime::parse_from_str(time, "%Y-%m-%d %H:%M:%S").expect("local time");
    let age = Local::now().naive_local() - time;
    assert!(age.num_seconds().abs() <= 60, "{time} is not the local time");
}
