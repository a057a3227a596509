//! Messages that are taken back by their authors, or removed by admins.

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::chat_history::ask;
use crate::chat_moderation::boss_and_others;
use crate::durability::{NOT_STORED, say_until_stored};
use crate::harness::{
    AccountFile, Chat, Launch, error, eventually, from, hub_beside, on_one_and_four_shards, password_of,
    take_epoch,
};

on_one_and_four_shards! {
    everyone_in_the_room_is_told_but_hub_members,
    a_deleted_message_is_gone_and_counts_as_if_it_were_there,
    who_comes_back_is_told_what_was_deleted,
    what_the_room_does_not_keep_cannot_be_deleted,
    deletions_take_effect_in_the_order_of_the_room,
}

const NOT_DELETED: &str = "Message could not be deleted";
const DENIED: &str = "Permission denied";

async fn everyone_in_the_room_is_told_but_hub_members(launch: Launch) {
    let server = launch.start();
    let [mut alice, mut bob, mut carol] = Chat::members(&server).await;
    carol.move_to("random").await;
    for member in [&mut alice, &mut bob] {
        assert_eq!(member.next().await["type"], "leave");
    }
    let (mut hal, _) = hub_beside(&server, "Hal", &mut alice).await;
    assert_eq!(bob.next().await["type"], "join");
    let id = alice.message("rash").await;
    assert_eq!(bob.next().await["message_id"], id);
    assert_eq!(hal.next().await["content"], "rash");
    alice.say(delete(id)).await;
    let deleted = from(&alice, "message_deleted", json!({"message_id": id, "deleted_by": alice.id}));
    assert_eq!(alice.next().await, deleted);
    assert_eq!(bob.next().await, deleted);
    // Neither a hub member nor another room hears of it.
    bob.message("what was that?").await;
    assert_eq!(hal.next().await["content"], "what was that?");
    carol.say(json!({"type": "get_stats"})).await;
    assert_eq!(carol.next().await["type"], "stats");
}

async fn a_deleted_message_is_gone_and_counts_as_if_it_were_there(launch: Launch) {
    let server = launch.flag("--history", 4).start();
    let [mut alice, mut bob] = Chat::members(&server).await;
    for content in ["one", "two", "three"] {
        alice.message(content).await;
        bob.next().await;
    }
    for id in [3, 1] {
        erase(&mut alice, id).await;
        assert_eq!(bob.next().await["type"], "message_deleted");
    }
    assert_eq!(ids_of(&ask(&mut bob, json!({})).await), [2]);
    assert_eq!(resume(&mut bob, json!({"after": 0})).await, (vec![2], true, vec![]));
    assert_eq!(ask(&mut bob, json!({"before": 2})).await["more"], false);
    let mut carol = Chat::connect(&server).await;
    assert_eq!(ids_of(&carol.until("history").await), [2]);
    for member in [&mut alice, &mut bob] {
        assert_eq!(member.next().await["type"], "join");
    }
    // Nobody can read or delete it again.
    for kind in ["read", "delete_message"] {
        alice.say(json!({"type": kind, "message_id": 3})).await;
        assert_eq!(alice.next().await, error("Unknown message: 3"));
    }
    alice.say(json!({"type": "get_rooms"})).await;
    assert_eq!(alice.next().await["content"][0]["last_message_id"], 3);
    // Its id is not used again, and its place is given up like any other.
    assert_eq!(alice.message("four").await, 4);
    assert_eq!(alice.message("five").await, 5);
    assert_eq!(resume(&mut alice, json!({"after": 0})).await, (vec![2, 4, 5], false, vec![]));
    assert_eq!(resume(&mut alice, json!({"after": 1})).await, (vec![2, 4, 5], true, vec![]));
}

