//! Coming to the hub: the handshake, and logging in.

use serde_json::json;

use crate::harness::{Chat, Hub, Launch, Wire, line, on_one_and_four_shards, request, upgrade_request};

on_one_and_four_shards! {
    a_plain_get_is_told_to_upgrade,
    the_handshake_tells_a_newcomer_its_own_address_and_who_is_there,
    who_has_not_logged_in_hears_nothing,
    a_login_is_told_to_everyone_the_newcomer_included,
    names_are_listed_by_id_and_may_repeat,
    names_are_trimmed,
    a_bad_name_gets_a_system_message_and_no_login,
    a_second_login_gets_a_system_message,
    what_is_sent_before_the_handshake_comes_takes_effect_behind_it,
    who_has_not_logged_in_is_no_user,
}

async fn a_plain_get_is_told_to_upgrade(launch: Launch) {
    let server = launch.start();
    for method in ["GET", "HEAD"] {
        let mut wire = Wire::connect(&server).await;
        wire.send(request(&server, method, "/ws", "")).await;
        let response = wire.response().await;
        assert_eq!(response.status, 426);
        assert_eq!(response.header("upgrade"), Some("websocket"));
        assert_eq!(response.body.is_empty(), method == "HEAD", "a hint: {:?}", response.body);
    }
}

async fn the_handshake_tells_a_newcomer_its_own_address_and_who_is_there(launch: Launch) {
    let server = launch.start();
    let mut wire = Wire::connect(&server).await;
    let address = wire.local_address().to_string();
    wire.send(upgrade_request("/ws")).await;
    assert_eq!(wire.head().await.status, 101);
    let mut expected = line("handshake", "", "", &[]);
    expected["ip"] = json!(address);
    assert_eq!(wire.json().await, expected);

    let chat = Chat::enter(&server).await;
    let mut expected = line("handshake", "", "", &[&chat.name]);
    let mut visitor = Hub::connect(&server).await;
    let mut handshake = visitor.next().await;
    assert_ne!(handshake["ip"], json!(address), "another connection");
    expected["ip"] = handshake["ip"].take();
    handshake["ip"] = expected["ip"].clone();
    assert_eq!(handshake, expected);
    visitor.login("Bea").await;
    assert_eq!(Hub::connect(&server).await.next().await["user_list"], json!(["Bea", chat.name]));
}

async fn who_has_not_logged_in_hears_nothing(launch: Launch) {
    let server = launch.start();
    let mut visitor = Hub::visit(&server).await;
    let mut chat = Chat::enter(&server).await;
    chat.message("hello?").await;
    let mut bea = Hub::enter(&server, "Bea").await;
    bea.say("user", "anyone?").await;
    assert_eq!(bea.next().await["content"], "anyone?");
    bea.leave().await;
    for kind in ["join", "message", "leave"] {
        assert_eq!(chat.next().await["type"], kind);
    }
    // All of that is over; the next that the visitor hears is its own login.
    visitor.login("Cleo").await;
}

async fn a_login_is_told_to_everyone_the_newcomer_included(launch: Launch) {
    let server = launch.start();
    let mut ann = Hub::visit(&server).await;
    assert_eq!(ann.login("Ann").await, line("login", "Ann", "Ann", &["Ann"]));
    let mut bea = Hub::visit(&server).await;
    let login = bea.login("Bea").await;
    assert_eq!(login, line("login", "Bea", "Bea", &["Ann", "Bea"]));
    assert_eq!(ann.next().await, login, "the same for everyone");
}

async fn names_are_listed_by_id_and_may_repeat(launch: Launch) {
    let server = launch.start();
    let mut chat = Chat::enter(&server).await;
    let mut twins = Vec::new();
    for _ in 0..4 {
        twins.push(Hub::enter(&server, "Twin").await);
        assert_eq!(chat.next().await["from_name"], "Twin");
    }
    chat.say(json!({"type": "get_users"})).await;
    let users = chat.next().await;
    let users = users["content"].as_array().unwrap();
    let names: Vec<_> = users.iter().map(|user| user["name"].clone()).collect();
    let mut last = twins.pop().unwrap();
    last.say("who", "").await;
    assert_eq!(last.next_by_id().await["user_list"], json!(names));
    assert_eq!(names.iter().filter(|name| **name == "Twin").count(), 4);
}

