//! Rooms that clients create by joining them: over 500 lines because all behaviours share a few helpers.

use std::time::Duration;

use serde_json::{Value, json};

use crate::durability::contents;
use crate::harness::{
    Chat, Launch, Server, TokenKey, direct, error, eventually, from, from_system, on_one_and_four_shards,
    on_one_and_four_shards_only, on_one_and_four_shards_with_data, take_epoch,
};

on_one_and_four_shards! {
    who_joins_a_name_that_matches_creates_the_room,
    names_at_every_edge,
    without_a_pattern_no_room_is_created,
    they_are_listed_behind_the_configured_ones_most_members_first,
    pages_of_the_list_have_the_total_of_all_that_match,
    the_one_that_has_been_empty_longest_makes_place,
    where_none_is_empty_there_are_too_many_rooms_and_one_stays_where_one_is,
    members_keep_a_room_from_being_forgotten,
    one_that_was_left_is_there_until_its_time_is_over,
    clients_that_vanish_while_they_join_leave_no_room_behind,
    joins_and_leaves_race_with_forgetting,
    the_numbers_of_users_count_the_members_of_all_rooms,
}

mod in_memory {
    use super::*;

    on_one_and_four_shards_only! {
        a_forgotten_room_begins_anew_in_another_epoch,
        a_token_joins_and_sees_what_its_patterns_allow,
        new_rights_take_one_out_of_a_room,
    }
}

mod durable {
    use super::*;

    on_one_and_four_shards_with_data! {
        a_forgotten_room_comes_back_with_its_messages,
        a_room_comes_back_after_a_restart_and_after_a_kill,
        a_room_in_which_nothing_was_said_begins_anew,
        while_the_disk_fails_no_room_is_opened,
    }
}

/// Lets clients create rooms whose names begin with `team-`.
pub(crate) fn teams(launch: Launch) -> Launch {
    launch.flag("--room-pattern", "team-*")
}

/// As [`teams`], where an empty room is forgotten after a moment.
pub(crate) fn short_lived(launch: Launch) -> Launch {
    teams(launch).flag("--room-ttl", "50ms")
}

fn join(room: &str) -> Value {
    json!({"type": "join_room", "room": room})
}

/// Moves to a room, or resumes it, and returns its `history`.
async fn history_of(chat: &mut Chat, request: Value) -> Value {
    chat.say(request).await;
    chat.until("history").await
}

/// The answer to `get_rooms`.
pub(crate) async fn list(chat: &mut Chat, request: Value) -> Value {
    let mut request = request;
    request["type"] = json!("get_rooms");
    chat.say(request).await;
    chat.until("rooms").await
}

/// The names and numbers of members of the rooms that clients have created.
pub(crate) async fn created(chat: &mut Chat) -> Vec<(String, u64)> {
    let rooms = list(chat, json!({"prefix": "team-"})).await;
    let rooms = rooms["content"].as_array().unwrap();
    rooms.iter().map(|room| (name_of(room), room["users_online"].as_u64().unwrap())).collect()
}

fn name_of(room: &Value) -> String {
    room["room"].as_str().unwrap().to_owned()
}

/// Waits until a room is no longer listed.
pub(crate) async fn forgotten(chat: &mut Chat, name: &str) {
    eventually("the room is forgotten", async || created(chat).await.iter().all(|(room, _)| room != name))
        .await;
}