async fn who_comes_back_is_told_what_was_deleted(launch: Launch) {
    let server = launch.flag("--history", 5).start();
    let mut alice = Chat::connect(&server).await;
    alice.read_welcome().await;
    let epoch = take_epoch(&mut alice.until("history").await);
    for number in 1..=6 {
        alice.message(&number.to_string()).await;
    }
    assert_eq!(resume(&mut alice, json!({"after": 6})).await, (vec![], true, vec![]));
    for id in [5, 2] {
        erase(&mut alice, id).await;
    }
    for (asked, history, complete, deleted) in [
        (json!({"after": 0}), vec![3, 4, 6], false, vec![]),
        (json!({"after": 1}), vec![3, 4, 6], true, vec![]),
        (json!({"after": 2}), vec![3, 4, 6], true, vec![2]),
        (json!({"after": 4, "epoch": epoch}), vec![6], true, vec![2]),
        (json!({"after": 5}), vec![6], true, vec![2, 5]),
        (json!({"after": 6, "epoch": epoch}), vec![], true, vec![2, 5]),
        (json!({"after": 7}), vec![3, 4, 6], false, vec![2, 5]),
        // Of ids of another epoch nothing can be said.
        (json!({"after": 6, "epoch": "another"}), vec![3, 4, 6], false, vec![]),
    ] {
        assert_eq!(resume(&mut alice, asked.clone()).await, (history, complete, deleted), "{asked}");
    }
    // What is older than what is kept nobody knows.
    alice.message("7").await;
    assert_eq!(resume(&mut alice, json!({"after": 7})).await, (vec![], true, vec![5]));
}

async fn what_the_room_does_not_keep_cannot_be_deleted(launch: Launch) {
    let server = launch.flag("--history", 2).start();
    let [mut alice, mut bob] = Chat::members(&server).await;
    for content in ["one", "two", "three"] {
        alice.message(content).await;
        bob.next().await;
    }
    for id in [json!(0), json!(1), json!(4), json!(1u64 << 53), json!(u64::MAX), json!(-1), json!(1.5)] {
        alice.say(json!({"type": "delete_message", "message_id": id})).await;
        assert_eq!(alice.next().await, error(&format!("Unknown message: {id}")));
        // Who may not delete it either is told the same.
        bob.say(json!({"type": "delete_message", "message_id": id})).await;
        assert_eq!(bob.next().await, error(&format!("Unknown message: {id}")));
    }
    bob.say(delete(3)).await;
    assert_eq!(bob.next().await, error(DENIED));
    alice.say(json!({"type": "delete_message"})).await;
    assert_eq!(alice.next().await, error("Invalid message format"));
    for id in [json!("3"), json!(null), json!(true), json!([3])] {
        alice.say(json!({"type": "delete_message", "message_id": id})).await;
        assert_eq!(alice.next().await, error("Invalid message format"), "{id}");
    }
    // Nor what another room keeps.
    alice.move_to("random").await;
    alice.say(delete(3)).await;
    assert_eq!(alice.next().await, error("Unknown message: 3"));
    alice.move_to("general").await;
    assert_eq!(ids_of(&ask(&mut alice, json!({})).await), [2, 3]);
}

/// What is said, deleted and asked for in one breath.
async fn deletions_take_effect_in_the_order_of_the_room(launch: Launch) {
    let server = launch.start();
    let [mut alice, mut bob] = Chat::members(&server).await;
    alice
        .burst([
            json!({"type": "message", "content": "one"}),
            delete(1),
            json!({"type": "message", "content": "two"}),
            json!({"type": "get_history"}),
            delete(1),
            delete(2),
            json!({"type": "resume", "room": "general", "after": 2}),
            json!({"type": "message", "content": "three"}),
        ])
        .await;
    let sent = |id: u64| json!({"message_id": id, "room": "general"});
    let by = alice.id;
    let deleted = |id: u64| json!({"message_id": id, "deleted_by": by});
    for expected in [deleted(1), deleted(2)] {
        assert_eq!(bob.until("message_deleted").await["content"], expected);
    }
    assert_eq!(bob.next().await["content"], "three");
    // The refusal may overtake what waits for the disk.
    let mut answers = Vec::new();
    let mut refusals = 0;
    while answers.len() < 9 {
        let answer = alice.next().await;
        if answer["type"] == "error" {
            assert_eq!(answer, error("Unknown message: 1"));
            refusals += 1;
        } else {
            answers.push(answer);
        }
    }
    assert_eq!(refusals, 1);
    assert_eq!(answers[0]["content"], sent(1));
    assert_eq!(answers[1]["content"], deleted(1));
    assert_eq!(answers[2]["content"], sent(2));
    assert_eq!(ids_of(&answers[3]), [2]);
    assert_eq!(answers[4]["content"], deleted(2));
    assert_eq!(answers[5]["type"], "room_joined");
    assert_eq!(answers[6]["type"], "users");
    assert_eq!((ids_of(&answers[7]), &answers[7]["deleted"]), (vec![], &json!([1, 2])));
    assert_eq!(answers[8]["content"], sent(3));
}

