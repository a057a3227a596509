//! What admins may do to others, and nobody else: kick, mute, unmute.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::{
    AccountFile, Chat, Hub, Launch, Server, direct, error, eventually, hub_beside,
    on_one_and_four_shards_only, password_of,
};

on_one_and_four_shards_only! {
    a_kicked_user_is_told_why_and_closed,
    users_of_other_rooms_are_kicked_and_muted,
    hub_members_are_kicked_and_muted_in_their_own_words,
    the_muted_may_not_speak_but_may_do_the_rest,
    who_is_unmuted_may_speak_again,
    a_mute_expires,
    the_last_mute_counts,
    users_and_guests_are_refused,
    who_is_not_there_is_not_found,
    bad_seconds_and_reasons_are_a_wrong_format,
    an_admin_may_do_it_to_itself_and_to_other_admins,
    hostile_reasons_come_as_they_are,
    who_comes_later_from_the_address_of_a_muted_guest_is_muted_and_told,
}

const MUTED: &str = "You are muted";
const DENIED: &str = "Permission denied";
const NOT_FOUND: &str = "User not found or offline";

async fn a_kicked_user_is_told_why_and_closed(launch: Launch) {
    let (server, _accounts) = serve(launch).await;
    let [mut boss, mut alice, mut bob, mut carol] = boss_and_others(&server).await;
    boss.say(json!({"type": "kick", "target_id": alice.id, "reason": "spam"})).await;
    assert_eq!(alice.next().await, direct("kicked", json!({"reason": "spam"})));
    assert_eq!(alice.closed().await.0, 1008);
    for other in [&mut boss, &mut bob, &mut carol] {
        let leave = other.next().await;
        assert_eq!((&leave["type"], &leave["content"]["user_id"]), (&json!("leave"), &json!(alice.id)));
    }
    for (target, reason) in [(&mut bob, json!("")), (&mut carol, Value::Null)] {
        let mut kick = json!({"type": "kick", "target_id": target.id, "reason": reason});
        if reason.is_null() {
            kick.as_object_mut().unwrap().remove("reason");
        }
        boss.say(kick).await;
        let told = target.until("kicked").await;
        assert_eq!(told, direct("kicked", json!({"reason": "Kicked by admin"})));
        assert_eq!(target.closed().await.0, 1008);
        assert_eq!(boss.next().await["type"], "leave");
    }
    // The admin hears nothing of its own.
    boss.message("quiet now").await;
}

async fn users_of_other_rooms_are_kicked_and_muted(launch: Launch) {
    let (server, _accounts) = serve(launch).await;
    let [mut boss, mut alice] = boss_and_others(&server).await;
    alice.move_to("random").await;
    assert_eq!(boss.next().await["type"], "leave");
    boss.say(json!({"type": "mute", "target_id": alice.id.to_string(), "seconds": 60})).await;
    assert_eq!(alice.next().await, direct("muted", json!({"seconds": 60})));
    alice.say(json!({"type": "message", "content": "hm"})).await;
    assert_eq!(alice.next().await, error(MUTED));
    boss.say(json!({"type": "kick", "target_id": alice.id})).await;
    assert_eq!(alice.next().await["type"], "kicked");
    assert_eq!(alice.closed().await.0, 1008);
}

