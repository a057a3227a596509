//! A disk that fails under way, with everyone there: who speaks is told, whatever is not kept goes on, and
//! nobody is disconnected.

use std::fs;

use serde_json::{Value, json};

use crate::durability::{NOT_STORED, contents, history, say_until_stored};
use crate::harness::{
    Chat, Launch, Server, Socket, error, eventually, hub_beside, on_one_and_four_shards_with_data, request,
};
use crate::http_paths::answer;
use crate::metrics::scrape;

on_one_and_four_shards_with_data! {
    a_disk_that_fails_is_told_in_every_dialect_and_disconnects_nobody,
    a_history_that_is_deleted_is_a_failed_disk,
    a_history_that_is_put_back_is_written_again,
    a_reader_of_the_history_is_told_of_and_its_log_is_short_again_when_it_has_gone,
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

/// It is noticed though nobody says anything, and what is said is refused instead of written to a file that nobody
/// finds again.
async fn a_history_that_is_deleted_is_a_failed_disk(launch: Launch) {
    for file in ["history.db", "history.db-wal"] {
        let launch = launch.clone();
        let data = launch.data().to_owned();
        let server = launch.start();
        let [mut alice, mut bob] = Chat::members(&server).await;
        alice.message("kept").await;
        assert_eq!(bob.next().await["content"], "kept");
        assert_eq!(ready(&server).await, (200, "ready".to_owned()));

        fs::remove_file(data.join(file)).unwrap();
        let failed = (503, "storage failed".to_owned());
        eventually("it is noticed", async || ready(&server).await == failed).await;
        alice.say(json!({"type": "message", "content": "unheard"})).await;
        assert_eq!(alice.next().await, error(NOT_STORED));
        alice.say(json!({"type": "private_message", "to_id": bob.id, "content": "between us"})).await;
        assert_eq!(bob.next().await["content"], "between us");
        let health = answer(&server, &request(&server, "GET", "/healthz", "")).await;
        assert_eq!(health.status, 200, "a restart is for others to decide");
        let words = format!("{} was deleted, moved or replaced", data.join(file).display());
        eventually(&words, async || server.output().contains(&words)).await;
        assert!(server.output().contains("restart uproar"), "{}", server.output());
        assert!(scrape(&server).await.contains("\nuproar_storage_durable 0\n"));
        drop(server);
        for file in fs::read_dir(&data).unwrap() {
            fs::remove_file(file.unwrap().path()).unwrap();
        }
    }
}

async fn a_history_that_is_put_back_is_written_again(launch: Launch) {
    let data = launch.data().to_owned();
    let server = launch.clone().start();
    let mut alice = Chat::enter(&server).await;
    alice.message("kept").await;
    let (here, away) = (data.join("history.db"), data.join("away.db"));
    fs::rename(&here, &away).unwrap();
    alice.say(json!({"type": "message", "content": "lost"})).await;
    assert_eq!(alice.next().await, error(NOT_STORED));
    fs::rename(&away, &here).unwrap();
    say_until_stored(&mut alice, "again").await;
    eventually("it is ready", async || ready(&server).await.0 == 200).await;
    // Killed.
    drop(server);
    assert_eq!(contents(&history(&launch.start(), "general").await), ["kept", "again"]);
}

/// A backup, or a shell that was left open.
async fn a_reader_of_the_history_is_told_of_and_its_log_is_short_again_when_it_has_gone(launch: Launch) {
    const LOG_BYTES_MAX: u64 = 8 << 20;
    let data = launch.data().to_owned();
    let server = launch.without_rate_limit().start();
    let mut alice = Chat::enter(&server).await;
    alice.message("kept").await;
    let reader = rusqlite::Connection::open(data.join("history.db")).unwrap();
    reader.execute_batch("BEGIN").unwrap();
    reader.query_row("SELECT count(*) FROM message", [], |row| row.get::<_, u64>(0)).unwrap();
    let log_bytes = || fs::metadata(data.join("history.db-wal")).unwrap().len();
    let long = "x".repeat(10_000);
    let mut count = 0;
    while log_bytes() <= LOG_BYTES_MAX {
        assert!(count < 10_000, "{} bytes", log_bytes());
        alice.messages((0..100).map(|_| long.clone())).await;
        count += 100;
    }
    let words = "another program has been reading history.db";
    eventually(words, async || server.output().contains(words)).await;
    reader.execute_batch("COMMIT").unwrap();
    // Though nobody says anything more.
    eventually("the log is short", async || log_bytes() <= LOG_BYTES_MAX).await;
    alice.message("still here").await;
}

/// What `/readyz` answers.
async fn ready(server: &Server) -> (u16, String) {
    let response = answer(server, &request(server, "GET", "/readyz", "")).await;
    (response.status, response.body.trim_end().to_owned())
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
