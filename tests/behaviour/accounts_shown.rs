//! Accounts as others see them: marks in lists, and private messages to and from an account.

use serde_json::{Value, json};

use crate::harness::{
    AccountFile, Chat, Launch, Server, direct, error, eventually, from, on_one_and_four_shards_only,
    password_of,
};

on_one_and_four_shards_only! {
    who_is_signed_in_is_marked_where_members_are_listed,
    a_role_is_listed_as_it_is_now_and_not_announced,
    reports_of_presence_mark_accounts,
    a_message_to_an_account_reaches_all_its_connections,
    accounts_that_are_not_signed_in_are_not_found,
}

const NOT_FOUND: &str = "User not found or offline";

async fn who_is_signed_in_is_marked_where_members_are_listed(launch: Launch) {
    let accounts = AccountFile::of(&["Ann"], &["boss"]).await;
    let server = with(launch, &accounts).start();
    let mut guest = Chat::enter(&server).await;
    let mut boss = enter(&server, "boss").await;
    let unmarked = json!({"user_id": boss.id, "user_name": boss.name, "users_online": 2, "room": "general"});
    assert_eq!(guest.next().await, from(&boss, "join", unmarked));
    assert_eq!(guest.until("user_renamed").await["content"]["new_name"], "boss");
    boss.name = "boss".to_owned();

    // With the next room the others learn it.
    guest.move_to("random").await;
    boss.until("leave").await;
    boss.move_to("random").await;
    let content = json!({
        "user_id": boss.id, "user_name": "boss", "users_online": 2, "room": "random", "account": "boss",
        "is_admin": true,
    });
    assert_eq!(guest.next().await, from(&boss, "join", content));

    let mut ann = enter(&server, "Ann").await;
    ann.move_to("random").await;
    ann.say(json!({"type": "get_users"})).await;
    let users = ann.next().await;
    let marks: Vec<_> =
        listed(&users).iter().map(|user| (user["account"].clone(), user["is_admin"].clone())).collect();
    let wanted = [(Value::Null, Value::Null), (json!("boss"), json!(true)), (json!("Ann"), json!(false))];
    assert_eq!(marks, wanted, "{users}");
    assert!(listed(&users)[0].get("account").is_none(), "{users}");
}

async fn a_role_is_listed_as_it_is_now_and_not_announced(launch: Launch) {
    let accounts = AccountFile::of(&[], &["boss"]).await;
    let server = with(launch, &accounts).start();
    let mut guest = Chat::enter(&server).await;
    let _boss = enter(&server, "boss").await;
    guest.until("user_renamed").await;
    accounts.change(&["demote", "boss"], "").await;
    eventually("the mark", async || {
        guest.say(json!({"type": "get_users"})).await;
        // Nothing else comes meanwhile.
        let users = guest.next().await;
        assert_eq!((&users["type"], &listed(&users)[1]["account"]), (&json!("users"), &json!("boss")));
        listed(&users)[1]["is_admin"] == json!(false)
    })
    .await;
}

async fn reports_of_presence_mark_accounts(launch: Launch) {
    let accounts = AccountFile::of(&["Ann"], &[]).await;
    let server = with(launch, &accounts).flag("--presence-limit", 1).start();
    let mut guest = Chat::enter(&server).await;
    guest.move_to("random").await;
    let mut ann = enter(&server, "Ann").await;
    ann.move_to("random").await;
    let report = guest.until("presence").await;
    let joined = json!([{"id": ann.id, "name": "Ann", "account": "Ann", "is_admin": false}]);
    assert_eq!(report["content"]["joined"], joined);
    accounts.change(&["promote", "Ann"], "").await;
    let report = guest.until("presence").await;
    let renamed = json!([{"id": ann.id, "name": "Ann", "account": "Ann", "is_admin": true}]);
    assert_eq!(report["content"]["renamed"], renamed);
    let mut other = Chat::enter(&server).await;
    other.move_to("random").await;
    let report = guest.until("presence").await;
    assert_eq!(report["content"]["joined"].as_array().map(Vec::len), Some(1), "{report}");
    assert!(report["content"]["joined"][0].get("account").is_none(), "{report}");
}

