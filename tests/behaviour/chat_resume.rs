//! Coming back to a room: what was said meanwhile, and whether that is all of it.

use serde_json::{Value, json};

use crate::harness::{Chat, Launch, direct, error, from_system, on_one_and_four_shards, take_epoch};

on_one_and_four_shards! {
    who_comes_back_is_told_what_it_has_missed,
    resuming_in_the_room_one_is_in_announces_nothing,
    resuming_elsewhere_is_a_change_of_room,
    the_last_id_brings_nothing_and_is_complete,
    zero_brings_all_that_is_kept,
    what_is_no_longer_kept_is_admitted,
    an_id_that_was_never_given_out_is_not_complete_and_brings_all_that_is_kept,
    every_history_of_a_room_names_the_same_epoch,
    an_id_of_another_epoch_is_not_complete_and_brings_all_that_is_kept,
    nothing_is_missed_or_doubled_around_a_resume,
    a_room_that_there_is_not_is_refused,
    a_resume_without_a_room_or_a_number_is_refused,
}

async fn who_comes_back_is_told_what_it_has_missed(launch: Launch) {
    let server = launch.start();
    let [mut alice, mut bob] = Chat::members(&server).await;
    let seen = bob.message("here").await;
    assert_eq!(alice.next().await["message_id"], seen);
    bob.leave().await;
    assert_eq!(alice.next().await["type"], "leave");
    for content in ["one", "two"] {
        alice.message(content).await;
    }
    let mut bob = Chat::enter(&server).await;
    assert_eq!(alice.next().await["type"], "join");
    let (contents, is_complete) = resume(&mut bob, "general", seen).await;
    assert_eq!((contents, is_complete), (vec!["one".to_owned(), "two".to_owned()], true));
}

async fn resuming_in_the_room_one_is_in_announces_nothing(launch: Launch) {
    let server = launch.start();
    let [mut alice, mut bob] = Chat::members(&server).await;
    resume(&mut bob, "general", 0).await;
    alice.message("still there?").await;
    assert_eq!(bob.next().await["content"], "still there?");
    bob.message("yes").await;
    assert_eq!(alice.next().await["content"], "yes", "neither leave nor join came before");
}

async fn resuming_elsewhere_is_a_change_of_room(launch: Launch) {
    let server = launch.start();
    let [mut alice, mut bob] = Chat::members(&server).await;
    assert_eq!(resume(&mut bob, "random", 0).await, (vec![], true));
    let left = json!({"user_id": bob.id, "user_name": bob.name, "users_online": 1, "room": "general"});
    assert_eq!(alice.next().await, from_system("leave", left));
    alice.move_to("random").await;
    assert_eq!(bob.next().await["type"], "join");
}

async fn the_last_id_brings_nothing_and_is_complete(launch: Launch) {
    let server = launch.start();
    let mut alice = Chat::enter(&server).await;
    assert_eq!(resume(&mut alice, "general", 0).await, (vec![], true), "nothing was ever said");
    let last = alice.message("one").await;
    assert_eq!(resume(&mut alice, "general", last).await, (vec![], true));
}

async fn zero_brings_all_that_is_kept(launch: Launch) {
    let server = launch.start();
    let mut alice = Chat::enter(&server).await;
    for number in 0..5 {
        alice.message(&number.to_string()).await;
    }
    let (contents, is_complete) = resume(&mut alice, "general", 0).await;
    assert_eq!((contents.join(""), is_complete), ("01234".to_owned(), true));
}

async fn what_is_no_longer_kept_is_admitted(launch: Launch) {
    let server = launch.flag("--history", 3).start();
    let mut alice = Chat::enter(&server).await;
    let mut last = 0;
    for number in 1..=5 {
        last = alice.message(&number.to_string()).await;
    }
    for (after, expected, complete) in [
        (0, "345", false),
        (last - 4, "345", false),
        (last - 3, "345", true),
        (last - 1, "5", true),
        (last, "", true),
    ] {
        let (contents, is_complete) = resume(&mut alice, "general", after).await;
        assert_eq!((contents.concat().as_str(), is_complete), (expected, complete), "after {after}");
    }
}

