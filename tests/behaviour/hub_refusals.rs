//! What the hub does not understand or does not allow, and what it says to that. The connection stays.

use serde_json::json;
use tokio_tungstenite::tungstenite::Message;

use crate::harness::{Hub, Launch, line, on_one_and_four_shards};

on_one_and_four_shards! {
    anything_else_gets_a_system_message,
    binary_messages_get_a_system_message,
    a_message_over_the_limit_gets_a_system_message,
    a_message_over_the_frame_limit_ends_the_connection,
    past_the_rate_each_message_gets_a_system_message,
    refusals_are_told_to_their_sender_alone,
    hostile_names_stay_what_they_are,
}

async fn anything_else_gets_a_system_message(launch: Launch) {
    let server = launch.start();
    let mut ann = Hub::visit(&server).await;
    for round in 0..2 {
        for text in [
            "",
            "hello",
            "{",
            "{}",
            "[]",
            "null",
            r#"{"content":"no type"}"#,
            r#"{"type":7}"#,
            r#"{"type":null,"content":"x"}"#,
            r#"{"type":"message","content":"x"}"#,
            r#"{"type":"handshake"}"#,
            r#"{"type":"system","content":"I am the server"}"#,
            r#"{"type":"LOGIN","content":"Ann"}"#,
            r#"{"type":"user","content":7}"#,
            r#"{"type":"user","content":null}"#,
            r#"{"type":"user","content":["x"]}"#,
            r#"{"type":"user","content":"\ud800"}"#,
            r#"{"type":"login","content":"\udc00"}"#,
            r#"{"type":"user","content":"x"} x"#,
        ] {
            ann.send(text).await;
            assert!(!ann.system().await.is_empty(), "round {round}: {text}");
        }
        ann.send("[".repeat(9_000)).await;
        assert!(!ann.system().await.is_empty());
        if round == 0 {
            ann.login("Ann").await;
        }
    }
    ann.say("user", "fine").await;
    assert_eq!(ann.next().await, line("user", "Ann", "fine", &["Ann"]));
}

async fn binary_messages_get_a_system_message(launch: Launch) {
    let server = launch.start();
    let mut ann = Hub::enter(&server, "Ann").await;
    for bytes in [&b""[..], b"\xff\0", br#"{"type":"user","content":"x"}"#] {
        ann.send(Message::binary(bytes.to_vec())).await;
        assert!(!ann.system().await.is_empty());
    }
    ann.say("user", "fine").await;
    assert_eq!(ann.next().await["content"], "fine");
}

async fn a_message_over_the_limit_gets_a_system_message(launch: Launch) {
    let server = launch.start();
    let mut ann = Hub::enter(&server, "Ann").await;
    let bare = json!({"type": "user", "content": ""}).to_string().len();
    ann.say("user", &"x".repeat(10_240 - bare)).await;
    assert_eq!(ann.next().await["type"], "user");
    ann.say("user", &"x".repeat(10_241 - bare)).await;
    assert_eq!(ann.system().await, "Message too large");
    ann.send("x".repeat(65_536)).await;
    assert_eq!(ann.system().await, "Message too large");
    ann.say("user", "short").await;
    assert_eq!(ann.next().await["content"], "short");
}

async fn a_message_over_the_frame_limit_ends_the_connection(launch: Launch) {
    let server = launch.start();
    let mut ann = Hub::enter(&server, "Ann").await;
    ann.send("x".repeat(65_537)).await;
    assert_eq!(ann.closed().await.0, 1009);
}

async fn past_the_rate_each_message_gets_a_system_message(launch: Launch) {
    let server = launch.flag("--rate", 1).flag("--burst", 5).start();
    let mut ann = Hub::enter(&server, "Ann").await;
    let words = (0..10).map(|n| json!({"type": "user", "content": n.to_string()}).to_string().into());
    ann.socket().send_all(words.collect::<Vec<_>>()).await;
    let (mut said, mut refused) = (Vec::new(), 0);
    for _ in 0..10 {
        let message = ann.next().await;
        match message["type"].as_str().unwrap() {
            "user" => said.push(message["content"].clone()),
            _ => {
                assert_eq!(message, line("system", "", "Too many messages", &["Ann"]));
                refused += 1;
            }
        }
    }
    // Its login was the first of five.
    assert_eq!((said, refused), (["0", "1", "2", "3"].map(|word| json!(word)).to_vec(), 6));
}

async fn refusals_are_told_to_their_sender_alone(launch: Launch) {
    let server = launch.start();
    let mut ann = Hub::enter(&server, "Ann").await;
    let mut bea = Hub::enter(&server, "Bea").await;
    assert_eq!(ann.next().await["type"], "login");
    bea.send("nonsense").await;
    assert!(!bea.system().await.is_empty());
    bea.say("user", "sense").await;
    assert_eq!(ann.next().await["content"], "sense");
}

async fn hostile_names_stay_what_they_are(launch: Launch) {
    let server = launch.start();
    let mut ann = Hub::enter(&server, "Ann").await;
    for name in ["<b>x</b>", "\"'\\", "A\u{200b}nn", "\u{e000}\u{feff}", "👩‍👩‍👧‍👦", "%s${x}{{x}}"]
    {
        let mut other = Hub::enter(&server, name).await;
        assert_eq!(ann.next().await, line("login", name, name, &["Ann", name]), "{name:?}");
        other.say("user", "me").await;
        assert_eq!(ann.next().await, line("user", name, "me", &["Ann", name]), "{name:?}");
        other.leave().await;
        assert_eq!(ann.next().await, line("logout", name, name, &["Ann"]), "{name:?}");
    }
    let mut nobody = Hub::visit(&server).await;
    for name in ["\u{202e}nnA", "\u{200b}", "\u{feff}\u{2060}", "a\u{2028}b", "System"] {
        nobody.say("login", name).await;
        let refused = nobody.system().await;
        assert!(refused.starts_with("Invalid name") || refused == "Name is reserved", "{name:?}: {refused}");
    }
}
