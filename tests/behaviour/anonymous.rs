//! `--anonymous listen`: who has neither an account nor a token hears everything and says nothing.

use serde_json::json;

use crate::harness::{
    Chat, Launch, Socket, TokenKey, direct, error, from, on_one_and_four_shards_only, run, upgrade_with,
};

on_one_and_four_shards_only! {
    a_listener_in_chat_hears_and_asks_and_does_nothing_else,
    a_listener_may_sign_in,
    a_listener_of_a_topic_is_closed_when_it_publishes,
    hub_and_echo_are_for_those_who_speak,
}

const DENIED: &str = "Permission denied";

fn listening(launch: Launch, key: &TokenKey) -> Launch {
    launch.flag("--token-key", key.path().display()).flag("--anonymous", "listen")
}

async fn a_listener_in_chat_hears_and_asks_and_does_nothing_else(launch: Launch) {
    let key = TokenKey::new();
    for required in [false, true] {
        let launch = listening(launch.clone(), &key);
        let server = if required { launch.flag("--auth", "required") } else { launch }.start();
        let mut listener = Chat::enter(&server).await;
        let mut ann = Chat::with_token(&server, &key.token("ann", &[]).await).await;
        ann.read_welcome().await;
        assert_eq!(ann.next().await["type"], "users");
        assert_eq!(ann.next().await["type"], "history");
        let content = json!({
            "user_id": ann.id, "user_name": "ann", "users_online": 2, "room": "general", "account": "ann",
            "is_admin": false,
        });
        assert_eq!(listener.next().await, from(&ann, "join", content));
        let id = ann.message("hello").await;
        assert_eq!(listener.next().await["content"], "hello");
        for message in [
            json!({"type": "message", "content": "hello?"}),
            json!({"type": "message", "content": ""}),
            json!({"type": "image", "url": "https://example.com/a.png"}),
            json!({"type": "image", "url": "no url"}),
            json!({"type": "set_name", "name": "Boss"}),
            json!({"type": "set_name", "name": ""}),
            json!({"type": "private_message", "to_id": ann.id, "content": "hello?"}),
            json!({"type": "typing", "is_typing": true}),
            json!({"type": "read", "message_id": id}),
            json!({"type": "read", "message_id": 1.5}),
            json!({"type": "kick", "target_id": ann.id}),
            json!({"type": "dance"}),
        ] {
            listener.say(message.clone()).await;
            assert_eq!(listener.next().await, error(DENIED), "{message}");
        }
        for (message, answer) in [
            (json!({"type": "get_users"}), "users"),
            (json!({"type": "get_rooms"}), "rooms"),
            (json!({"type": "get_stats"}), "stats"),
            (json!({"type": "join_room"}), "error"),
        ] {
            listener.say(message).await;
            assert_eq!(listener.next().await["type"], answer);
        }
        listener.move_to("random").await;
        assert_eq!(ann.next().await["type"], "leave");
        listener.say(json!({"type": "resume", "room": "general", "after": 0})).await;
        assert_eq!(listener.next().await["type"], "room_joined");
        assert_eq!(ann.next().await["type"], "join");
        ann.message("nothing else was heard").await;
    }
}

async fn a_listener_may_sign_in(launch: Launch) {
    let key = TokenKey::new();
    let server = listening(launch, &key).start();
    let mut ann = Chat::enter(&server).await;
    let mut bob = Chat::enter(&server).await;
    assert_eq!(ann.next().await["type"], "join");
    ann.say(json!({"type": "auth", "token": key.token("ann", &[]).await})).await;
    let content = json!({"user_name": "ann", "is_admin": false});
    assert_eq!(ann.next().await, direct("auth_success", content));
    assert_eq!(bob.next().await["type"], "user_renamed");
    ann.message("now I may").await;
    assert_eq!(bob.next().await["from_name"], "ann");
}

async fn a_listener_of_a_topic_is_closed_when_it_publishes(launch: Launch) {
    let key = TokenKey::new();
    let server = listening(launch, &key).flag("--auth", "required").start();
    let token = key.token("ann", &["--publish", "topic:news"]).await;
    let mut publisher = Socket::with_token(&server, "/broadcast/news", &token).await;
    let mut listener = Socket::connect(&server, "/broadcast/news").await;
    publisher.send("first").await;
    assert_eq!(listener.text().await, "first");
    listener.send("second").await;
    assert_eq!(listener.closed().await, (1008, DENIED.to_owned()));
    publisher.send("third").await;
    for wanted in ["first", "third"] {
        assert_eq!(publisher.text().await, wanted);
    }
}

async fn hub_and_echo_are_for_those_who_speak(launch: Launch) {
    let key = TokenKey::new();
    let server = listening(launch, &key).start();
    for path in ["/ws", "/echo"] {
        assert_eq!(upgrade_with(&server, path, "").await.status, 403, "{path}");
        let mut socket = Socket::with_token(&server, path, &key.token("ann", &[]).await).await;
        socket.send("{}").await;
        socket.text().await;
    }
}

#[tokio::test]
async fn there_is_nothing_else_that_they_may_do() {
    let refused = run(&["--anonymous", "shout"], &[]).await;
    assert_eq!(refused.code, Some(2));
    assert!(refused.stderr.contains("allowed is listen"), "{}", refused.stderr);
}
