//! Presence in large rooms: beyond the limit, who comes and goes is told in batches.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::harness::{Chat, Launch, Server, direct, error, from, from_system, on_one_and_four_shards};

on_one_and_four_shards! {
    up_to_the_limit_each_join_is_announced,
    joins_beyond_the_limit_come_in_a_batch,
    leaves_and_renames_beyond_the_limit_come_in_a_batch,
    who_came_and_went_within_one_interval_is_not_told,
    batches_come_at_most_once_a_second,
    a_batch_holds_fifty_entries_of_a_kind,
    messages_are_not_batched,
    a_newcomer_to_a_large_room_is_told_of_some_and_itself,
    back_at_the_limit_each_leave_is_announced_again,
    exact_presence_announces_at_any_size,
    count_presence_tells_numbers_alone_at_any_size,
    a_list_kept_from_events_agrees_with_the_server,
}

const LIMIT: usize = 5;

async fn up_to_the_limit_each_join_is_announced(launch: Launch) {
    let server = launch.flag("--presence-limit", LIMIT).start();
    // A crowd's members check each other's joins.
    let mut crowd = Chat::crowd(&server, LIMIT).await;
    crowd.pop().unwrap().leave().await;
    for member in &mut crowd {
        let leave = member.next().await;
        assert_eq!((&leave["type"], &leave["content"]["users_online"]), (&json!("leave"), &json!(4)));
    }
}

async fn joins_beyond_the_limit_come_in_a_batch(launch: Launch) {
    let server = launch.flag("--presence-limit", LIMIT).start();
    let mut crowd = Chat::crowd(&server, LIMIT).await;
    // The join that makes the room exceed the limit is in the batch already.
    let newcomer = Chat::enter(&server).await;
    let content = json!({
        "room": "general",
        "users_online": LIMIT + 1,
        "joined": [{"id": newcomer.id, "name": newcomer.name}],
        "left": [],
        "renamed": [],
        "truncated": false,
    });
    for member in &mut crowd {
        assert_eq!(member.next().await, from_system("presence", content.clone()));
    }
}

async fn leaves_and_renames_beyond_the_limit_come_in_a_batch(launch: Launch) {
    let server = launch.flag("--presence-limit", LIMIT).start();
    let (mut crowd, mut others) = large_room(&server).await;
    let leaver = others.pop().unwrap();
    let gone = leaver.id;
    let mut renamer = others.pop().unwrap();
    renamer.say(json!({"type": "set_name", "name": "Renamed"})).await;
    let renamed = renamer.until("name_changed").await;
    let content = json!({"old_name": renamer.name, "new_name": "Renamed"});
    assert_eq!(renamed, direct("name_changed", content));
    leaver.leave().await;
    for member in &mut crowd {
        let seen = batches(member, |seen| !seen.left.is_empty() && !seen.renamed.is_empty()).await;
        assert_eq!(seen.left, [gone].into());
        assert_eq!(seen.renamed, [(renamer.id, "Renamed".to_owned())].into());
        assert_eq!(seen.joined, BTreeMap::new());
        assert_eq!(seen.users_online, 8);
    }
}

async fn who_came_and_went_within_one_interval_is_not_told(launch: Launch) {
    let server = launch.flag("--presence-limit", LIMIT).start();
    let (mut crowd, _others) = large_room(&server).await;
    // A batch was just sent, so the next is a second away.
    let visitor = Chat::enter(&server).await;
    visitor.leave().await;
    let newcomer = Chat::enter(&server).await;
    for member in &mut crowd {
        let seen = batches(member, |seen| !seen.joined.is_empty()).await;
        assert_eq!(seen.joined, [(newcomer.id, newcomer.name.clone())].into());
        assert_eq!(seen.left, BTreeSet::new());
        assert_eq!(seen.users_online, 10);
    }
}

async fn batches_come_at_most_once_a_second(launch: Launch) {
    let server = launch.flag("--presence-limit", LIMIT).start();
    let (mut crowd, mut others) = large_room(&server).await;
    let observer = &mut crowd[0];
    let start = Instant::now();
    let mut batches = 0;
    while batches < 3 {
        // Each batch is answered with a change at once.
        others.push(Chat::enter(&server).await);
        assert_eq!(observer.next().await["type"], "presence");
        batches += 1;
    }
    // The first of the three may come a second after the one before it, the others must.
    let elapsed = start.elapsed();
    assert!(elapsed >= Duration::from_millis(1900), "three batches within {elapsed:?}");
}