async fn a_message_to_an_account_reaches_all_its_connections(launch: Launch) {
    let accounts = AccountFile::of(&["Ann"], &[]).await;
    let server = with(launch, &accounts).start();
    let mut ann = enter(&server, "Ann").await;
    let mut also_ann = enter(&server, "Ann").await;
    let mut guest = Chat::enter(&server).await;
    also_ann.move_to("random").await;
    guest.until("leave").await;

    guest.say(to_account("Ann", "psst")).await;
    let sent =
        json!({"type": "private_message_sent", "to_account": "Ann", "to_name": "Ann", "content": "psst"});
    assert_eq!(guest.next().await, sent);
    let received =
        json!({"type": "private_message", "from_id": guest.id, "from_name": guest.name, "content": "psst"});
    for chat in [&mut ann, &mut also_ann] {
        assert_eq!(chat.until("private_message").await, received);
    }

    // Her own connections hear her, too, and she is told once.
    ann.say(to_account("Ann", "note")).await;
    let noted = json!({
        "type": "private_message", "from_id": ann.id, "from_name": "Ann", "from_account": "Ann", "content": "note",
    });
    let sent =
        json!({"type": "private_message_sent", "to_account": "Ann", "to_name": "Ann", "content": "note"});
    let both = [ann.next().await, ann.next().await];
    assert!(both.contains(&noted) && both.contains(&sent), "{both:?}");
    assert_eq!(also_ann.next().await, noted);

    // Where both are given, the id counts.
    let mut message = to_account("Ann", "to you alone");
    message["to_id"] = json!(guest.id);
    ann.say(message).await;
    let answer = ann.next().await;
    assert_eq!((&answer["to_id"], &answer["to_account"]), (&json!(guest.id), &Value::Null));
    assert_eq!(guest.next().await["from_account"], "Ann");

    ann.leave().await;
    guest.until("leave").await;
    guest.say(to_account("Ann", "still there?")).await;
    assert_eq!(guest.next().await["type"], "private_message_sent");
    assert_eq!(also_ann.next().await["content"], "still there?");
}

async fn accounts_that_are_not_signed_in_are_not_found(launch: Launch) {
    let accounts = AccountFile::of(&["Ann", "Ben"], &[]).await;
    let server = with(launch, &accounts).start();
    let mut guest = Chat::enter(&server).await;
    let ann = enter(&server, "Ann").await;
    guest.until("user_renamed").await;
    for account in [json!("Ben"), json!("ann"), json!(""), json!(7), json!(null), json!(["Ann"])] {
        guest.say(json!({"type": "private_message", "to_account": account, "content": "hello?"})).await;
        assert_eq!(guest.next().await, error(NOT_FOUND), "{account}");
    }
    // Empty content is ignored once the account is found.
    guest.say(to_account("Ben", "")).await;
    assert_eq!(guest.next().await, error(NOT_FOUND));
    guest.say(to_account("Ann", "")).await;
    guest.say(json!({"type": "get_stats"})).await;
    assert_eq!(guest.next().await["type"], "stats");
    ann.leave().await;
    assert_eq!(guest.next().await["type"], "leave");
    guest.say(to_account("Ann", "too late")).await;
    assert_eq!(guest.next().await, error(NOT_FOUND));
}

fn with(launch: Launch, accounts: &AccountFile) -> Launch {
    launch.flag("--data", accounts.path().display()).without_rate_limit()
}

fn to_account(account: &str, content: &str) -> Value {
    json!({"type": "private_message", "to_account": account, "content": content})
}

fn listed(users: &Value) -> &Vec<Value> {
    users["content"].as_array().unwrap()
}

/// Enters and then signs in.
async fn enter(server: &Server, name: &str) -> Chat {
    let mut chat = Chat::enter(server).await;
    chat.say(json!({"type": "auth", "username": name, "password": password_of(name)})).await;
    let success = chat.until("auth_success").await;
    let is_admin = &success["content"]["is_admin"];
    assert_eq!(success, direct("auth_success", json!({"user_name": name, "is_admin": is_admin})));
    chat
}
