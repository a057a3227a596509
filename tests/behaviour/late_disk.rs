//! A disk that is late: only what has its place behind a message on its way to the disk waits for it.

use std::path::Path;

use rustix::process::Signal;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;

use crate::chat_deletion::delete;
use crate::chat_moderation::boss_and_others;
use crate::harness::{
    AccountFile, Chat, Guest, Launch, Server, admitted_from, direct, error, eventually,
    on_one_and_four_shards_only,
};

on_one_and_four_shards_only! {
    a_late_disk_silences_nobody,
    a_kick_does_not_wait_for_the_disk,
    the_answer_to_a_close_does_not_wait_for_the_disk,
    a_deletion_is_heard_at_once_by_all_but_its_cause,
    a_sender_is_no_slow_consumer_because_the_disk_is_late,
    a_shutdown_waits_for_the_disk_but_not_for_ever,
    orders_reach_a_user_that_waits_for_its_room,
}

/// The history, which nobody can write meanwhile: the server waits five seconds for that.
pub(crate) struct HeldDisk(rusqlite::Connection);

impl HeldDisk {
    pub(crate) fn of(data: &Path) -> Self {
        let history = rusqlite::Connection::open(data.join("history.db")).unwrap();
        history.execute_batch("BEGIN IMMEDIATE").unwrap();
        Self(history)
    }

    pub(crate) fn release(self) {
        self.0.execute_batch("ROLLBACK").unwrap();
    }
}

async fn serve(launch: Launch) -> (Server, AccountFile) {
    let accounts = AccountFile::of(&[], &["boss"]).await;
    let data: &Path = accounts.path();
    let launch = launch.without_rate_limit().flag("--data", data.display());
    (launch.start(), accounts)
}

fn say(content: &str) -> Value {
    json!({"type": "message", "content": content})
}

/// Says it, without waiting for the answer, and sees it arrive.
async fn say_to(speaker: &mut Chat, hearer: &mut Chat, content: &str) {
    speaker.say(say(content)).await;
    let heard = hearer.next().await;
    assert_eq!((&heard["type"], &heard["content"]), (&json!("message"), &json!(content)));
}

async fn a_late_disk_silences_nobody(launch: Launch) {
    let (server, accounts) = serve(launch).await;
    let [mut boss, mut alice, mut bob] = boss_and_others(&server).await;
    let disk = HeldDisk::of(accounts.path());
    say_to(&mut alice, &mut bob, "on its way").await;
    boss.until("message").await;
    say_to(&mut bob, &mut boss, "behind it").await;
    alice.say(json!({"type": "get_users"})).await;

    alice.send(Message::Ping("here?".into())).await;
    assert_eq!(alice.socket().next().await, Some(Message::Pong("here?".into())));
    alice.say(json!({"type": "get_stats"})).await;
    assert_eq!(alice.next().await["type"], "stats");
    alice.say(json!({"type": "get_rooms"})).await;
    assert_eq!(alice.next().await["type"], "rooms");
    alice.say(json!({"type": "dance"})).await;
    assert_eq!(alice.next().await, error("Unknown message type: dance"));
    alice.say(json!({"type": "set_name", "name": "Alice"})).await;
    assert_eq!(alice.next().await["type"], "name_changed");
    boss.until("user_renamed").await;
    boss.say(json!({"type": "private_message", "to_id": alice.id, "content": "patience"})).await;
    assert_eq!(alice.next().await["content"], "patience");
    assert_eq!(boss.next().await["type"], "private_message_sent");
    boss.say(json!({"type": "mute", "target_id": alice.id, "seconds": 60})).await;
    assert_eq!(alice.next().await, direct("muted", json!({"seconds": 60})));

    disk.release();
    assert_eq!(alice.next().await, direct("message_sent", json!({"message_id": 1, "room": "general"})));
    let behind = alice.next().await;
    assert_eq!((&behind["content"], &behind["message_id"]), (&json!("behind it"), &json!(2)));
    assert_eq!(alice.next().await["type"], "users");
    assert_eq!(bob.next().await, direct("message_sent", json!({"message_id": 2, "room": "general"})));
    assert_eq!(bob.next().await["type"], "user_renamed");
}

async fn a_kick_does_not_wait_for_the_disk(launch: Launch) {
    let (server, accounts) = serve(launch).await;
    let [mut boss, mut alice] = boss_and_others(&server).await;
    let disk = HeldDisk::of(accounts.path());
    say_to(&mut alice, &mut boss, "unacknowledged").await;
    boss.say(json!({"type": "kick", "target_id": alice.id, "reason": "spam"})).await;
    assert_eq!(alice.next().await, direct("kicked", json!({"reason": "spam"})));
    assert_eq!(alice.closed().await.0, 1008);
    assert_eq!(boss.next().await["type"], "leave");
    disk.release();
    // It was kept all the same.
    assert_eq!(boss.message("gone").await, 2);
}

async fn the_answer_to_a_close_does_not_wait_for_the_disk(launch: Launch) {
    let (server, accounts) = serve(launch).await;
    let [mut alice, mut bob] = Chat::members(&server).await;
    let disk = HeldDisk::of(accounts.path());
    say_to(&mut alice, &mut bob, "goodbye").await;
    alice.send(Message::Close(Some(CloseFrame { code: 4_321.into(), reason: "".into() }))).await;
    assert_eq!(alice.closed().await.0, 4_321);
    assert_eq!(bob.next().await["type"], "leave");
    disk.release();
    assert_eq!(bob.message("farewell").await, 2);
}