async fn who_joins_a_name_that_matches_creates_the_room(launch: Launch) {
    let server = teams(launch).start();
    let [mut alice, mut bob] = Chat::members(&server).await;
    alice.say(join("team-a")).await;
    assert_eq!(alice.next().await, direct("room_joined", json!({"room": "team-a"})));
    let users = alice.next().await;
    assert_eq!(users["content"].as_array().unwrap().len(), 1);
    let mut history = alice.next().await;
    take_epoch(&mut history);
    assert_eq!(history, direct("history", json!([])));
    let gone = json!({"user_id": alice.id, "user_name": alice.name, "users_online": 1, "room": "general"});
    assert_eq!(bob.next().await, from_system("leave", gone));

    assert_eq!(alice.message("first").await, 1);
    bob.say(join("team-a")).await;
    assert_eq!(bob.next().await, direct("room_joined", json!({"room": "team-a"})));
    assert_eq!(bob.next().await["content"].as_array().unwrap().len(), 2);
    assert_eq!(contents(&bob.next().await["content"]), ["first"]);
    let came = json!({"user_id": bob.id, "user_name": bob.name, "users_online": 2, "room": "team-a"});
    assert_eq!(alice.next().await, from(&bob, "join", came));
    bob.say(json!({"type": "message", "content": "second"})).await;
    let sent = json!({"message_id": 2, "room": "team-a"});
    assert_eq!(bob.next().await, direct("message_sent", sent));
    assert_eq!(alice.next().await["content"], "second");
    // One's own room answers as ever and announces nothing.
    bob.move_to("team-a").await;
    let resumed = history_of(&mut bob, json!({"type": "resume", "room": "team-a", "after": 1})).await;
    assert_eq!((contents(&resumed["content"]), &resumed["complete"]), (vec![json!("second")], &json!(true)));
    bob.message("third").await;
    assert_eq!(alice.next().await["content"], "third");
    let page = history_of(&mut bob, json!({"type": "get_history", "before": 2, "limit": 9})).await;
    assert_eq!((contents(&page["content"]), &page["more"]), (vec![json!("first")], &json!(false)));
}

async fn names_at_every_edge(launch: Launch) {
    let server = launch.flag("--room-pattern", "*").start();
    let mut alice = Chat::enter(&server).await;
    let longest = "你".repeat(64);
    for name in ["x", "a b", "räume 🙂", "General", "a,b", "a/b", &longest] {
        alice.move_to(name).await;
        assert_eq!(alice.message("here").await, 1, "{name}");
    }
    let longer = "y".repeat(65);
    for name in ["", " ", " a", "a ", "a\u{3000}", "\u{a0}a", "a\nb", "a\u{85}b", "\u{0}", "*", "a*", &longer]
    {
        alice.say(join(name)).await;
        assert_eq!(alice.next().await, error(&format!("Unknown room: {name}")), "{name:?}");
        alice.say(json!({"type": "resume", "room": name, "after": 0})).await;
        assert_eq!(alice.next().await, error(&format!("Unknown room: {name}")), "{name:?}");
    }
    alice.say(join(&"z".repeat(5_000))).await;
    assert_eq!(alice.next().await["type"], "error");
    // It has not left the last one.
    assert_eq!(alice.message("still here").await, 2);
}

async fn without_a_pattern_no_room_is_created(launch: Launch) {
    let server = launch.start();
    let mut alice = Chat::enter(&server).await;
    alice.say(join("team-a")).await;
    assert_eq!(alice.next().await, error("Unknown room: team-a"));
    assert_eq!(list(&mut alice, json!({})).await["total"], 3);
}

async fn they_are_listed_behind_the_configured_ones_most_members_first(launch: Launch) {
    let server = teams(launch).start();
    let mut crowd = Chat::crowd(&server, 5).await;
    for (chat, room) in crowd.iter_mut().zip(["team-b", "team-c", "team-a", "team-c"]) {
        chat.move_to(room).await;
    }
    let id = crowd[2].message("said").await;
    let mut rooms = list(&mut crowd[4], json!({})).await;
    let epochs: Vec<String> = rooms["content"].as_array_mut().unwrap().iter_mut().map(take_epoch).collect();
    let room = |room: &str, users_online, last_message_id| json!({"room": room, "users_online": users_online, "last_message_id": last_message_id});
    let expected = json!([
        room("general", 1, 0),
        room("random", 0, 0),
        room("gaming", 0, 0),
        room("team-c", 2, 0),
        room("team-a", 1, id),
        room("team-b", 1, 0),
    ]);
    assert_eq!((&rooms["content"], &rooms["total"]), (&expected, &json!(6)));
    let history = history_of(&mut crowd[2], join("team-a")).await;
    assert_eq!(history["epoch"], epochs[4]);
}