async fn an_id_that_was_never_given_out_is_not_complete_and_brings_all_that_is_kept(launch: Launch) {
    let server = launch.start();
    let mut alice = Chat::enter(&server).await;
    let last = alice.message("one").await;
    // As after a restart that has lost the rest: nobody knows what was said up to there.
    for after in [last + 1, (1 << 53) - 1, u64::MAX] {
        let kept = vec!["one".to_owned()];
        assert_eq!(resume(&mut alice, "general", after).await, (kept, false), "after {after}");
    }
}

async fn every_history_of_a_room_names_the_same_epoch(launch: Launch) {
    let server = launch.start();
    let mut alice = Chat::connect(&server).await;
    let general = take_epoch(&mut alice.until("history").await);
    alice.message("one").await;
    alice.say(json!({"type": "join_room", "room": "random"})).await;
    let random = take_epoch(&mut alice.until("history").await);
    assert_ne!(random, general);
    for room in ["general", "random", "random"] {
        alice.say(json!({"type": "resume", "room": room, "after": 0})).await;
        let own = if room == "general" { &general } else { &random };
        assert_eq!(take_epoch(&mut alice.until("history").await), *own);
    }
    alice.say(json!({"type": "get_rooms"})).await;
    for mut room in alice.next().await["content"].as_array().unwrap().clone() {
        let epoch = take_epoch(&mut room);
        assert_eq!(epoch == general, room["room"] == "general", "{room}");
        assert_eq!(epoch == random, room["room"] == "random", "{room}");
    }
    let mut bob = Chat::connect(&server).await;
    assert_eq!(take_epoch(&mut bob.until("history").await), general);
}

async fn an_id_of_another_epoch_is_not_complete_and_brings_all_that_is_kept(launch: Launch) {
    let server = launch.start();
    let mut alice = Chat::connect(&server).await;
    let general = take_epoch(&mut alice.until("history").await);
    for content in ["one", "two", "three"] {
        alice.message(content).await;
    }
    alice.say(json!({"type": "join_room", "room": "random"})).await;
    let random = take_epoch(&mut alice.until("history").await);
    let longer = format!("{general}0");
    let all = vec!["one", "two", "three"];
    for (after, epoch, expected, complete) in [
        (2, &general, vec!["three"], true),
        (3, &general, vec![], true),
        (0, &general, all.clone(), true),
        (4, &general, all.clone(), false),
        (2, &random, all.clone(), false),
        (0, &random, all.clone(), false),
        (3, &longer, all.clone(), false),
        (3, &general[1..].to_owned(), all.clone(), false),
        (3, &String::new(), all.clone(), false),
        (3, &"x".repeat(9_000), all.clone(), false),
    ] {
        alice.say(json!({"type": "resume", "room": "general", "after": after, "epoch": epoch})).await;
        let mut history = alice.until("history").await;
        assert_eq!(
            (contents_of(&history), &history["complete"]),
            (expected.into_iter().map(str::to_owned).collect(), &json!(complete)),
            "after {after} of {epoch}"
        );
        assert_eq!(take_epoch(&mut history), general);
    }
}