async fn a_batch_holds_fifty_entries_of_a_kind(launch: Launch) {
    const MOVERS: usize = 80;
    let server = launch.flag("--presence-limit", LIMIT).start();
    let mut movers = Vec::new();
    for _ in 0..MOVERS {
        let mut mover = Chat::enter(&server).await;
        mover.say(json!({"type": "join_room", "room": "random"})).await;
        mover.until("room_joined").await;
        movers.push(mover);
    }
    let (mut crowd, _others) = large_room(&server).await;
    // A batch was just sent: all of them come back within the second before the next.
    for mover in &mut movers {
        mover.say(json!({"type": "join_room", "room": "general"})).await;
    }
    let observer = &mut crowd[0];
    let mut truncated = 0;
    loop {
        let presence = observer.next().await;
        assert_eq!(presence["type"], "presence");
        let content = &presence["content"];
        let joined = content["joined"].as_array().unwrap().len();
        assert!(joined <= 50, "{joined} entries");
        if content["truncated"] == true {
            assert_eq!(joined, 50);
            truncated += 1;
        }
        if content["users_online"] == MOVERS + 9 {
            break;
        }
    }
    assert!(truncated > 0, "{MOVERS} joins within a second were cut nowhere");
}

async fn messages_are_not_batched(launch: Launch) {
    let server = launch.flag("--presence-limit", LIMIT).start();
    let (mut crowd, _others) = large_room(&server).await;
    let start = Instant::now();
    for n in 0..50 {
        let word = format!("word {n}");
        crowd[0].message(&word).await;
        for member in &mut crowd[1..] {
            assert_eq!(member.next().await["content"], word);
        }
    }
    // In batches, each would have to wait for most of a second.
    let elapsed = start.elapsed();
    assert!(elapsed < Duration::from_secs(25), "fifty words took {elapsed:?}");
}

async fn a_newcomer_to_a_large_room_is_told_of_some_and_itself(launch: Launch) {
    let server = launch.flag("--presence-limit", LIMIT).start();
    let (crowd, others) = large_room(&server).await;
    let mut ids: Vec<_> = crowd.iter().chain(&others).map(|member| member.id).collect();
    ids.sort();
    let mut newcomer = Chat::connect(&server).await;
    newcomer.read_welcome().await;
    let users = newcomer.next().await;
    assert_eq!((&users["type"], &users["total"]), (&json!("users"), &json!(10)));
    let listed = users["content"].as_array().unwrap().iter();
    let listed: Vec<_> = listed.map(|user| user["id"].as_u64().unwrap()).collect();
    assert_eq!(listed[..LIMIT - 1], ids[..LIMIT - 1]);
    assert_eq!(listed[LIMIT - 1..], [newcomer.id]);
}

async fn back_at_the_limit_each_leave_is_announced_again(launch: Launch) {
    let server = launch.flag("--presence-limit", LIMIT).start();
    let (mut crowd, others) = large_room(&server).await;
    // Nine members; four leave, and the room is at its limit again.
    let mut gone = BTreeSet::new();
    for leaver in others {
        gone.insert(leaver.id);
        leaver.leave().await;
    }
    // The leave that reaches the limit may be told either way.
    let mut seen = BTreeSet::new();
    while seen != gone {
        let event = crowd[0].next().await;
        match event["type"].as_str().unwrap() {
            "leave" => {
                seen.insert(event["content"]["user_id"].as_u64().unwrap());
            }
            "presence" => {
                let left = event["content"]["left"].as_array().unwrap();
                seen.extend(left.iter().map(|id| id.as_u64().unwrap()));
            }
            other => panic!("{other} among the leaves"),
        }
    }
    let leaver = crowd.pop().unwrap();
    let content = |count: usize| {
        json!({
            "user_id": leaver.id, "user_name": leaver.name, "users_online": count,
            "room": "general",
        })
    };
    let leave = from_system("leave", content(LIMIT - 1));
    leaver.leave().await;
    assert_eq!(crowd[0].next().await, leave);
    let newcomer = Chat::enter(&server).await;
    let content = json!({
        "user_id": newcomer.id, "user_name": newcomer.name, "users_online": LIMIT,
        "room": "general",
    });
    assert_eq!(crowd[0].next().await, from(&newcomer, "join", content));
}