/// One's own are those of the same user or account.
#[tokio::test]
async fn one_may_delete_ones_own_messages_and_an_admin_those_of_anyone() {
    for shards in [1, 4] {
        let accounts = AccountFile::of(&["Ann"], &["boss"]).await;
        let launch = Launch::with_shards(shards).flag("--data", accounts.path().display());
        let mut server = launch.clone().start();
        let [mut boss, mut ann, mut again, mut bob] = boss_and_others(&server).await;
        for device in [&mut ann, &mut again] {
            device.say(json!({"type": "auth", "username": "Ann", "password": password_of("Ann")})).await;
            device.until("auth_success").await;
        }
        // Said as a guest, and as Ann.
        let mut ids = Vec::new();
        for (member, content) in [(&mut bob, "by a guest"), (&mut ann, "by Ann")] {
            member.say(json!({"type": "message", "content": content})).await;
            ids.push(member.until("message_sent").await["content"]["message_id"].as_u64().unwrap());
        }
        let (guests, anns) = (ids[0], ids[1]);
        for (member, id) in [(&mut bob, anns), (&mut ann, guests)] {
            member.say(delete(id)).await;
            assert_eq!(member.until("error").await, error(DENIED));
        }
        // From another device, and by an admin.
        again.say(delete(anns)).await;
        boss.say(delete(guests)).await;
        let expected = [(guests, boss.id), (anns, again.id)];
        let expected = expected.map(|(id, by)| json!({"message_id": id, "deleted_by": by}));
        for member in [&mut boss, &mut ann, &mut again, &mut bob] {
            let mut told = [member.until("message_deleted").await, member.until("message_deleted").await];
            told.sort_by_key(|told| told["content"]["message_id"].as_u64());
            let told = told.map(|mut told| told["content"].take());
            assert_eq!(told, expected);
        }
        // That an admin did it is logged, and that one takes back one's own is nobody's business.
        eventually("it is logged", async || server.output().contains("message deleted")).await;
        assert_eq!(server.output().matches("message deleted").count(), 1, "{}", server.output());
        server.signal(Signal::TERM);
        assert!(server.exit().await.success());
    }
}

/// What signed-in users say names their account, everywhere and after a restart.
#[tokio::test]
async fn what_is_said_with_an_account_names_it() {
    let accounts = AccountFile::of(&["Ann"], &[]).await;
    let launch = Launch::with_shards(4).flag("--data", accounts.path().display());
    let server = launch.clone().start();
    let [mut ann, mut bob] = Chat::members(&server).await;
    ann.message("by a guest").await;
    assert_eq!(bob.next().await.get("from_account"), None);
    ann.say(json!({"type": "auth", "username": "Ann", "password": password_of("Ann")})).await;
    ann.until("auth_success").await;
    assert_eq!(bob.next().await["type"], "user_renamed");
    for (said, acknowledged) in [
        (json!({"type": "message", "content": "by Ann"}), "message_sent"),
        (json!({"type": "image", "url": "https://example.org/a.png"}), "message_sent"),
        (json!({"type": "private_message", "to_id": bob.id, "content": "psst"}), "private_message_sent"),
    ] {
        ann.say(said.clone()).await;
        let heard = bob.next().await;
        assert_eq!((&heard["type"], &heard["from_account"]), (&said["type"], &json!("Ann")));
        // It is on the disk.
        ann.until(acknowledged).await;
    }
    let accounts_of = |history: &Value| -> Vec<Value> {
        history["content"].as_array().unwrap().iter().map(|row| row["from_account"].clone()).collect()
    };
    let expected = [json!(null), json!("Ann"), json!("Ann")];
    assert_eq!(accounts_of(&ask(&mut bob, json!({})).await), expected);
    // Killed.
    drop(server);
    let server = launch.start();
    let mut bob = Chat::connect(&server).await;
    let history = bob.until("history").await;
    assert_eq!(accounts_of(&history), expected);
    assert_eq!(history["content"][0].get("from_account"), None);
}