/// Its ids begin again with 1, and may have come beyond those of the earlier life.
#[tokio::test]
async fn who_comes_back_to_a_server_that_had_kept_everything_in_memory_is_shown_everything() {
    for shards in [1, 4] {
        let server = Launch::with_shards(shards).start();
        let mut alice = Chat::connect(&server).await;
        let before = take_epoch(&mut alice.until("history").await);
        let last = alice.message("in the earlier life").await;
        drop(server);
        let server = Launch::with_shards(shards).start();
        let mut alice = Chat::connect(&server).await;
        let after = take_epoch(&mut alice.until("history").await);
        assert_ne!(after, before);
        for content in ["one", "two"] {
            alice.message(content).await;
        }
        alice.say(json!({"type": "resume", "room": "general", "after": last, "epoch": before})).await;
        let history = alice.until("history").await;
        assert_eq!(contents_of(&history), ["one", "two"]);
        assert_eq!((&history["complete"], &history["epoch"]), (&json!(false), &json!(after)));
    }
}

async fn nothing_is_missed_or_doubled_around_a_resume(launch: Launch) {
    let server = launch.without_rate_limit().start();
    let [mut alice, mut bob] = Chat::members(&server).await;
    let count = 200;
    alice.burst((0..count).map(|n| json!({"type": "message", "content": n.to_string()}))).await;
    bob.burst([json!({"type": "resume", "room": "general", "after": 0})]).await;
    // What comes before the resume is in its history, too; what comes behind it is in nothing else.
    let mut next = 0;
    let mut has_resumed = false;
    while next < count || !has_resumed {
        let message = bob.next().await;
        match message["type"].as_str().expect("a type") {
            "message" => {
                assert_eq!(message["content"], next.to_string());
                next += 1;
            }
            "history" => {
                assert_eq!(message["complete"], next <= 100, "100 are kept");
                let kept = contents_of(&message);
                let last = kept.last().map_or(0, |last| last.parse::<usize>().unwrap() + 1);
                assert_eq!(last, next, "the history ends where the room had come to");
                has_resumed = true;
            }
            kind => assert!(["room_joined", "users"].contains(&kind), "{message}"),
        }
    }
}

async fn a_room_that_there_is_not_is_refused(launch: Launch) {
    let server = launch.start();
    let mut alice = Chat::enter(&server).await;
    for room in ["", "attic", "General", "general ", "\u{202e}x", "<b>"] {
        alice.say(json!({"type": "resume", "room": room, "after": 0})).await;
        assert_eq!(alice.next().await, error(&format!("Unknown room: {room}")));
    }
}

async fn a_resume_without_a_room_or_a_number_is_refused(launch: Launch) {
    let server = launch.start();
    let mut alice = Chat::enter(&server).await;
    for message in [
        json!({"type": "resume"}),
        json!({"type": "resume", "room": "general"}),
        json!({"type": "resume", "after": 0}),
        json!({"type": "resume", "room": 7, "after": 0}),
        json!({"type": "resume", "room": null, "after": 0}),
        json!({"type": "resume", "room": "general", "after": "0"}),
        json!({"type": "resume", "room": "general", "after": -1}),
        json!({"type": "resume", "room": "general", "after": 0.5}),
        json!({"type": "resume", "room": "general", "after": null}),
        json!({"type": "resume", "room": "general", "after": 0, "epoch": 7}),
        json!({"type": "resume", "room": "general", "after": 0, "epoch": null}),
    ] {
        alice.say(message.clone()).await;
        assert_eq!(alice.next().await, error("Invalid message format"), "{message}");
    }
}

/// Resumes, and returns what was said since and whether it is complete.
async fn resume(chat: &mut Chat, room: &str, after: u64) -> (Vec<String>, bool) {
    chat.say(json!({"type": "resume", "room": room, "after": after})).await;
    assert_eq!(chat.next().await, direct("room_joined", json!({"room": room})));
    assert_eq!(chat.next().await["type"], "users");
    let history = chat.next().await;
    assert_eq!(history["type"], "history");
    assert_eq!(history["deleted"], json!([]));
    (contents_of(&history), history["complete"].as_bool().expect("complete is always there"))
}

fn contents_of(history: &Value) -> Vec<String> {
    let kept = history["content"].as_array().expect("a list").iter();
    kept.map(|message| message["content"].as_str().unwrap().to_owned()).collect()
}