async fn hub_members_are_kicked_and_muted_in_their_own_words(launch: Launch) {
    let (server, _accounts) = serve(launch).await;
    let [mut boss] = boss_and_others(&server).await;
    let (mut hal, id) = hub_beside(&server, "Hal", &mut boss).await;
    boss.say(json!({"type": "mute", "target_id": id, "seconds": 60})).await;
    assert!(hal.system().await.contains("60"));
    hal.say("user", "can you hear me?").await;
    assert_eq!(hal.system().await, MUTED);
    boss.say(json!({"type": "unmute", "target_id": id})).await;
    hal.system().await;
    hal.say("user", "and now?").await;
    assert_eq!(hal.next().await["content"], "and now?");
    assert_eq!(boss.next().await["content"], "and now?");
    boss.say(json!({"type": "kick", "target_id": id, "reason": "enough"})).await;
    assert_eq!(hal.system().await, "enough");
    assert_eq!(hal.closed().await.0, 1008);
    let leave = boss.next().await;
    assert_eq!((&leave["type"], &leave["content"]["user_name"]), (&json!("leave"), &json!("Hal")));
    // Who has not logged in is nobody yet, whatever the id.
    let visitor = Hub::visit(&server).await;
    for target in (1..=12).filter(|target| *target != boss.id).collect::<Vec<u64>>() {
        boss.say(json!({"type": "kick", "target_id": target})).await;
        assert_eq!(boss.next().await, error(NOT_FOUND));
    }
    visitor.leave().await;
}

async fn the_muted_may_not_speak_but_may_do_the_rest(launch: Launch) {
    let (server, _accounts) = serve(launch).await;
    let [mut boss, mut alice] = boss_and_others(&server).await;
    mute(&mut boss, &mut alice, 3_600).await;
    for message in [
        json!({"type": "message", "content": "hm"}),
        json!({"type": "image", "url": "https://example.com/a.png"}),
        json!({"type": "private_message", "to_id": boss.id, "content": "hm"}),
        json!({"type": "private_message", "to_id": 4_000, "content": "hm"}),
        json!({"type": "set_name", "name": "I say hm"}),
    ] {
        alice.say(message.clone()).await;
        assert_eq!(alice.next().await, error(MUTED), "{message}");
    }
    // Nobody hears that it types.
    alice.say(json!({"type": "typing", "is_typing": true})).await;
    alice.say(json!({"type": "typing", "is_typing": true, "to_id": boss.id})).await;
    alice.move_to("random").await;
    assert_eq!(boss.next().await["type"], "leave");
    alice.say(json!({"type": "message", "content": "here?"})).await;
    assert_eq!(alice.next().await, error(MUTED));
    // And it still hears.
    boss.say(json!({"type": "private_message", "to_id": alice.id, "content": "think"})).await;
    assert_eq!(alice.next().await["content"], "think");
}

async fn who_is_unmuted_may_speak_again(launch: Launch) {
    let (server, _accounts) = serve(launch).await;
    let [mut boss, mut alice] = boss_and_others(&server).await;
    mute(&mut boss, &mut alice, 31_536_000).await;
    alice.say(json!({"type": "message", "content": "hm"})).await;
    assert_eq!(alice.next().await, error(MUTED));
    for _ in 0..2 {
        boss.say(json!({"type": "unmute", "target_id": alice.id})).await;
        assert_eq!(alice.next().await, direct("unmuted", json!({})));
        alice.message("thanks").await;
        assert_eq!(boss.next().await["content"], "thanks");
    }
}

async fn a_mute_expires(launch: Launch) {
    let (server, _accounts) = serve(launch).await;
    let [mut boss, mut alice] = boss_and_others(&server).await;
    let before = Instant::now();
    mute(&mut boss, &mut alice, 1).await;
    speaks_again(&mut alice).await;
    // The shard's clock counts whole milliseconds.
    assert!(before.elapsed() >= Duration::from_millis(999), "{:?}", before.elapsed());
    assert_eq!(boss.next().await["content"], "now?");
}

async fn the_last_mute_counts(launch: Launch) {
    let (server, _accounts) = serve(launch).await;
    let [mut boss, mut alice] = boss_and_others(&server).await;
    mute(&mut boss, &mut alice, 3_600).await;
    mute(&mut boss, &mut alice, 1).await;
    speaks_again(&mut alice).await;
}

