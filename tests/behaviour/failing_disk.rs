//! A disk that fails under way, with everyone there: who speaks is told, whatever is not kept goes on, and
//! nobody is disconnected.

use serde_json::{Value, json};

use crate::durability::{NOT_STORED, contents, history, say_until_stored};
use crate::harness::{Chat, Launch, Socket, error, hub_beside, on_one_and_four_shards_with_data};

on_one_and_four_shards_with_data! {
    a_disk_that_fails_is_told_in_every_dialect_and_disconnects_nobody,
}

async fn a_disk_that_fails_is_told_in_every_dialect_and_disconnects_nobody(launch: Launch) {
    let server = launch.without_rate_limit().with_small_files().start();
    let [mut alice, mut bob] = Chat::members(&server).await;
    let (mut ann, _) = hub_beside(&server, "Ann", &mut alice).await;
    assert_eq!(bob.next().await["type"], "join");
    let mut listeners = Socket::listeners(&server, "/broadcast", 2).await;
    let mut echo = Socket::connect(&server, "/echo").await;
    alice.message("kept").await;

    server.refuse_writes();
    // It was on its way when the disk failed, so the others see what is not kept.
    alice.say(json!({"type": "message", "content": "lost"})).await;
    assert_eq!(alice.next().await, error(NOT_STORED));
    for content in ["kept", "lost"] {
        assert_eq!(bob.next().await["content"], content);
        let line = ann.next().await;
        assert_eq!((&line["type"], &line["content"]), (&json!("user"), &json!(content)));
    }
    // What comes now only its sender hears of.
    for refused in [
        json!({"type": "message", "content": "unheard"}),
        json!({"type": "image", "url": "https://example.org/unseen.png"}),
    ] {
        alice.say(refused).await;
        assert_eq!(alice.next().await, error(NOT_STORED));
    }
    ann.say("user", "unheard").await;
    assert_eq!(ann.system().await, NOT_STORED);
    // Nothing else needs the disk: not who comes, moves or leaves, and no topic.
    assert_eq!(contents(&history(&server, "general").await), ["kept"]);
    assert_eq!(history(&server, "random").await, json!([]));
    ann.say("who", "").await;
    while ann.next().await["type"] != "system" {}
    listeners[0].send("on the topic").await;
    for listener in &mut listeners {
        assert_eq!(listener.text().await, "on the topic");
    }
    echo.send("back").await;
    assert_eq!(echo.text().await, "back");

    server.lift_limit_of_files();
    say_until_stored(&mut alice, "again").await;
    ann.say("user", "Ann, too").await;
    // Both are the connections that they were, and have missed nothing that there was to hear.
    assert_eq!(heard(async || bob.next().await, "message").await, ["again", "Ann, too"]);
    assert_eq!(heard(async || ann.next().await, "user").await, ["again", "Ann, too"]);
    assert_eq!(contents(&history(&server, "general").await), ["kept", "again", "Ann, too"]);
}

/// What was said in the room, up to Ann's last word; `kind` is how the dialect calls that.
async fn heard(mut next: impl AsyncFnMut() -> Value, kind: &str) -> Vec<Value> {
    let mut heard = Vec::new();
    while heard.last() != Some(&json!("Ann, too")) {
        let message = next().await;
        if message["type"] == kind {
            heard.push(message["content"].clone());
        }
    }
    heard
}
