//! What `--data` promises: a restart loses nothing that was acknowledged, whatever ended the server before,
//! and a disk that fails is told and not hidden.

use std::fs;
use std::path::PathBuf;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::harness::{
    Chat, Launch, Server, direct, error, eventually, on_one_and_four_shards_with_data, run, take_epoch,
};
use crate::metrics::scrape;

on_one_and_four_shards_with_data! {
    a_restart_loses_nothing_and_ids_go_on,
    who_comes_back_after_a_restart_is_given_what_it_missed,
    an_epoch_outlives_a_restart_and_a_kill_and_ends_with_its_file,
    what_was_acknowledged_before_a_kill_is_there_after_it,
    after_a_kill_no_id_is_used_again,
    new_users_are_not_taken_for_the_authors_of_what_was_kept,
    fewer_messages_are_kept_when_fewer_are_asked_for,
    a_room_that_is_taken_out_comes_back_with_what_was_said_in_it,
    a_full_disk_is_told_and_chat_goes_on,
    after_a_full_disk_only_what_was_acknowledged_is_kept,
    a_directory_serves_one_server,
}

pub(crate) const NOT_STORED: &str = "Message could not be stored";

async fn a_restart_loses_nothing_and_ids_go_on(launch: Launch) {
    let mut server = launch.clone().start();
    let [mut alice, mut bob] = Chat::members(&server).await;
    assert_eq!(alice.message("first").await, 1);
    bob.until("message").await;
    bob.say(json!({"type": "image", "url": "https://example.org/a.png"})).await;
    assert_eq!(bob.next().await["content"], json!({"message_id": 2, "room": "general"}));
    bob.move_to("random").await;
    assert_eq!(bob.message("elsewhere").await, 1);
    let before = [history(&server, "general").await, history(&server, "random").await];
    assert_eq!(contents(&before[0]), [json!("first"), json!({"url": "https://example.org/a.png"})]);
    stop(&mut server).await;

    let server = launch.start();
    assert_eq!([history(&server, "general").await, history(&server, "random").await], before);
    let mut carol = Chat::enter(&server).await;
    assert_eq!(carol.message("third").await, 3);
}

async fn who_comes_back_after_a_restart_is_given_what_it_missed(launch: Launch) {
    let mut server = launch.clone().start();
    let mut alice = Chat::enter(&server).await;
    for content in ["one", "two", "three"] {
        alice.message(content).await;
    }
    stop(&mut server).await;
    let server = launch.start();
    for (after, expected, complete) in [
        (0, vec!["one", "two", "three"], true),
        (2, vec!["three"], true),
        (3, vec![], true),
        (4, vec!["one", "two", "three"], false),
    ] {
        let resumed = resume(&server, "general", after).await;
        assert_eq!(contents(&resumed["content"]), expected, "after {after}");
        assert_eq!(resumed["complete"], complete, "after {after}");
    }
}

async fn an_epoch_outlives_a_restart_and_a_kill_and_ends_with_its_file(launch: Launch) {
    let epoch_of = async |server: &Server, room: &str| {
        take_epoch(&mut shown(server, json!({"type": "join_room", "room": room})).await)
    };
    let mut server = launch.clone().start();
    let general = epoch_of(&server, "general").await;
    let random = epoch_of(&server, "random").await;
    assert_ne!(general, random);
    let last = Chat::enter(&server).await.message("kept").await;
    stop(&mut server).await;
    for _ in 0..2 {
        let server = launch.clone().start();
        assert_eq!(epoch_of(&server, "general").await, general);
        assert_eq!(epoch_of(&server, "random").await, random);
        let mut alice = Chat::enter(&server).await;
        alice.say(json!({"type": "get_rooms"})).await;
        let mut rooms = alice.next().await["content"].take();
        assert_eq!(take_epoch(&mut rooms[0]), general);
        assert!(rooms[0]["last_message_id"].as_u64() >= Some(last), "{rooms}");
        // Killed.
        drop(server);
    }
    for file in fs::read_dir(launch.data()).unwrap() {
        fs::remove_file(file.unwrap().path()).unwrap();
    }
    let server = launch.start();
    assert_ne!(epoch_of(&server, "general").await, general);
    let mut alice = Chat::enter(&server).await;
    for content in ["one", "two"] {
        alice.message(content).await;
    }
    let resume = json!({"type": "resume", "room": "general", "after": last, "epoch": general});
    let resumed = shown(&server, resume).await;
    assert_eq!(contents(&resumed["content"]), ["one", "two"]);
    assert_eq!(resumed["complete"], false);
}

