//! Names that belong to accounts, and what becomes of sessions whose account changes.

use serde_json::{Value, json};

use crate::harness::{
    AccountFile, Chat, Hub, Launch, direct, error, eventually, on_one_and_four_shards_only, password_of,
};

on_one_and_four_shards_only! {
    the_names_of_accounts_are_reserved_in_every_form,
    a_name_that_becomes_an_accounts_stays_with_its_user,
    who_is_signed_in_keeps_the_name_of_the_account,
    a_removed_account_ends_its_sessions,
    a_new_password_ends_the_sessions_of_the_old_one,
    the_rights_of_an_admin_come_and_go_with_the_role,
}

const RESERVED: &str = "Name is reserved";
const DENIED: &str = "Permission denied";

async fn the_names_of_accounts_are_reserved_in_every_form(launch: Launch) {
    let accounts = AccountFile::of(&["Zoë"], &[]).await;
    let server = with(launch, &accounts).start();
    let mut alice = Chat::enter(&server).await;
    for name in ["Zoë", " zoë ", "ZOE\u{308}", "Z\u{200b}oë", "Ｚoë", "System", "s\u{ad}ystem", "SYSTEM"]
    {
        alice.say(set_name(name)).await;
        assert_eq!(alice.next().await, error(RESERVED), "{name}");
    }
    alice.say(set_name("Zoe")).await;
    assert_eq!(alice.next().await["type"], "name_changed");

    let mut newcomer = Chat::connect_at(&server, "/chat?name=ZO%C3%8B").await;
    newcomer.read_welcome().await;
    assert_eq!(newcomer.name, format!("User{}", newcomer.id));

    let mut hub = Hub::visit(&server).await;
    hub.say("login", "zoë").await;
    assert_eq!(hub.system().await, RESERVED);
    hub.login("Zora").await;
    hub.say("rename", "system").await;
    assert_eq!(hub.system().await, RESERVED);
}

async fn a_name_that_becomes_an_accounts_stays_with_its_user(launch: Launch) {
    let accounts = AccountFile::of(&[], &[]).await;
    let server = with(launch, &accounts).start();
    let [mut alice, mut bob] = Chat::members(&server).await;
    alice.say(set_name("Dora")).await;
    alice.until("name_changed").await;
    bob.until("user_renamed").await;
    accounts.change(&["add", "dora"], &password_of("dora")).await;
    eventually("the name is reserved", async || {
        bob.say(set_name("Dora")).await;
        let answer = bob.next().await;
        // Given back, so that the next attempt is one.
        bob.say(set_name("Bob")).await;
        bob.until("name_changed").await;
        answer == error(RESERVED)
    })
    .await;
    alice.say(json!({"type": "message", "content": "still Dora"})).await;
    assert_eq!(bob.until("message").await["from_name"], "Dora");
}

async fn who_is_signed_in_keeps_the_name_of_the_account(launch: Launch) {
    let accounts = AccountFile::of(&["Ann"], &[]).await;
    let server = with(launch, &accounts).start();
    let [mut ann, mut bob] = Chat::members(&server).await;
    sign_in(&mut ann, "Ann").await;
    bob.until("user_renamed").await;
    for name in [json!("Bob"), json!("Ann"), json!(""), json!("System"), json!(7)] {
        ann.say(json!({"type": "set_name", "name": name})).await;
        assert_eq!(ann.next().await, error(DENIED), "{name}");
    }
    ann.message("as ever").await;
    assert_eq!(bob.next().await["from_name"], "Ann");
}

async fn a_removed_account_ends_its_sessions(launch: Launch) {
    let accounts = AccountFile::of(&["Ann", "Ben"], &[]).await;
    let server = with(launch, &accounts).start();
    let [mut ann, mut also_ann, mut ben] = Chat::members(&server).await;
    for (chat, name) in [(&mut ann, "Ann"), (&mut also_ann, "Ann"), (&mut ben, "Ben")] {
        sign_in(chat, name).await;
    }
    accounts.change(&["remove", "Ann"], "").await;
    let removed = (1008, "account removed".to_owned());
    assert_eq!(ann.closed_in_the_end().await, removed);
    assert_eq!(also_ann.closed_in_the_end().await, removed);
    for _ in 0..2 {
        assert_eq!(ben.until("leave").await["content"]["user_name"], "Ann");
    }
    ben.message("still here").await;
    // The name is free again.
    ben.leave().await;
    let mut guest = Chat::enter(&server).await;
    eventually("the name is free", async || {
        guest.say(set_name("Ann")).await;
        guest.next().await["type"] == "name_changed"
    })
    .await;
}

async fn a_new_password_ends_the_sessions_of_the_old_one(launch: Launch) {
    let accounts = AccountFile::of(&["Ann"], &[]).await;
    let server = with(launch, &accounts).start();
    let mut ann = Chat::enter(&server).await;
    sign_in(&mut ann, "Ann").await;
    accounts.change(&["passwd", "Ann"], "new").await;
    // At once, and so perhaps ahead of the end of the other session.
    let mut new = Chat::enter(&server).await;
    new.say(json!({"type": "auth", "username": "Ann", "password": "new"})).await;
    assert_eq!(new.until("auth_success").await["content"]["user_name"], "Ann");
    assert_eq!(ann.closed_in_the_end().await, (1008, "password changed".to_owned()));
    new.say(json!({"type": "message", "content": "still here"})).await;
    new.until("message_sent").await;
}

async fn the_rights_of_an_admin_come_and_go_with_the_role(launch: Launch) {
    let accounts = AccountFile::of(&["Ann"], &["boss"]).await;
    let server = with(launch, &accounts).start();
    let [mut ann, mut boss] = Chat::members(&server).await;
    sign_in(&mut ann, "Ann").await;
    boss.until("user_renamed").await;
    boss.say(auth("boss")).await;
    assert_eq!(boss.next().await, direct("auth_success", json!({"user_name": "boss", "is_admin": true})));
    ann.until("user_renamed").await;
    accounts.change(&["demote", "boss"], "").await;
    accounts.change(&["promote", "Ann"], "").await;
    becomes(&mut boss, DENIED).await;
    becomes(&mut ann, "User not found or offline").await;
    ann.say(json!({"type": "kick", "target_id": boss.id})).await;
    assert_eq!(boss.until("kicked").await["content"]["reason"], "Kicked by admin");
}

/// Waits until an attempt to kick nobody is answered so.
async fn becomes(chat: &mut Chat, answer: &str) {
    eventually(answer, async || {
        chat.say(json!({"type": "kick", "target_id": 1_000_000})).await;
        chat.next().await == error(answer)
    })
    .await;
}

fn with(launch: Launch, accounts: &AccountFile) -> Launch {
    launch.flag("--data", accounts.path().display()).without_rate_limit()
}

fn set_name(name: &str) -> Value {
    json!({"type": "set_name", "name": name})
}

fn auth(name: &str) -> Value {
    json!({"type": "auth", "username": name, "password": password_of(name)})
}

async fn sign_in(chat: &mut Chat, name: &str) {
    chat.say(auth(name)).await;
    let success = chat.until("auth_success").await;
    assert_eq!(success, direct("auth_success", json!({"user_name": name, "is_admin": false})));
}