#[tokio::test]
async fn a_deletion_outlives_a_restart_and_a_kill() {
    for shards in [1, 4] {
        let launch = Launch::with_shards(shards).durable();
        let mut server = launch.clone().start();
        let mut alice = Chat::connect(&server).await;
        alice.read_welcome().await;
        let epoch = take_epoch(&mut alice.until("history").await);
        for content in ["one", "two", "three secrets"] {
            alice.message(content).await;
        }
        erase(&mut alice, 3).await;
        // Once everyone is told it is on the disk: killed.
        drop(server);
        server = launch.clone().start();
        let mut alice = Chat::enter(&server).await;
        let resumed = resume(&mut alice, json!({"after": 3, "epoch": epoch})).await;
        assert_eq!(
            resumed,
            (vec![], false, vec![3]),
            "what was said after it and before the kill is unknown"
        );
        assert_eq!(resume(&mut alice, json!({"after": 0})).await, (vec![1, 2], false, vec![]));
        server.signal(Signal::TERM);
        assert!(server.exit().await.success());
        let file = std::fs::read(launch.data().join("history.db")).unwrap();
        assert!(!file.windows(7).any(|part| part == b"secrets"), "the words are still in the file");
        let server = launch.start();
        let mut alice = Chat::enter(&server).await;
        assert_eq!(ids_of(&ask(&mut alice, json!({})).await), [1, 2]);
        assert_eq!(resume(&mut alice, json!({"after": 3})).await.2, [3]);
        assert!(alice.message("four").await > 3);
    }
}

/// It did not happen: who has seen it learns so from the epoch, and who has asked for it from an error.
#[tokio::test]
async fn a_deletion_that_cannot_be_stored_is_taken_back() {
    for shards in [1, 4] {
        let launch = Launch::with_shards(shards).durable().without_rate_limit();
        let mut server = launch.clone().with_small_files().start();
        let [mut alice, mut bob] = Chat::members(&server).await;
        for content in ["one", "two"] {
            alice.message(content).await;
            bob.next().await;
        }
        let before = take_epoch(&mut ask(&mut bob, json!({})).await);
        server.refuse_writes();
        alice.say(delete(1)).await;
        assert_eq!(alice.next().await, error(NOT_DELETED));
        assert_eq!(bob.next().await["type"], "message_deleted", "members do not wait for the disk");
        let mut history = ask(&mut bob, json!({})).await;
        assert_eq!(ids_of(&history), [1, 2]);
        assert_ne!(take_epoch(&mut history), before);
        assert_eq!(resume(&mut bob, json!({"after": 2, "epoch": before})).await, (vec![1, 2], false, vec![]));
        // Now that it is known nobody else hears of it.
        alice.say(delete(1)).await;
        assert_eq!(alice.next().await, error(NOT_DELETED));
        alice.say(delete(9)).await;
        assert_eq!(alice.next().await, error("Unknown message: 9"));
        alice.say(json!({"type": "message", "content": "unheard"})).await;
        assert_eq!(alice.next().await, error(NOT_STORED));
        server.lift_limit_of_files();
        say_until_stored(&mut alice, "again").await;
        assert_eq!(bob.next().await["content"], "again");
        erase(&mut alice, 1).await;
        assert_eq!(bob.next().await["content"]["message_id"], 1);
        server.signal(Signal::TERM);
        assert!(server.exit().await.success());
        let server = launch.start();
        let mut alice = Chat::enter(&server).await;
        let kept = ask(&mut alice, json!({})).await;
        assert_eq!(kept["content"][0]["content"], "two");
        assert_eq!(kept["content"].as_array().unwrap().len(), 2);
    }
}

pub(crate) fn delete(id: u64) -> Value {
    json!({"type": "delete_message", "message_id": id})
}

/// Deletes a message, and waits until it is gone.
async fn erase(chat: &mut Chat, id: u64) {
    chat.say(delete(id)).await;
    assert_eq!(chat.next().await["content"], json!({"message_id": id, "deleted_by": chat.id}));
}

fn ids_of(history: &Value) -> Vec<u64> {
    assert_eq!(history["type"], "history", "{history}");
    let kept = history["content"].as_array().expect("a list").iter();
    kept.map(|message| message["message_id"].as_u64().unwrap()).collect()
}

/// Resumes in `general`, and returns the ids of the history, whether it is complete, and what was deleted.
async fn resume(chat: &mut Chat, mut fields: Value) -> (Vec<u64>, bool, Vec<u64>) {
    fields["type"] = json!("resume");
    fields["room"] = json!("general");
    chat.say(fields).await;
    let history = chat.until("history").await;
    let deleted = history["deleted"].as_array().expect("deleted is always there").iter();
    let deleted = deleted.map(|id| id.as_u64().unwrap()).collect();
    (ids_of(&history), history["complete"].as_bool().unwrap(), deleted)
}
