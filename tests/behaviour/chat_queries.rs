//! Questions to the server: who is here, which rooms there are, how it is doing.

use std::collections::HashSet;

use serde_json::{Value, json};

use crate::chat_connecting::check_stats;
use crate::harness::{
    Chat, Launch, direct, error, eventually, on_one_server, on_two_nodes, take_epoch, take_timestamp,
};

on_one_server! {
    users_are_listed_with_id_name_and_time,
    users_are_paged_by_offset_and_limit,
    users_are_those_of_ones_own_room,
    pages_that_are_no_numbers_are_refused,
    stats_count_the_members_of_all_rooms,
    rooms_are_listed_by_their_beginning_and_from_a_place_on,
    rooms_are_listed_with_their_members_counted,
}

on_two_nodes! {
    users_are_listed_with_id_name_and_time,
    users_are_paged_by_offset_and_limit,
    users_are_those_of_ones_own_room,
    pages_that_are_no_numbers_are_refused,
    stats_count_the_members_of_all_rooms,
    rooms_are_listed_by_their_beginning_and_from_a_place_on,
}

async fn users_are_listed_with_id_name_and_time(launch: Launch) {
    let server = launch.start();
    let [mut alice, bob] = Chat::members(&server).await;
    alice.say(json!({"type": "get_users"})).await;
    let mut users = alice.next().await;
    for user in users["content"].as_array_mut().unwrap() {
        take_timestamp(user, "connected_at");
    }
    let mut content = [&alice, &bob].map(|user| (user.id, user.name.as_str()));
    content.sort();
    let content = content.map(|(id, name)| json!({"id": id, "name": name}));
    assert_eq!(users, direct("users", json!(content)));
}

async fn users_are_paged_by_offset_and_limit(launch: Launch) {
    let server = launch.start();
    let mut members = Chat::crowd(&server, 7).await;
    let mut ids: Vec<_> = members.iter().map(|member| member.id).collect();
    ids.sort();
    let all = ids.as_slice();
    for (page, expected) in [
        (json!({"offset": 0, "limit": 3}), &all[..3]),
        (json!({"offset": 3, "limit": 3}), &all[3..6]),
        (json!({"offset": 6, "limit": 3}), &all[6..]),
        (json!({"offset": 7, "limit": 3}), &[]),
        (json!({"offset": u32::MAX, "limit": u32::MAX}), &[]),
        (json!({"offset": 5}), &all[5..]),
        (json!({"limit": 2}), &all[..2]),
        (json!({"limit": 0}), &[]),
        (json!({"limit": 1000}), all),
    ] {
        let mut request = page.clone();
        request["type"] = json!("get_users");
        members[0].say(request).await;
        let users = members[0].next().await;
        assert_eq!(users["type"], "users");
        assert_eq!(users["total"], 7, "{page}");
        assert_eq!(ids_of(&users), expected, "{page}");
        assert_eq!(users.as_object().unwrap().len(), 3, "{users}");
    }
}

async fn users_are_those_of_ones_own_room(launch: Launch) {
    let server = launch.start();
    let [mut alice, mut bob, mut carol] = Chat::members(&server).await;
    bob.move_to("random").await;
    assert_eq!(alice.next().await["type"], "leave");
    assert_eq!(carol.next().await["type"], "leave");
    let mut in_general = vec![alice.id, carol.id];
    in_general.sort();
    for (member, expected) in [(&mut alice, in_general), (&mut bob, vec![])] {
        member.say(json!({"type": "get_users"})).await;
        let users = member.next().await;
        let expected = if expected.is_empty() { vec![member.id] } else { expected };
        assert_eq!(ids_of(&users), expected);
    }
}

async fn pages_that_are_no_numbers_are_refused(launch: Launch) {
    let server = launch.start();
    let mut alice = Chat::enter(&server).await;
    for key in ["offset", "limit"] {
        for value in [json!("1"), json!(-1), json!(0.5), json!([]), json!({}), json!(true)] {
            alice.say(json!({"type": "get_users", key: value})).await;
            assert_eq!(alice.next().await, error("Invalid message format"), "{key} {value}");
        }
    }
}