async fn pages_of_the_list_have_the_total_of_all_that_match(launch: Launch) {
    let server = teams(launch).without_rate_limit().start();
    let mut alice = Chat::enter(&server).await;
    let names: Vec<String> = (0..520).map(|number| format!("team-{number:03}")).collect();
    for name in &names {
        alice.move_to(name).await;
    }
    alice.move_to("general").await;
    for (request, first, count, total) in [
        (json!({}), "general", 500, 523),
        (json!({"offset": 500}), "team-497", 23, 523),
        (json!({"offset": 2}), "gaming", 500, 523),
        (json!({"prefix": "team-"}), "team-000", 500, 520),
        (json!({"prefix": "team-", "offset": 500}), "team-500", 20, 520),
        (json!({"prefix": "team-51"}), "team-510", 10, 10),
        (json!({"prefix": "g"}), "general", 2, 2),
        (json!({"prefix": "team-", "offset": 520}), "", 0, 520),
        (json!({"prefix": "none"}), "", 0, 0),
    ] {
        let rooms = list(&mut alice, request.clone()).await;
        let listed = rooms["content"].as_array().unwrap();
        assert_eq!((listed.len(), &rooms["total"]), (count, &json!(total)), "{request}");
        assert_eq!(listed.first().map(name_of).unwrap_or_default(), first, "{request}");
    }
}

async fn the_one_that_has_been_empty_longest_makes_place(launch: Launch) {
    let server = teams(launch).flag("--rooms-max", 3).start();
    let [mut alice, mut bob] = Chat::members(&server).await;
    for room in ["team-a", "team-b", "team-c"] {
        alice.move_to(room).await;
    }
    // Emptied in the order a, b; c has a member.
    bob.move_to("team-a").await;
    bob.move_to("general").await;
    let names = async |chat: &mut Chat| {
        let mut names: Vec<String> = created(chat).await.into_iter().map(|(name, _)| name).collect();
        names.sort();
        names
    };
    bob.move_to("team-d").await;
    // The one that was left first, b, is gone, as a was visited since.
    assert_eq!(names(&mut bob).await, ["team-a", "team-c", "team-d"]);
    bob.move_to("team-b").await;
    assert_eq!(names(&mut bob).await, ["team-b", "team-c", "team-d"]);
    bob.move_to("team-a").await;
    assert_eq!(names(&mut bob).await, ["team-a", "team-b", "team-c"]);
}

async fn where_none_is_empty_there_are_too_many_rooms_and_one_stays_where_one_is(launch: Launch) {
    let server = teams(launch).flag("--rooms-max", 2).start();
    let [mut alice, mut bob, mut carol] = Chat::members(&server).await;
    alice.move_to("team-a").await;
    bob.move_to("team-b").await;
    for _ in 0..2 {
        assert_eq!(carol.next().await["type"], "leave");
    }
    for room in ["team-c", "team-d", "team-e"] {
        carol.say(join(room)).await;
        assert_eq!(carol.next().await, error("Too many rooms"));
        carol.say(json!({"type": "resume", "room": room, "after": 0})).await;
        assert_eq!(carol.next().await, error("Too many rooms"));
    }
    assert_eq!(list(&mut carol, json!({"prefix": "general"})).await["content"][0]["users_online"], 1);
    // One that is there can be joined as ever.
    carol.move_to("team-b").await;
    assert_eq!(bob.next().await["type"], "join");
    carol.say(join("team-c")).await;
    assert_eq!(carol.next().await, error("Too many rooms"));
    carol.message("still here").await;
    assert_eq!(bob.next().await["content"], "still here");
    alice.move_to("general").await;
    carol.move_to("team-c").await;
}