async fn users_and_guests_are_refused(launch: Launch) {
    let (server, _accounts) = serve(launch).await;
    let [mut boss, mut ann, mut guest] = boss_and_others(&server).await;
    ann.say(auth("Ann")).await;
    assert_eq!(ann.next().await["content"]["is_admin"], false);
    assert_eq!(boss.next().await["type"], "user_renamed");
    assert_eq!(guest.next().await["type"], "user_renamed");
    let targets = [json!(boss.id), json!(ann.id), json!(4_000), json!("nobody")];
    for client in [&mut ann, &mut guest] {
        for target in &targets {
            for message in [
                json!({"type": "kick", "target_id": target}),
                json!({"type": "mute", "target_id": target, "seconds": 60}),
                json!({"type": "unmute", "target_id": target}),
                // Nor is anybody else told what is wrong with the fields.
                json!({"type": "kick", "target_id": target, "reason": 5}),
                json!({"type": "mute", "target_id": target, "seconds": 0}),
                json!({"type": "mute"}),
            ] {
                client.say(message.clone()).await;
                assert_eq!(client.next().await, error(DENIED), "{message}");
            }
        }
    }
    // Who is an admin stays that or goes.
    boss.say(auth("Ann")).await;
    assert_eq!(boss.closed().await, (1008, "Authentication failed".to_owned()));
}

async fn who_is_not_there_is_not_found(launch: Launch) {
    let (server, _accounts) = serve(launch).await;
    let [mut boss, alice] = boss_and_others(&server).await;
    let departed = alice.id;
    alice.leave().await;
    assert_eq!(boss.next().await["type"], "leave");
    for target in
        [json!(departed), json!(0), json!(9_007_199_254_740_993_u64), json!("x"), json!(-1), json!([1])]
    {
        for message in [
            json!({"type": "kick", "target_id": target}),
            json!({"type": "mute", "target_id": target, "seconds": 60}),
            json!({"type": "unmute", "target_id": target}),
        ] {
            boss.say(message.clone()).await;
            assert_eq!(boss.next().await, error(NOT_FOUND), "{message}");
        }
    }
}

async fn bad_seconds_and_reasons_are_a_wrong_format(launch: Launch) {
    let (server, _accounts) = serve(launch).await;
    let [mut boss, mut alice] = boss_and_others(&server).await;
    for seconds in [
        json!(0),
        json!(-1),
        json!(1.5),
        json!(31_536_001),
        json!(u64::MAX),
        json!(1e300),
        json!("60"),
        json!(null),
        json!(true),
        json!([60]),
    ] {
        boss.say(json!({"type": "mute", "target_id": alice.id, "seconds": seconds})).await;
        assert_eq!(boss.next().await, error("Invalid message format"), "{seconds}");
    }
    for message in [
        json!({"type": "mute", "target_id": alice.id}),
        json!({"type": "kick", "target_id": alice.id, "reason": 5}),
        json!({"type": "kick", "target_id": alice.id, "reason": ["spam"]}),
    ] {
        boss.say(message.clone()).await;
        assert_eq!(boss.next().await, error("Invalid message format"), "{message}");
    }
    alice.message("none of it has happened").await;
}

async fn an_admin_may_do_it_to_itself_and_to_other_admins(launch: Launch) {
    let (server, _accounts) = serve(launch).await;
    let [mut boss, mut chief] = boss_and_others(&server).await;
    chief.say(auth("chief")).await;
    assert_eq!(chief.next().await["content"]["is_admin"], true);
    assert_eq!(boss.next().await["type"], "user_renamed");
    mute(&mut boss, &mut chief, 60).await;
    chief.say(json!({"type": "message", "content": "hm"})).await;
    assert_eq!(chief.next().await, error(MUTED));
    // Being muted keeps nobody from being an admin.
    chief.say(json!({"type": "unmute", "target_id": chief.id})).await;
    assert_eq!(chief.next().await["type"], "unmuted");
    chief.say(json!({"type": "kick", "target_id": chief.id, "reason": "tired"})).await;
    assert_eq!(chief.next().await, direct("kicked", json!({"reason": "tired"})));
    assert_eq!(chief.closed().await.0, 1008);
}