async fn stats_count_the_members_of_all_rooms(launch: Launch) {
    let server = launch.start();
    let [mut alice, mut bob, _carol] = Chat::members(&server).await;
    let _listener = crate::harness::Socket::listeners(&server, "/broadcast", 1).await;
    bob.move_to("random").await;
    assert_eq!(alice.next().await["type"], "leave");
    let mut stats = Value::Null;
    eventually("three users online", async || {
        alice.say(json!({"type": "get_stats"})).await;
        stats = alice.next().await;
        stats["content"]["users_online"] == 3
    })
    .await;
    check_stats(&mut stats["content"], 3);
    assert_eq!(stats, direct("stats", json!({})));
}

async fn rooms_are_listed_with_their_members_counted(launch: Launch) {
    let server = launch.flag("--rooms", "general,tea,café").start();
    let [mut alice, mut bob, _carol] = Chat::members(&server).await;
    bob.move_to("café").await;
    bob.message("one").await;
    assert_eq!(alice.next().await["type"], "leave");
    let expected = json!([
        {"room": "café", "users_online": 1, "last_message_id": 1},
        {"room": "general", "users_online": 2, "last_message_id": 0},
        {"room": "tea", "users_online": 0, "last_message_id": 0},
    ]);
    let mut rooms = Value::Null;
    eventually("rooms with these counts", async || {
        alice.say(json!({"type": "get_rooms"})).await;
        rooms = alice.next().await;
        let list = rooms["content"].as_array_mut().expect("a list");
        let epochs: HashSet<String> = list.iter_mut().map(take_epoch).collect();
        assert_eq!(epochs.len(), 3, "each room has its own");
        list.sort_by_key(|room| room["room"].to_string());
        rooms["content"] == expected
    })
    .await;
    let mut all = direct("rooms", expected);
    all["total"] = json!(3);
    assert_eq!(rooms, all);
}

async fn rooms_are_listed_by_their_beginning_and_from_a_place_on(launch: Launch) {
    let names: Vec<String> = (0..510).map(|number| format!("team-{number}")).collect();
    let server = launch.flag("--rooms", format!("general,{},tea", names.join(","))).start();
    let mut alice = Chat::enter(&server).await;
    for (fields, listed, total) in [
        (json!({}), [&["general".to_owned()][..], &names[..499]].concat(), 512),
        (json!({"offset": 500}), [&names[499..], &["tea".to_owned()][..]].concat(), 512),
        (json!({"prefix": "team-"}), names[..500].to_vec(), 510),
        (json!({"prefix": "team-", "offset": 500}), names[500..].to_vec(), 510),
        (json!({"prefix": "te", "offset": 510}), vec!["tea".to_owned()], 511),
        (json!({"prefix": "", "offset": 511}), vec!["tea".to_owned()], 512),
        (json!({"prefix": "Team"}), vec![], 0),
        (json!({"offset": u64::MAX}), vec![], 512),
    ] {
        let rooms = ask_for_rooms(&mut alice, &fields).await;
        let found: Vec<&str> =
            rooms["content"].as_array().unwrap().iter().map(|room| room["room"].as_str().unwrap()).collect();
        assert_eq!(
            (found, &rooms["total"]),
            (listed.iter().map(|it| &**it).collect(), &json!(total)),
            "{fields}"
        );
    }
    for fields in [
        json!({"prefix": 7}),
        json!({"prefix": null}),
        json!({"offset": "1"}),
        json!({"offset": -1}),
        json!({"offset": null}),
    ] {
        assert_eq!(ask_for_rooms(&mut alice, &fields).await, error("Invalid message format"), "{fields}");
    }
}

async fn ask_for_rooms(chat: &mut Chat, fields: &Value) -> Value {
    let mut request = fields.clone();
    request["type"] = json!("get_rooms");
    chat.say(request).await;
    chat.next().await
}

fn ids_of(users: &Value) -> Vec<u64> {
    let users = users["content"].as_array().expect("a list").iter();
    users.map(|user| user["id"].as_u64().unwrap()).collect()
}