async fn members_keep_a_room_from_being_forgotten(launch: Launch) {
    let server = short_lived(launch).start();
    let [mut alice, mut bob] = Chat::members(&server).await;
    alice.move_to("team-a").await;
    alice.message("said").await;
    bob.move_to("team-b").await;
    bob.move_to("general").await;
    forgotten(&mut bob, "team-b").await;
    assert_eq!(created(&mut bob).await, [("team-a".to_owned(), 1)]);
    let history = history_of(&mut bob, join("team-a")).await;
    assert_eq!(contents(&history["content"]), ["said"]);
}

async fn one_that_was_left_is_there_until_its_time_is_over(launch: Launch) {
    let server = teams(launch).start();
    let [mut alice, mut bob] = Chat::members(&server).await;
    let epoch = history_of(&mut alice, join("team-a")).await["epoch"].clone();
    alice.message("said").await;
    alice.leave().await;
    bob.until("leave").await;
    eventually("it is empty", async || created(&mut bob).await == [("team-a".to_owned(), 0)]).await;
    let resume = json!({"type": "resume", "room": "team-a", "after": 0, "epoch": epoch});
    let resumed = history_of(&mut bob, resume).await;
    assert_eq!((contents(&resumed["content"]), &resumed["complete"]), (vec![json!("said")], &json!(true)));
    assert_eq!(resumed["epoch"], epoch);
}

async fn clients_that_vanish_while_they_join_leave_no_room_behind(launch: Launch) {
    let server = short_lived(launch).start();
    let mut alice = Chat::enter(&server).await;
    for number in 0..40 {
        let mut chat = Chat::enter(&server).await;
        chat.say(join(&format!("team-{}", number % 7))).await;
        // Closed before the answer, or behind it.
        drop(chat);
    }
    eventually("all are forgotten", async || created(&mut alice).await.is_empty()).await;
    eventually("nobody is left", async || {
        list(&mut alice, json!({"prefix": "general"})).await["content"][0]["users_online"] == 1
    })
    .await;
}

async fn joins_and_leaves_race_with_forgetting(launch: Launch) {
    let server = teams(launch).flag("--room-ttl", "1ms").flag("--rooms-max", 2).without_rate_limit().start();
    let mut crowd = Chat::crowd(&server, 4).await;
    let walks = crowd.drain(..).enumerate().map(|(own, mut chat)| {
        tokio::spawn(async move {
            let mut refused = 0;
            for step in 0..60 {
                let room = format!("team-{}", (step * (own + 1)) % 5);
                chat.say(join(&room)).await;
                let answer = loop {
                    let message = chat.next().await;
                    if message["type"] == "room_joined" || message["type"] == "error" {
                        break message;
                    }
                };
                if answer == error("Too many rooms") {
                    refused += 1;
                    continue;
                }
                assert_eq!(answer, direct("room_joined", json!({"room": room})));
                assert_eq!(chat.next().await["type"], "users");
                assert_eq!(chat.next().await["type"], "history");
                chat.say(json!({"type": "message", "content": "here"})).await;
                assert_eq!(chat.until("message_sent").await["content"]["room"], room);
            }
            (chat, refused)
        })
    });
    let walks: Vec<_> = walks.collect();
    let mut walkers = Vec::new();
    for walk in walks {
        walkers.push(walk.await.unwrap().0);
    }
    let mut last = walkers.pop().unwrap();
    last.move_to("general").await;
    for walker in walkers {
        walker.leave().await;
    }
    eventually("all are forgotten", async || created(&mut last).await.is_empty()).await;
}

async fn the_numbers_of_users_count_the_members_of_all_rooms(launch: Launch) {
    let server = short_lived(launch).start();
    let [mut alice, mut bob] = Chat::members(&server).await;
    alice.move_to("team-a").await;
    bob.until("leave").await;
    bob.say(json!({"type": "get_stats"})).await;
    assert_eq!(bob.next().await["content"]["users_online"], 2);
    alice.leave().await;
    eventually("one is left", async || {
        bob.say(json!({"type": "get_stats"})).await;
        bob.until("stats").await["content"]["users_online"] == 1
    })
    .await;
}

