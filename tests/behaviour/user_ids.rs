//! Ids of users: in which order they are given, to whom, and that they lead to the user wherever it is.

use std::collections::BTreeSet;

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::chat_moderation::boss_and_others;
use crate::harness::{
    AccountFile, Chat, Hub, Launch, Socket, error, hub_beside, on_one_and_four_shards_only, password_of,
};

on_one_and_four_shards_only! {
    users_greeted_one_after_another_count_up,
    who_is_not_greeted_takes_no_id,
    who_does_not_finish_signing_in_takes_no_id,
    ids_of_two_hundred_at_once_have_no_gap,
    ids_are_not_used_again,
    private_messages_and_kicks_reach_users_of_every_shard,
    who_has_left_is_not_found_by_anyone,
    who_is_announced_can_be_written_to_at_once,
}

const NOT_FOUND: &str = "User not found or offline";

async fn users_greeted_one_after_another_count_up(launch: Launch) {
    let server = launch.start();
    let mut first = Chat::enter(&server).await;
    assert_eq!((first.id, first.name.as_str()), (1, "User1"));
    let mut others = Vec::new();
    for n in (2..20).step_by(2) {
        let chat = Chat::enter(&server).await;
        assert_eq!((chat.id, &chat.name), (n, &format!("User{n}")));
        assert_eq!(first.until("join").await["from_id"], n);
        let (hub, id) = hub_beside(&server, "Hal", &mut first).await;
        assert_eq!(id, n + 1);
        // One more connection, so that users do not come to the shards in turns.
        let echo = Socket::connect(&server, "/echo").await;
        others.push((chat, hub, echo));
    }
}

async fn who_is_not_greeted_takes_no_id(launch: Launch) {
    let server = launch.start();
    let mut first = Chat::enter(&server).await;
    let mut others = Vec::new();
    for n in 2..8 {
        let raw = Socket::listeners(&server, &format!("/broadcast/{n}"), 1).await;
        let mut echo = Socket::connect(&server, "/echo").await;
        echo.send("there?").await;
        assert_eq!(echo.text().await, "there?");
        let visitor = Hub::visit(&server).await;
        Hub::visit(&server).await.leave().await;
        let chat = Chat::enter(&server).await;
        assert_eq!(chat.id, n);
        assert_eq!(first.next().await["from_id"], n);
        others.push((raw, echo, visitor, chat));
    }
    // Who has been there for long takes its id when it logs in.
    for ((.., visitor, _), id) in others.iter_mut().zip(8..) {
        visitor.login("Hal").await;
        assert_eq!(first.until("join").await["from_id"], id);
    }
}

async fn who_does_not_finish_signing_in_takes_no_id(launch: Launch) {
    let accounts = AccountFile::of(&["Ann", "Bob", "Carol"], &[]).await;
    let server = launch.flag("--auth", "required").flag("--data", accounts.path().display()).start();
    let mut silent = Vec::new();
    let mut greeted = Vec::new();
    for (name, id) in ["Ann", "Bob"].into_iter().zip(1..) {
        Chat::connect(&server).await.leave().await;
        let mut wrong = Chat::connect(&server).await;
        wrong.say(json!({"type": "auth", "username": name, "password": "wrong"})).await;
        assert_eq!(wrong.closed().await.0, 1008);
        silent.push(Chat::connect(&server).await);
        let mut right = Chat::connect(&server).await;
        sign_in(&mut right, name).await;
        assert_eq!(right.id, id);
        greeted.push(right);
    }
    // It came ahead of the others, and is greeted behind them.
    sign_in(&mut silent[0], "Carol").await;
    assert_eq!(silent[0].id, 3);
}

async fn ids_of_two_hundred_at_once_have_no_gap(launch: Launch) {
    let server = launch.start();
    let crowd = join_all((0..200).map(async |_| {
        let mut chat = Chat::connect(&server).await;
        chat.read_welcome().await;
        chat
    }));
    let crowd = crowd.await;
    let ids: BTreeSet<u64> = crowd.iter().map(|chat| chat.id).collect();
    assert!(ids.iter().copied().eq(1..=200), "{ids:?}");
    for chat in &crowd {
        assert_eq!(chat.name, format!("User{}", chat.id));
    }
}