async fn what_was_acknowledged_before_a_kill_is_there_after_it(launch: Launch) {
    let mut expected: Vec<Value> = Vec::new();
    for life in 0..3 {
        let server = launch.clone().start();
        assert_eq!(contents(&history(&server, "general").await), expected);
        let mut alice = Chat::enter(&server).await;
        for n in 0..5 {
            let content = format!("{life}/{n}");
            alice.message(&content).await;
            expected.push(json!(content));
        }
        // Killed.
        drop(server);
    }
}

async fn after_a_kill_no_id_is_used_again(launch: Launch) {
    let mut last = 0;
    for life in 0..3 {
        let server = launch.clone().start();
        let mut alice = Chat::enter(&server).await;
        let first = alice.message(&format!("{life}/first")).await;
        assert!(first > last, "{first} comes after {last}");
        let before = last;
        last = alice.message(&format!("{life}/last")).await;
        assert_eq!(last, first + 1);
        // Nobody knows what was said and lost between the last message before the kill and the first after.
        let resumed = resume(&server, "general", before).await;
        assert_eq!(resumed["complete"], life == 0);
        let resumed = resume(&server, "general", first).await;
        assert_eq!(resumed["complete"], true);
        assert_eq!(contents(&resumed["content"]), [format!("{life}/last")]);
    }
}

async fn new_users_are_not_taken_for_the_authors_of_what_was_kept(launch: Launch) {
    let server = launch.clone().start();
    let mut authors = Chat::crowd(&server, 5).await;
    for author in &mut authors {
        author.say(json!({"type": "message", "content": "hello"})).await;
        author.until("message_sent").await;
    }
    drop(server);
    let server = launch.start();
    let kept = history(&server, "general").await;
    let kept: Vec<&Value> = kept.as_array().unwrap().iter().map(|message| &message["from_id"]).collect();
    assert_eq!(kept.len(), 5);
    for member in Chat::crowd(&server, 6).await {
        assert!(!kept.contains(&&json!(member.id)), "{} was an author in an earlier life", member.id);
    }
}

async fn fewer_messages_are_kept_when_fewer_are_asked_for(launch: Launch) {
    let mut server = launch.clone().start();
    let mut alice = Chat::enter(&server).await;
    for n in 1..=10 {
        alice.message(&n.to_string()).await;
    }
    stop(&mut server).await;
    let mut server = launch.clone().flag("--history", 3).start();
    let resumed = resume(&server, "general", 5).await;
    assert_eq!(contents(&resumed["content"]), ["8", "9", "10"]);
    assert_eq!(resumed["complete"], false);
    assert_eq!(resume(&server, "general", 7).await["complete"], true);
    stop(&mut server).await;
    // What was given up does not come back, and is not claimed to be there.
    let server = launch.start();
    let resumed = resume(&server, "general", 5).await;
    assert_eq!(contents(&resumed["content"]), ["8", "9", "10"]);
    assert_eq!(resumed["complete"], false);
    assert_eq!(resume(&server, "general", 7).await["complete"], true);
}

async fn a_room_that_is_taken_out_comes_back_with_what_was_said_in_it(launch: Launch) {
    let mut server = launch.clone().start();
    let mut alice = Chat::enter(&server).await;
    alice.move_to("gaming").await;
    assert_eq!(alice.message("remember me").await, 1);
    stop(&mut server).await;
    let mut server = launch.clone().flag("--rooms", "general").start();
    Chat::enter(&server).await.message("meanwhile").await;
    stop(&mut server).await;
    let server = launch.start();
    assert_eq!(contents(&history(&server, "gaming").await), ["remember me"]);
    assert_eq!(contents(&history(&server, "general").await), ["meanwhile"]);
}