async fn a_forgotten_room_begins_anew_in_another_epoch(launch: Launch) {
    let server = short_lived(launch).start();
    let mut alice = Chat::enter(&server).await;
    let epoch = history_of(&mut alice, join("team-a")).await["epoch"].clone();
    for content in ["one", "two"] {
        alice.message(content).await;
    }
    alice.move_to("general").await;
    forgotten(&mut alice, "team-a").await;
    // Its ids begin with 1 again, so an id of the earlier life says nothing.
    let resume = |after| json!({"type": "resume", "room": "team-a", "after": after, "epoch": epoch});
    let resumed = history_of(&mut alice, resume(2)).await;
    assert_eq!((&resumed["content"], &resumed["complete"]), (&json!([]), &json!(false)));
    assert_ne!(resumed["epoch"], epoch);
    assert_eq!(alice.message("new").await, 1);
    let resumed = history_of(&mut alice, resume(1)).await;
    assert_eq!((contents(&resumed["content"]), &resumed["complete"]), (vec![json!("new")], &json!(false)));
    let unknown = history_of(&mut alice, json!({"type": "resume", "room": "team-a", "after": 2})).await;
    assert_eq!(unknown["complete"], false);
}

fn with_tokens(launch: Launch) -> (Server, TokenKey) {
    let key = TokenKey::new();
    (teams(launch).flag("--token-key", key.path().display()).start(), key)
}

async fn a_token_joins_and_sees_what_its_patterns_allow(launch: Launch) {
    let (server, key) = with_tokens(launch);
    let mut alice = Chat::enter(&server).await;
    for room in ["team-b", "team-a", "team-ab", "team-c"] {
        alice.move_to(room).await;
    }
    let token = key.token("ann", &["--room", "general", "--room", "team-a*", "--room", "team-c"]).await;
    let mut ann = Chat::with_token(&server, &token).await;
    ann.until("history").await;
    for (room, refusal) in
        [("team-b", "Permission denied"), ("team-x", "Permission denied"), ("none", "Unknown room: none")]
    {
        ann.say(join(room)).await;
        assert_eq!(ann.next().await, error(refusal), "{room}");
    }
    let rooms = list(&mut ann, json!({})).await;
    let names: Vec<String> = rooms["content"].as_array().unwrap().iter().map(name_of).collect();
    assert_eq!(
        (names, &rooms["total"]),
        (["general", "team-c", "team-a", "team-ab"].map(String::from).to_vec(), &json!(4))
    );
    let rooms = list(&mut ann, json!({"prefix": "team-a", "offset": 1})).await;
    assert_eq!((&rooms["content"][0]["room"], &rooms["total"]), (&json!("team-ab"), &json!(2)));
    ann.move_to("team-a1").await;
    ann.message("created").await;
}

async fn new_rights_take_one_out_of_a_room(launch: Launch) {
    let (server, key) = with_tokens(launch);
    let mut ann = Chat::with_token(&server, &key.token("ann", &["--room", "*"]).await).await;
    ann.until("history").await;
    ann.move_to("team-a").await;
    let token = key.token("ann", &["--room", "general", "--room", "team-b"]).await;
    ann.say(json!({"type": "auth", "token": token})).await;
    assert_eq!(ann.next().await["type"], "auth_success");
    assert_eq!(ann.next().await, direct("room_joined", json!({"room": "general"})));
    ann.until("history").await;
    ann.say(json!({"type": "resume", "room": "team-a", "after": 0})).await;
    assert_eq!(ann.next().await, error("Permission denied"));
    ann.move_to("team-b").await;
}