async fn exact_presence_announces_at_any_size(launch: Launch) {
    let server = launch.flag("--presence", "exact").flag("--presence-limit", 2).start();
    let mut crowd = Chat::crowd(&server, 8).await;
    let leaver = crowd.pop().unwrap();
    let id = leaver.id;
    leaver.leave().await;
    for member in &mut crowd {
        let leave = member.next().await;
        assert_eq!((&leave["type"], &leave["content"]["user_id"]), (&json!("leave"), &json!(id)));
    }
}

async fn count_presence_tells_numbers_alone_at_any_size(launch: Launch) {
    let server = launch.flag("--presence", "count").start();
    let mut alice = Chat::enter(&server).await;
    let mut bob = Chat::enter(&server).await;
    let numbers = |count: usize| {
        let content = json!({
            "room": "general", "users_online": count, "joined": [], "left": [], "renamed": [],
            "truncated": true,
        });
        from_system("presence", content)
    };
    let reached = async |chat: &mut Chat, count| {
        loop {
            let event = chat.next().await;
            assert_eq!(event["type"], "presence", "{event}");
            if event["content"]["users_online"] == count {
                assert_eq!(event, numbers(count));
                return;
            }
        }
    };
    reached(&mut alice, 2).await;
    bob.say(json!({"type": "set_name", "name": "Bob"})).await;
    bob.until("name_changed").await;
    bob.leave().await;
    reached(&mut alice, 1).await;
}

/// Whatever way changes are told, a client that follows them knows who is there.
async fn a_list_kept_from_events_agrees_with_the_server(launch: Launch) {
    let server = launch.flag("--presence-limit", LIMIT).start();
    let mut observer = Chat::enter(&server).await;
    let mut list = BTreeSet::from([observer.id]);
    let mut crowd: Vec<Chat> = Vec::new();
    for (coming, going) in [(3, 1), (5, 2), (4, 7), (1, 2), (6, 5), (0, 2)] {
        for _ in 0..coming {
            crowd.push(Chat::enter(&server).await);
        }
        for _ in 0..going {
            crowd.remove(0).leave().await;
        }
        let there = crowd.iter().map(|member| member.id).chain([observer.id]).collect();
        while list != there {
            let event = observer.next().await;
            let content = &event["content"];
            match event["type"].as_str().unwrap() {
                "join" => {
                    list.insert(content["user_id"].as_u64().unwrap());
                }
                "leave" => {
                    list.remove(&content["user_id"].as_u64().unwrap());
                }
                "presence" => {
                    for user in content["joined"].as_array().unwrap() {
                        list.insert(user["id"].as_u64().unwrap());
                    }
                    for id in content["left"].as_array().unwrap() {
                        list.remove(&id.as_u64().unwrap());
                    }
                }
                other => panic!("{other} among the changes"),
            }
        }
    }
    observer.send("end").await;
    assert_eq!(observer.until("error").await, error("Invalid message format"));
}

/// What batches have told so far.
#[derive(Default)]
struct Seen {
    joined: BTreeMap<u64, String>,
    renamed: BTreeMap<u64, String>,
    left: BTreeSet<u64>,
    users_online: u64,
}

/// Reads batches until they have told enough.
async fn batches(member: &mut Chat, enough: impl Fn(&Seen) -> bool) -> Seen {
    let mut seen = Seen::default();
    while !enough(&seen) {
        let event = member.next().await;
        assert_eq!(event["type"], "presence", "{event}");
        let content = &event["content"];
        assert_eq!(content["truncated"], false);
        seen.joined.extend(names(&content["joined"]));
        seen.renamed.extend(names(&content["renamed"]));
        let left = content["left"].as_array().unwrap();
        seen.left.extend(left.iter().map(|id| id.as_u64().unwrap()));
        seen.users_online = content["users_online"].as_u64().unwrap();
    }
    seen
}

fn names(list: &Value) -> Vec<(u64, String)> {
    let list = list.as_array().unwrap().iter();
    list.map(|user| (user["id"].as_u64().unwrap(), user["name"].as_str().unwrap().to_owned())).collect()
}

/// Five members who have just been told of the last of four others.
async fn large_room(server: &Server) -> (Vec<Chat>, Vec<Chat>) {
    let mut crowd = Chat::crowd(server, LIMIT).await;
    let mut others = Vec::new();
    for _ in 0..4 {
        others.push(Chat::enter(server).await);
    }
    let last = others[3].id;
    for member in &mut crowd {
        batches(member, |seen| seen.joined.contains_key(&last)).await;
    }
    (crowd, others)
}