/// Fills what the server may write, and returns what was acknowledged.
async fn fill(alice: &mut Chat, bob: &mut Chat) -> Vec<String> {
    let mut kept = Vec::new();
    for n in 0.. {
        assert!(n < 1_000, "the limit was never reached");
        let content = format!("{n} {}", "x".repeat(9_000));
        alice.say(json!({"type": "message", "content": content})).await;
        let answer = alice.next().await;
        if answer != error(NOT_STORED) {
            assert_eq!(answer["type"], "message_sent", "{answer}");
            kept.push(content);
        }
        // Members do not wait for the disk.
        assert_eq!(bob.next().await["content"].as_str().unwrap().split(' ').next(), Some(&*n.to_string()));
        if answer["type"] == "error" {
            return kept;
        }
    }
    unreachable!()
}

async fn a_full_disk_is_told_and_chat_goes_on(launch: Launch) {
    let server = launch.without_rate_limit().with_small_files().start();
    let [mut alice, mut bob] = Chat::members(&server).await;
    fill(&mut alice, &mut bob).await;
    // From now on nothing is published that could not be kept.
    for message in [
        json!({"type": "message", "content": "unheard"}),
        json!({"type": "image", "url": "https://example.org/a.png"}),
    ] {
        alice.say(message).await;
        assert_eq!(alice.next().await, error(NOT_STORED));
    }
    // Everything else works.
    alice.say(json!({"type": "private_message", "to_id": bob.id, "content": "between us"})).await;
    assert_eq!(bob.next().await["content"], "between us");
    assert_eq!(alice.next().await["type"], "private_message_sent");
    alice.say(json!({"type": "typing", "is_typing": true})).await;
    assert_eq!(bob.next().await["type"], "typing");
    alice.say(json!({"type": "set_name", "name": "Alice"})).await;
    assert_eq!(
        alice.next().await,
        direct("name_changed", json!({"old_name": alice.name, "new_name": "Alice"}))
    );
    assert_eq!(bob.next().await["type"], "user_renamed");
    eventually("it is logged", async || server.output().contains("it is no longer durable")).await;
    assert!(scrape(&server).await.contains("\nuproar_storage_durable 0\n"));
}

async fn after_a_full_disk_only_what_was_acknowledged_is_kept(launch: Launch) {
    let launch = launch.without_rate_limit().flag("--history", 1_000);
    let mut server = launch.clone().with_small_files().start();
    let [mut alice, mut bob] = Chat::members(&server).await;
    let before = take_epoch(&mut resume(&server, "general", 0).await);
    for member in [&mut alice, &mut bob] {
        member.until("leave").await;
    }
    let mut kept = fill(&mut alice, &mut bob).await;
    assert_eq!(contents(&history(&server, "general").await), kept);
    bob.leave().await;
    server.lift_limit_of_files();
    say_until_stored(&mut alice, "back again").await;
    kept.push("back again".to_owned());
    let words = "history is durable, and messages are taken";
    eventually(words, async || server.output().contains(words)).await;
    assert!(scrape(&server).await.contains("\nuproar_storage_durable 1\n"));
    stop(&mut server).await;
    let server = launch.start();
    assert_eq!(contents(&history(&server, "general").await), kept);
    // One was seen and not kept.
    let mut resumed = resume(&server, "general", 1).await;
    assert_eq!(resumed["complete"], false);
    let after = take_epoch(&mut resumed);
    assert_ne!(after, before, "members have seen what is not there");
    let seen = json!({"type": "resume", "room": "general", "after": kept.len() as u64, "epoch": before});
    let resumed = shown(&server, seen).await;
    assert_eq!(contents(&resumed["content"]), kept);
    assert_eq!(resumed["complete"], false);
}