async fn ids_are_not_used_again(launch: Launch) {
    let server = launch.start();
    let mut first = Chat::enter(&server).await;
    for id in 2..10 {
        let chat = Chat::enter(&server).await;
        assert_eq!(chat.id, id);
        chat.leave().await;
        first.until("leave").await;
    }
}

async fn private_messages_and_kicks_reach_users_of_every_shard(launch: Launch) {
    let accounts = AccountFile::of(&[], &["boss"]).await;
    let server = launch.without_rate_limit().flag("--data", accounts.path().display()).start();
    // Shards are given as many connections each, so some of these are on each of four.
    let [mut boss, mut others @ ..]: [Chat; 9] = boss_and_others(&server).await;
    let (mut hal, hal_id) = hub_beside(&server, "Hal", &mut boss).await;
    boss.say(private(hal_id, "psst")).await;
    assert_eq!(boss.next().await["type"], "private_message_sent");
    assert_eq!(hal.next().await["content"], "psst");
    for target in &mut others {
        boss.say(private(target.id, "psst")).await;
        let sent = boss.next().await;
        assert_eq!((&sent["type"], &sent["to_id"]), (&json!("private_message_sent"), &json!(target.id)));
        let told = target.until("private_message").await;
        assert_eq!((&told["content"], &told["from_id"]), (&json!("psst"), &json!(boss.id)));
        target.say(private(boss.id, "yes?")).await;
        assert_eq!(target.next().await["type"], "private_message_sent");
        assert_eq!(boss.next().await["content"], "yes?");
    }
    for target in &mut others {
        boss.say(json!({"type": "kick", "target_id": target.id})).await;
        target.until("kicked").await;
        assert_eq!(target.closed().await.0, 1008);
        assert_eq!(boss.next().await["content"]["user_id"], target.id);
        for message in [private(target.id, "psst"), json!({"type": "kick", "target_id": target.id})] {
            boss.say(message).await;
            assert_eq!(boss.next().await, error(NOT_FOUND));
        }
    }
    boss.say(json!({"type": "kick", "target_id": hal_id, "reason": "enough"})).await;
    while hal.next().await["content"] != "enough" {}
    assert_eq!(hal.closed().await.0, 1008);
}

async fn who_has_left_is_not_found_by_anyone(launch: Launch) {
    let server = launch.without_rate_limit().start();
    let mut crowd = Chat::crowd(&server, 10).await;
    while crowd.len() > 1 {
        let leaving = crowd.swap_remove(0);
        let id = leaving.id;
        leaving.leave().await;
        for member in &mut crowd {
            assert_eq!(member.next().await["content"]["user_id"], id);
            member.say(private(id, "still there?")).await;
            assert_eq!(member.next().await, error(NOT_FOUND));
        }
    }
}

/// Word of a newcomer may reach others before its own shard hears that it is in the room.
async fn who_is_announced_can_be_written_to_at_once(launch: Launch) {
    let server = launch.without_rate_limit().start();
    let [mut alice, mut bob] = Chat::members(&server).await;
    for n in 0..40 {
        let newcomer = Chat::connect(&server);
        let greet = async {
            for member in [&mut alice, &mut bob] {
                let id = member.until("join").await["from_id"].as_u64().unwrap();
                member.say(private(id, "welcome")).await;
                assert_eq!(member.next().await["type"], "private_message_sent", "newcomer {n}");
            }
        };
        let (mut newcomer, ()) = tokio::join!(newcomer, greet);
        for _ in 0..2 {
            assert_eq!(newcomer.until("private_message").await["content"], "welcome");
        }
        newcomer.leave().await;
        for member in [&mut alice, &mut bob] {
            member.until("leave").await;
        }
    }
}

async fn sign_in(chat: &mut Chat, name: &str) {
    chat.say(json!({"type": "auth", "username": name, "password": password_of(name)})).await;
    assert_eq!(chat.next().await["type"], "auth_success");
    chat.read_welcome().await;
}

fn private(to: u64, content: &str) -> Value {
    json!({"type": "private_message", "to_id": to, "content": content})
}