async fn hostile_reasons_come_as_they_are(launch: Launch) {
    let (server, _accounts) = serve(launch).await;
    let [mut boss, mut alice] = boss_and_others(&server).await;
    let reason = format!("<script>alert(1)</script>\u{202e}\0\u{1b}[31m\u{200b}{}", "x".repeat(5_000));
    boss.say(json!({"type": "kick", "target_id": alice.id, "reason": reason})).await;
    assert_eq!(alice.next().await, direct("kicked", json!({"reason": reason})));
    assert_eq!(alice.closed().await.0, 1008);
    assert_eq!(boss.next().await["type"], "leave");
    let log = server.output();
    assert!(!log.contains(['\u{202e}', '\0', '\u{1b}', '\u{200b}']), "{log}");
}

async fn who_comes_later_from_the_address_of_a_muted_guest_is_muted_and_told(launch: Launch) {
    let (server, _accounts) = serve(launch).await;
    let [mut boss, mut alice, mut bob] = boss_and_others(&server).await;
    mute(&mut boss, &mut alice, 3_600).await;
    alice.leave().await;
    assert_eq!(boss.next().await["type"], "leave");
    let mut again = Chat::enter(&server).await;
    // Behind the first messages, with the time that is left.
    let muted = again.next().await;
    assert_eq!(muted["type"], "muted");
    let left = muted["content"]["seconds"].as_u64().unwrap();
    assert!((3_500..=3_600).contains(&left), "{left}");
    again.say(json!({"type": "message", "content": "hm"})).await;
    assert_eq!(again.next().await, error(MUTED));
    assert_eq!(
        (boss.next().await["type"].clone(), bob.until("join").await["type"].clone()),
        (json!("join"), json!("join"))
    );
    // Who was there already may go on.
    bob.message("still here").await;
    assert_eq!(boss.next().await["content"], "still here");
    assert_eq!(again.next().await["content"], "still here");
    // An account is not muted with the address.
    again.say(auth("Ann")).await;
    assert_eq!(again.next().await["type"], "auth_success");
    assert_eq!(again.next().await, direct("unmuted", json!({})));
    again.message("as Ann").await;
}

/// A server that requires nothing, with two admins and a user who may sign in.
async fn serve(launch: Launch) -> (Server, AccountFile) {
    let accounts = AccountFile::of(&["Ann"], &["boss", "chief"]).await;
    let launch = launch.without_rate_limit().flag("--data", accounts.path().display());
    (launch.start(), accounts)
}

/// Members of `general`, the first of whom is an admin.
pub(crate) async fn boss_and_others<const COUNT: usize>(server: &Server) -> [Chat; COUNT] {
    let mut members: [Chat; COUNT] = Chat::members(server).await;
    members[0].say(auth("boss")).await;
    assert_eq!(members[0].next().await["content"], json!({"user_name": "boss", "is_admin": true}));
    for other in &mut members[1..] {
        assert_eq!(other.next().await["type"], "user_renamed");
    }
    members
}

async fn mute(boss: &mut Chat, target: &mut Chat, seconds: u64) {
    boss.say(json!({"type": "mute", "target_id": target.id, "seconds": seconds})).await;
    assert_eq!(target.next().await, direct("muted", json!({"seconds": seconds})));
}

/// Speaks until the room hears it.
async fn speaks_again(chat: &mut Chat) {
    // Only time ends a mute, and no message tells.
    eventually("the mute is over", async || {
        chat.say(json!({"type": "message", "content": "now?"})).await;
        let answer = chat.next().await;
        assert!(answer == error(MUTED) || answer["type"] == "message_sent", "{answer}");
        answer["type"] == "message_sent"
    })
    .await;
}

fn auth(name: &str) -> Value {
    json!({"type": "auth", "username": name, "password": password_of(name)})
}