async fn a_directory_serves_one_server(launch: Launch) {
    let data = launch.data().display().to_string();
    let _server = launch.clone().start();
    let refused = run(&["--listen", "127.0.0.1:0", "--data", &data], &[]).await;
    assert_eq!(refused.code, Some(1));
    assert!(refused.output().contains("is used by another uproar"), "{}", refused.output());
}

/// Files that were not written by this version of the server, each with the words that refuse it.
#[tokio::test]
async fn a_history_that_cannot_be_used_stops_the_start_and_stays_as_it_is() {
    type Harm = fn(&PathBuf);
    let refusals: [(Harm, &str); 5] = [
        (|path| fs::write(path, "not a database, by any means".repeat(100)).unwrap(), "is damaged ("),
        (
            |path| {
                let whole = fs::read(path).unwrap();
                fs::write(path, &whole[..whole.len() / 2]).unwrap();
            },
            "is damaged (",
        ),
        (
            |path| change(path, "PRAGMA user_version = 99"),
            "has version 99, and this uproar knows versions up to",
        ),
        (|path| change(path, "PRAGMA application_id = 7"), "is another program's database"),
        (|path| change(path, "UPDATE room SET reserved = 1"), "is damaged ("),
    ];
    for (harm, words) in refusals {
        let launch = Launch::with_shards(1).durable();
        let mut server = launch.clone().start();
        let mut alice = Chat::enter(&server).await;
        for n in 0..20 {
            alice.message(&format!("{n} {}", "x".repeat(3_000))).await;
        }
        stop(&mut server).await;
        let path = launch.data().join("history.db");
        harm(&path);
        let before = fs::read(&path).unwrap();
        let data = launch.data().display().to_string();
        let refused = run(&["--listen", "127.0.0.1:0", "--data", &data], &[]).await;
        let said = refused.output();
        assert_eq!(refused.code, Some(1), "{said}");
        assert!(said.contains(words) && said.contains(&path.display().to_string()), "{said}");
        assert!(!said.contains("listening on"), "{said}");
        assert_eq!(fs::read(&path).unwrap(), before, "{said}");
    }
}

#[tokio::test]
async fn a_server_says_at_its_start_where_history_is() {
    let in_memory = Launch::with_shards(1);
    let durable = Launch::with_shards(1).durable();
    let words = format!("100 messages a room, kept in {}", durable.data().display());
    for (launch, words) in [(in_memory, "100 messages a room, in memory"), (durable, &words)] {
        let server = launch.start();
        // The line comes behind the one that says where it listens.
        eventually(words, async || server.output().contains(words)).await;
    }
}

fn change(path: &PathBuf, sql: &str) {
    rusqlite::Connection::open(path).unwrap().execute_batch(sql).unwrap();
}

pub(crate) async fn stop(server: &mut Server) {
    server.signal(Signal::TERM);
    let status = server.exit().await;
    assert!(status.success(), "{status}");
}

/// Says it until the disk can be written again and has it. Others may come and go meanwhile.
pub(crate) async fn say_until_stored(speaker: &mut Chat, content: &str) {
    eventually("the disk is written again", async || {
        speaker.say(json!({"type": "message", "content": content})).await;
        loop {
            match speaker.next().await {
                answer if answer == error(NOT_STORED) => return false,
                answer if answer["type"] == "message_sent" => return true,
                answer => assert!(["join", "leave"].contains(&answer["type"].as_str().unwrap()), "{answer}"),
            }
        }
    })
    .await;
}

/// What a newcomer is shown of a room.
pub(crate) async fn history(server: &Server, room: &str) -> Value {
    shown(server, json!({"type": "join_room", "room": room})).await["content"].take()
}

async fn resume(server: &Server, room: &str, after: u64) -> Value {
    shown(server, json!({"type": "resume", "room": room, "after": after})).await
}

async fn shown(server: &Server, request: Value) -> Value {
    let mut visitor = Chat::enter(server).await;
    visitor.say(request).await;
    visitor.until("room_joined").await;
    let history = visitor.until("history").await;
    visitor.leave().await;
    history
}

pub(crate) fn contents(history: &Value) -> Vec<Value> {
    history.as_array().unwrap().iter().map(|message| message["content"].clone()).collect()
}
