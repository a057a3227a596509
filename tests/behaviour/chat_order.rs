//! One order: all members of a room see its messages in the same order, without gap or duplicate.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::harness::{Chat, Launch, direct, from, from_system, on_one_and_four_shards};

on_one_and_four_shards! {
    members_who_all_talk_at_once_see_one_order,
    commands_sent_in_one_burst_take_effect_in_turn,
    a_name_changes_between_two_messages,
    what_one_sends_before_closing_is_heard_before_the_leave,
}

/// Every member hears a message or learns its own id for each number, and all agree on what was
/// said under it.
async fn members_who_all_talk_at_once_see_one_order(launch: Launch) {
    const MEMBERS: usize = 8;
    const WORDS: usize = 150;
    let server = launch.without_rate_limit().start();
    let mut tasks = JoinSet::new();
    for mut member in Chat::crowd(&server, MEMBERS).await {
        let id = member.id;
        tasks.spawn(async move {
            for chunk in 0..WORDS / 10 {
                let words = (0..10).map(|n| format!("{id} says {}", chunk * 10 + n));
                let burst = words.map(|word| json!({"type": "message", "content": word}));
                member.burst(burst).await;
                tokio::task::yield_now().await;
            }
            let mut heard = Vec::new();
            for _ in 0..MEMBERS * WORDS {
                heard.push(member.next().await);
            }
            // Nobody leaves before all have heard all.
            (member, heard)
        });
    }
    let mut members = Vec::new();
    let mut said: BTreeMap<u64, String> = BTreeMap::new();
    while let Some(task) = tasks.join_next().await {
        let (member, heard) = task.unwrap();
        let mut own = 0;
        let mut previous = None;
        for event in heard {
            let (id, word) = match event["type"].as_str().unwrap() {
                "message" => (&event["message_id"], event["content"].as_str().unwrap().to_owned()),
                "message_sent" => {
                    own += 1;
                    let word = format!("{} says {}", member.id, own - 1);
                    (&event["content"]["message_id"], word)
                }
                other => panic!("{other} among the messages"),
            };
            let id = id.as_u64().unwrap();
            assert_eq!(id, previous.map_or(id, |previous: u64| previous + 1));
            previous = Some(id);
            assert_eq!(said.entry(id).or_insert_with(|| word.clone()), &word);
        }
        assert_eq!(own, WORDS);
        members.push(member);
    }
    assert_eq!(said.len(), MEMBERS * WORDS);
}

async fn commands_sent_in_one_burst_take_effect_in_turn(launch: Launch) {
    let server = launch.start();
    let [mut alice, mut bob, mut carol] = Chat::members(&server).await;
    carol.move_to("random").await;
    assert_eq!(alice.next().await["type"], "leave");
    assert_eq!(bob.next().await["type"], "leave");
    let say = |content: &str| json!({"type": "message", "content": content});
    alice
        .burst([
            say("in general"),
            json!({"type": "join_room", "room": "random"}),
            say("in random"),
            json!({"type": "join_room", "room": "general"}),
            say("in general again"),
        ])
        .await;

    let sent = alice.next().await;
    assert_eq!((&sent["type"], &sent["content"]["room"]), (&json!("message_sent"), &json!("general")));
    assert_eq!(alice.next().await, direct("room_joined", json!({"room": "random"})));
    assert_eq!(alice.next().await["type"], "users");
    assert_eq!(alice.next().await["type"], "history");
    let sent = alice.next().await;
    assert_eq!((&sent["type"], &sent["content"]["room"]), (&json!("message_sent"), &json!("random")));
    assert_eq!(alice.next().await, direct("room_joined", json!({"room": "general"})));
    assert_eq!(alice.next().await["type"], "users");
    let history = alice.next().await;
    assert_eq!(history["content"][0]["content"], "in general");
    assert_eq!(history["content"].as_array().unwrap().len(), 1);
    assert_eq!(alice.next().await["type"], "message_sent");

    let moved = |room, count| json!({"user_id": alice.id, "user_name": alice.name, "users_online": count, "room": room});
    assert_eq!(without_id(bob.next().await), from(&alice, "message", json!("in general")));
    assert_eq!(bob.next().await, from_system("leave", moved("general", 1)));
    assert_eq!(bob.next().await, from(&alice, "join", moved("general", 2)));
    assert_eq!(without_id(bob.next().await), from(&alice, "message", json!("in general again")));
    assert_eq!(carol.next().await, from(&alice, "join", moved("random", 2)));
    assert_eq!(without_id(carol.next().await), from(&alice, "message", json!("in random")));
    assert_eq!(carol.next().await, from_system("leave", moved("random", 1)));
}

async fn a_name_changes_between_two_messages(launch: Launch) {
    let server = launch.start();
    let [mut alice, mut bob] = Chat::members(&server).await;
    let old = alice.name.clone();
    alice
        .burst([
            json!({"type": "message", "content": "before"}),
            json!({"type": "set_name", "name": "Alice"}),
            json!({"type": "message", "content": "after"}),
        ])
        .await;
    assert_eq!(without_id(bob.next().await), from(&alice, "message", json!("before")));
    alice.name = "Alice".to_owned();
    let renamed = json!({"user_id": alice.id, "old_name": old, "new_name": "Alice"});
    assert_eq!(bob.next().await, from(&alice, "user_renamed", renamed));
    assert_eq!(without_id(bob.next().await), from(&alice, "message", json!("after")));
}

async fn what_one_sends_before_closing_is_heard_before_the_leave(launch: Launch) {
    let server = launch.without_rate_limit().start();
    let [mut alice, mut bob] = Chat::members(&server).await;
    let words = (0..200).map(|n| json!({"type": "message", "content": format!("word {n}")}));
    bob.burst(words).await;
    bob.leave().await;
    for n in 0..200 {
        assert_eq!(alice.next().await["content"], format!("word {n}"));
    }
    assert_eq!(alice.next().await["type"], "leave");
}

fn without_id(mut message: Value) -> Value {
    let id = message.as_object_mut().unwrap().remove("message_id");
    assert!(id.is_some_and(|id| id.is_u64()));
    message
}