async fn a_forgotten_room_comes_back_with_its_messages(launch: Launch) {
    let server = short_lived(launch).flag("--history", 3).start();
    let mut alice = Chat::enter(&server).await;
    let epoch = history_of(&mut alice, join("team-a")).await["epoch"].clone();
    for content in ["one", "two", "three", "four"] {
        alice.message(content).await;
    }
    for round in 0..3 {
        alice.move_to("general").await;
        forgotten(&mut alice, "team-a").await;
        let resume = json!({"type": "resume", "room": "team-a", "after": 3 + round, "epoch": epoch});
        let resumed = history_of(&mut alice, resume).await;
        assert_eq!((&resumed["epoch"], &resumed["complete"]), (&epoch, &json!(true)), "{resumed}");
        assert_eq!(resumed["content"].as_array().unwrap().len(), 1);
        assert_eq!(alice.message("more").await, 5 + round);
    }
    let rooms = list(&mut alice, json!({"prefix": "team-"})).await;
    assert_eq!(rooms["content"][0]["last_message_id"], 7);
    // Only the last ones are kept, before and after it was away.
    for (before, ids, more) in [(6, vec![5], false), (7, vec![5, 6], false), (5, vec![], false)] {
        let page = history_of(&mut alice, json!({"type": "get_history", "before": before, "limit": 9})).await;
        let found: Vec<u64> = page["content"].as_array().unwrap().iter().map(id_of).collect();
        assert_eq!((found, &page["more"]), (ids, &json!(more)), "before {before}");
    }
    let resumed = history_of(&mut alice, json!({"type": "resume", "room": "team-a", "after": 3})).await;
    assert_eq!(resumed["complete"], false);
}

fn id_of(row: &Value) -> u64 {
    row["message_id"].as_u64().unwrap()
}

async fn a_room_comes_back_after_a_restart_and_after_a_kill(launch: Launch) {
    let launch = teams(launch);
    let server = launch.clone().start();
    let mut alice = Chat::enter(&server).await;
    let epoch = history_of(&mut alice, join("team-a")).await["epoch"].clone();
    alice.message("said").await;
    // Killed.
    drop(server);
    let server = launch.start();
    let mut alice = Chat::enter(&server).await;
    assert!(created(&mut alice).await.is_empty(), "nobody has asked for it");
    let history = history_of(&mut alice, join("team-a")).await;
    assert_eq!((contents(&history["content"]), &history["epoch"]), (vec![json!("said")], &epoch));
    assert!(alice.message("again").await > 2, "ids that may have been given out are not used again");
}

async fn a_room_in_which_nothing_was_said_begins_anew(launch: Launch) {
    let server = short_lived(launch).start();
    let mut alice = Chat::enter(&server).await;
    let epoch = history_of(&mut alice, join("team-a")).await["epoch"].clone();
    alice.move_to("general").await;
    forgotten(&mut alice, "team-a").await;
    assert_ne!(history_of(&mut alice, join("team-a")).await["epoch"], epoch);
}

async fn while_the_disk_fails_no_room_is_opened(launch: Launch) {
    let server = teams(launch).with_small_files().start();
    let [mut alice, mut bob] = Chat::members(&server).await;
    alice.move_to("team-a").await;
    bob.until("leave").await;
    server.refuse_writes();
    alice.say(json!({"type": "message", "content": "lost"})).await;
    assert_eq!(alice.next().await, error(crate::durability::NOT_STORED));
    bob.say(join("team-b")).await;
    assert_eq!(bob.next().await, error("Try again later"));
    // One that is open can be joined.
    bob.move_to("team-a").await;
    assert_eq!(alice.next().await["type"], "join");
    bob.move_to("general").await;
    server.lift_limit_of_files();
    eventually("rooms are opened again", async || {
        bob.say(join("team-b")).await;
        tokio::time::timeout(Duration::from_secs(10), bob.next()).await.unwrap()["type"] == "room_joined"
    })
    .await;
    bob.until("history").await;
    bob.message("kept").await;
}