async fn a_deletion_is_heard_at_once_by_all_but_its_cause(launch: Launch) {
    let (server, accounts) = serve(launch).await;
    let [mut alice, mut bob] = Chat::members(&server).await;
    let id = alice.message("rash").await;
    bob.next().await;
    let disk = HeldDisk::of(accounts.path());
    alice.say(delete(id)).await;
    let deleted = bob.next().await;
    assert_eq!(
        (&deleted["type"], &deleted["content"]["message_id"]),
        (&json!("message_deleted"), &json!(id))
    );
    let mut carol = Chat::connect(&server).await;
    assert_eq!(carol.until("history").await["content"], json!([]));
    // What does not stand in the room's order passes it.
    alice.say(json!({"type": "get_history"})).await;
    alice.say(json!({"type": "get_stats"})).await;
    assert_eq!(alice.next().await["type"], "stats");
    disk.release();
    assert_eq!(alice.next().await, deleted);
    assert_eq!(alice.next().await["type"], "join");
    assert_eq!(alice.next().await["content"], json!([]));
}

async fn a_sender_is_no_slow_consumer_because_the_disk_is_late(launch: Launch) {
    const COUNT: u64 = 30;
    let (server, accounts) = serve(launch.flag("--send-queue", "64KiB")).await;
    let [mut alice, mut bob] = Chat::members(&server).await;
    let disk = HeldDisk::of(accounts.path());
    say_to(&mut alice, &mut bob, "first").await;
    // Four times the queue.
    let long = "x".repeat(9_000);
    bob.burst((0..COUNT).map(|_| say(&long))).await;
    // When that answer comes, the room has all of it.
    bob.say(json!({"type": "private_message", "to_id": bob.id, "content": "done"})).await;
    assert_eq!(bob.next().await["type"], "private_message");
    // What alice says now is perhaps read only later, and lost it is not.
    alice.say(say("last")).await;
    disk.release();
    assert_eq!(alice.next().await["content"]["message_id"], 1);
    let mut next = 2;
    for _ in 0..COUNT {
        let heard = alice.until("message").await;
        assert!(heard["message_id"] == next || heard["message_id"] == next + 1, "{next}: {heard}");
        next = heard["message_id"].as_u64().unwrap() + 1;
    }
    assert_eq!(bob.until("message").await["content"], "last");
}

async fn a_shutdown_waits_for_the_disk_but_not_for_ever(launch: Launch) {
    let (mut server, accounts) = serve(launch.flag("--drain-timeout", "4s")).await;
    let [mut alice, mut bob] = Chat::members(&server).await;
    let disk = HeldDisk::of(accounts.path());
    say_to(&mut alice, &mut bob, "unacknowledged").await;
    server.signal(Signal::TERM);
    for member in [&mut alice, &mut bob] {
        assert_eq!(member.closed().await, (1001, "server shutting down".to_owned()));
    }
    disk.release();
    assert_eq!(server.exit().await.code(), Some(0));
    assert!(server.output().contains("everyone is closed before"), "{}", server.output());
}

async fn orders_reach_a_user_that_waits_for_its_room(launch: Launch) {
    let launch = launch.flag("--trusted-proxy", "127.0.0.1");
    let (server, accounts) = serve(launch.flag("--room-pattern", "team-*").flag("--room-ttl", "50ms")).await;
    let [mut boss] = boss_and_others(&server).await;
    for (order, is_mute) in [
        (json!({"type": "mute", "seconds": 3_600}), true),
        (json!({"type": "kick", "reason": "spam"}), false),
    ] {
        let mut troll = Guest::enter(&server, "192.0.2.1").await;
        if !is_mute {
            boss.say(json!({"type": "unmute", "target_id": troll.id})).await;
            troll.until(&["unmuted"]).await;
        }
        troll.say(json!({"type": "join_room", "room": "team-a"})).await;
        troll.until(&["history"]).await;
        assert!(troll.is_heard().await);
        let (id, path) = (troll.id, format!("/chat?session={}", troll.session));
        drop(troll);
        eventually("the room is forgotten", async || {
            boss.say(json!({"type": "get_rooms", "prefix": "team-"})).await;
            boss.until("rooms").await["content"] == json!([])
        })
        .await;
        // Opening it again is written.
        let disk = HeldDisk::of(accounts.path());
        let give_order = async {
            let mut order = order.clone();
            order["target_id"] = id.into();
            eventually("the order is carried out", async || {
                boss.say(order.clone()).await;
                boss.say(json!({"type": "get_stats"})).await;
                loop {
                    match boss.next().await {
                        answer if answer == error("User not found or offline") => {
                            boss.until("stats").await;
                            return false;
                        }
                        answer if answer["type"] == "stats" => return true,
                        _ => {}
                    }
                }
            })
            .await;
            disk.release();
        };
        let (mut back, ()) = tokio::join!(admitted_from(&server, "192.0.2.1", &path), give_order);
        if is_mute {
            let mut told = Vec::new();
            for _ in 0..4 {
                told.push(back.json().await["type"].clone());
            }
            assert_eq!(told, ["welcome", "users", "history", "muted"]);
        } else {
            assert_eq!(back.close().await, (1008, "kicked".to_owned()));
        }
    }
}