async fn names_are_trimmed(launch: Launch) {
    let server = launch.start();
    let mut ann = Hub::visit(&server).await;
    ann.say("login", " \u{3000}\tAnn B\u{a0}\n").await;
    assert_eq!(ann.next().await, line("login", "Ann B", "Ann B", &["Ann B"]));
}

async fn a_bad_name_gets_a_system_message_and_no_login(launch: Launch) {
    let server = launch.start();
    let mut chat = Chat::enter(&server).await;
    let mut ann = Hub::visit(&server).await;
    for content in [
        json!(""),
        json!("  "),
        json!("x".repeat(21)),
        json!("a\u{0}b"),
        json!("a\nb"),
        json!("\u{9f}"),
        json!(7),
        json!(null),
        json!(["Ann"]),
        json!({"name": "Ann"}),
    ] {
        ann.send(json!({"type": "login", "content": content}).to_string()).await;
        assert!(!ann.system().await.is_empty(), "{content}");
    }
    ann.send(r#"{"type":"login"}"#).await;
    assert!(!ann.system().await.is_empty());
    // Twenty characters are a name, whatever they are.
    let name = "你".repeat(20);
    ann.login(&name).await;
    assert_eq!(chat.next().await["from_name"], name, "the only join");
}

async fn a_second_login_gets_a_system_message(launch: Launch) {
    let server = launch.start();
    let mut ann = Hub::enter(&server, "Ann").await;
    let mut bea = Hub::enter(&server, "Bea").await;
    assert_eq!(ann.next().await["type"], "login");
    for name in ["Ann", "Other", ""] {
        ann.say("login", name).await;
        assert!(!ann.system().await.is_empty());
    }
    ann.say("user", "still me").await;
    assert_eq!(bea.next().await["from"], "Ann");
}

async fn what_is_sent_before_the_handshake_comes_takes_effect_behind_it(launch: Launch) {
    let server = launch.start();
    let mut wire = Wire::connect(&server).await;
    let mut bytes = upgrade_request("/ws").into_bytes();
    for (kind, content) in [("login", "Ann"), ("user", "one"), ("user", "two"), ("logout", "")] {
        let message = json!({"type": kind, "content": content}).to_string();
        bytes.extend(crate::harness::frame(crate::harness::TEXT, message));
    }
    wire.send(bytes).await;
    assert_eq!(wire.head().await.status, 101);
    assert_eq!(wire.json().await["type"], "handshake");
    assert_eq!(wire.json().await, line("login", "Ann", "Ann", &["Ann"]));
    assert_eq!(wire.json().await, line("user", "Ann", "one", &["Ann"]));
    assert_eq!(wire.json().await, line("user", "Ann", "two", &["Ann"]));
    assert_eq!(wire.close().await.0, 1000);
}

async fn who_has_not_logged_in_is_no_user(launch: Launch) {
    let server = launch.start();
    let mut chat = Chat::enter(&server).await;
    let mut visitor = Hub::visit(&server).await;
    for (users_online, login) in [(1, None), (2, Some("Ann"))] {
        if let Some(name) = login {
            visitor.login(name).await;
            let join = chat.next().await;
            assert_eq!(join["content"]["users_online"], 2);
        }
        chat.say(json!({"type": "get_stats"})).await;
        assert_eq!(chat.next().await["content"]["users_online"], users_online);
        chat.say(json!({"type": "get_rooms"})).await;
        assert_eq!(chat.next().await["content"][0]["users_online"], users_online);
        chat.say(json!({"type": "get_users"})).await;
        assert_eq!(chat.next().await["content"].as_array().unwrap().len(), users_online);
    }
}
