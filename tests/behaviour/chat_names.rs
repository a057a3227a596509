//! Names and their rules.

use serde_json::json;

use crate::harness::{Chat, Launch, direct, error, from, on_one_and_four_shards};

on_one_and_four_shards! {
    a_new_name_is_confirmed_and_announced,
    a_new_name_stays_with_its_user,
    names_of_one_to_twenty_characters_are_kept,
    characters_are_counted_as_people_see_them,
    white_space_at_both_ends_is_trimmed,
    other_names_are_refused_and_change_nothing,
    names_need_not_be_unique,
    the_first_name_comes_with_the_upgrade,
}

const REFUSAL: &str = "Invalid name (1-20 characters required)";

async fn a_new_name_is_confirmed_and_announced(launch: Launch) {
    let server = launch.start();
    let [mut alice, mut bob] = Chat::members(&server).await;
    let old = alice.name.clone();
    alice.say(json!({"type": "set_name", "name": "Alice"})).await;
    alice.name = "Alice".to_owned();
    let content = json!({"old_name": old, "new_name": "Alice"});
    assert_eq!(alice.next().await, direct("name_changed", content));
    let content = json!({"user_id": alice.id, "old_name": old, "new_name": "Alice"});
    assert_eq!(bob.next().await, from(&alice, "user_renamed", content));

    // The one renamed is not told as one of the others.
    bob.message("hi, Alice").await;
    assert_eq!(alice.next().await["content"], "hi, Alice");
}

async fn a_new_name_stays_with_its_user(launch: Launch) {
    let server = launch.start();
    let [mut alice, mut bob] = Chat::members(&server).await;
    rename(&mut alice, "Alice").await;
    bob.until("user_renamed").await;
    let id = alice.message("it is me").await;
    let mut message = from(&alice, "message", json!("it is me"));
    message["message_id"] = json!(id);
    assert_eq!(bob.next().await, message);

    let mut carol = Chat::connect(&server).await;
    let users = carol.until("users").await;
    let listed = users["content"].as_array().unwrap();
    let listed = listed.iter().find(|user| user["id"] == alice.id).unwrap();
    assert_eq!(listed["name"], "Alice");
    assert_eq!(carol.next().await["content"][0]["sender"], "Alice");

    alice.move_to("random").await;
    let leave = bob.until("leave").await;
    assert_eq!(leave["content"]["user_name"], "Alice");
    bob.move_to("random").await;
    let join = alice.next().await;
    assert_eq!((&join["type"], &join["from_id"]), (&json!("join"), &json!(bob.id)));
}

async fn names_of_one_to_twenty_characters_are_kept(launch: Launch) {
    let server = launch.start();
    let mut alice = Chat::enter(&server).await;
    for name in [
        "a",
        "日",
        &"x".repeat(20),
        &"ß".repeat(20),
        &"😀".repeat(20),
        &"e\u{301}".repeat(10),
        "a b",
        "a\u{3000}b",
        "<b>&\"'\\/",
        "null",
    ] {
        rename(&mut alice, name).await;
    }
}

async fn characters_are_counted_as_people_see_them(launch: Launch) {
    let server = launch.start();
    let mut alice = Chat::enter(&server).await;
    let family = "👨\u{200d}👩\u{200d}👧\u{200d}👦";
    for name in [&"e\u{301}".repeat(20), &"👍🏽".repeat(20), &family.repeat(11), &"नमस्ते ".repeat(3)]
    {
        let name = name.trim_end();
        rename(&mut alice, name).await;
    }
    for name in [&"e\u{301}".repeat(21), &family.repeat(12), &format!("Z{}", "\u{336}".repeat(80))] {
        alice.say(json!({"type": "set_name", "name": name})).await;
        assert_eq!(alice.next().await, error(REFUSAL), "{name}");
    }
}

async fn white_space_at_both_ends_is_trimmed(launch: Launch) {
    let server = launch.start();
    let mut alice = Chat::enter(&server).await;
    let spaces = "\u{20}\u{a0}\u{1680}\u{2000}\u{2003}\u{200a}\u{2028}\u{2029}\u{202f}\u{205f}\u{3000}";
    let twenty = "x".repeat(20);
    for name in ["a", "a b", twenty.as_str()] {
        alice.say(json!({"type": "set_name", "name": format!("{spaces}{name}{spaces}")})).await;
        assert_eq!(alice.next().await["content"]["new_name"], name);
        alice.name = name.to_owned();
    }
    // These look like space, but are none.
    for name in ["\u{200b}a\u{200b}", "\u{feff}a", "\u{180e}a", "\u{2060}a"] {
        rename(&mut alice, name).await;
    }
}

async fn other_names_are_refused_and_change_nothing(launch: Launch) {
    let server = launch.start();
    let [mut alice, mut bob] = Chat::members(&server).await;
    for name in [
        json!(""),
        json!(" "),
        json!("\u{3000}\u{a0}\u{2003}"),
        json!("x".repeat(21)),
        json!("😀".repeat(21)),
        json!("x".repeat(5000)),
        json!("a\0b"),
        json!("a\tb"),
        json!("a\nb"),
        json!("a\u{7f}b"),
        json!("a\u{80}b"),
        json!("a\u{85}b"),
        json!("a\u{9f}b"),
        json!("a\u{1b}[31mb"),
        json!("\u{200b}\u{200b}"),
        json!("\u{feff} \u{ad}"),
        json!("\u{3164}"),
        json!("\u{2800}"),
        json!("\u{202e}gro.knab"),
        json!("\u{2067}abc"),
        json!("a\u{200f}b"),
        json!("a\u{2028}b"),
        json!("a\u{2029}b"),
        json!("a\u{fffe}b"),
        json!("a\u{fdd0}b"),
        json!(5),
        json!(true),
        json!(null),
        json!(["Alice"]),
        json!({"name": "Alice"}),
    ] {
        alice.say(json!({"type": "set_name", "name": name})).await;
        assert_eq!(alice.next().await, error(REFUSAL), "{name}");
    }
    alice.say(json!({"type": "set_name"})).await;
    assert_eq!(alice.next().await, error(REFUSAL));
    alice.message("as ever").await;
    let message = bob.next().await;
    assert_eq!((&message["type"], &message["from_name"]), (&json!("message"), &json!(alice.name)));
}

async fn names_need_not_be_unique(launch: Launch) {
    let server = launch.start();
    let [mut alice, mut bob] = Chat::members(&server).await;
    rename(&mut alice, "Twin").await;
    assert_eq!(bob.next().await["type"], "user_renamed");
    rename(&mut bob, "Twin").await;
    assert_eq!(alice.next().await["content"]["new_name"], "Twin");
}

async fn the_first_name_comes_with_the_upgrade(launch: Launch) {
    let server = launch.start();
    let mut alice = Chat::enter(&server).await;
    let mut named = Chat::connect_at(&server, "/chat?other=x&name=+Ann+O%27Hara%20&name=Ben").await;
    assert_eq!(named.read_welcome().await["content"]["user_name"], "Ann O'Hara");
    let join = alice.next().await;
    assert_eq!(
        (&join["from_name"], &join["content"]["user_name"]),
        (&json!("Ann O'Hara"), &json!("Ann O'Hara"))
    );
    let twenty_one = "x".repeat(21);
    for name in ["", "%20", "a%00b", "%E2%80%AEnnA", "%E2%80%8B", "system", "SYS%E2%80%8BTEM", &twenty_one] {
        let mut nameless = Chat::connect_at(&server, &format!("/chat?name={name}")).await;
        nameless.read_welcome().await;
        assert_eq!(nameless.name, format!("User{}", nameless.id), "{name}");
        nameless.leave().await;
    }
}

async fn rename(chat: &mut Chat, name: &str) {
    chat.say(json!({"type": "set_name", "name": name})).await;
    let content = json!({"old_name": chat.name, "new_name": name});
    assert_eq!(chat.next().await, direct("name_changed", content));
    chat.name = name.to_owned();
}
