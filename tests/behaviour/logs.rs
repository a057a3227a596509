//! The log: it names connections and reasons, and repeats nothing of what is said.

use std::time::Instant;

use rustix::process::Signal;
use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};
use serde_json::{Map, Value, json};

use crate::harness::{
    AccountFile, ApiKeys, Backend, CLOSE, Chat, Launch, Server, Socket, TEXT, TokenKey, Wire, eventually,
    frame, on_one_server, password_of, request,
};
use crate::http_paths::answer;
use crate::slow_receivers::{narrow, slow_member, talk_until_leave};

on_one_server! {
    each_connection_is_logged_from_admission_to_its_end,
    nothing_that_is_said_is_ever_logged,
    an_eviction_is_logged_with_whose_it_is_and_what_waited,
    every_line_is_json_where_that_is_asked_for,
}

async fn each_connection_is_logged_from_admission_to_its_end(launch: Launch) {
    let server = launch.flag("--log-level", "debug").flag("--log", "json").start();
    for (path, dialect, last, reason) in [
        ("/chat", "chat", frame(CLOSE, 1000_u16.to_be_bytes()), "closed"),
        ("/broadcast", "raw", frame(0x3, ""), "protocol_error"),
        ("/echo", "echo", frame(TEXT, b"\xff"), "invalid_utf8"),
    ] {
        let seen = lines(&server).len();
        let mut wire = Wire::upgrade(&server, path).await;
        wire.send(last).await;
        wire.close().await;
        eventually("admission and end are logged", async || {
            let lines = lines(&server);
            let news = &lines[seen..];
            let Some(admitted) = news.iter().find(|line| line["message"] == "admitted") else {
                return false;
            };
            assert_eq!(admitted["level"], "DEBUG");
            assert!(admitted["shard"].is_number() && admitted["connection"].is_string(), "{admitted}");
            let is_end = |line: &&Value| {
                line["message"] == "ended"
                    && (&line["shard"], &line["connection"]) == (&admitted["shard"], &admitted["connection"])
            };
            let Some(ended) = news.iter().find(is_end) else { return false };
            assert_eq!((&ended["dialect"], &ended["reason"]), (&json!(dialect), &json!(reason)));
            true
        })
        .await;
    }
}

async fn nothing_that_is_said_is_ever_logged(launch: Launch) {
    const SECRET: &str = "orchid-7f3a";
    for level in ["debug", "trace"] {
        let server = launch.clone().flag("--log-level", level).start();
        let [mut alice, mut bob] = Chat::members(&server).await;
        alice.message(SECRET).await;
        assert_eq!(bob.next().await["content"], SECRET);
        for refused in [
            json!({"type": SECRET}),
            json!({"type": "join_room", "room": SECRET}),
            json!({"type": "set_name", "name": SECRET.repeat(3)}),
            json!({"type": "message", "content": SECRET.repeat(1000)}),
            json!([SECRET]),
        ] {
            alice.say(refused).await;
            assert_eq!(alice.next().await["type"], "error");
        }
        alice.say(json!({"type": "set_name", "name": SECRET})).await;
        assert_eq!(alice.until("name_changed").await["content"]["new_name"], SECRET);
        alice.say(json!({"type": "private_message", "to_id": bob.id, "content": SECRET})).await;
        assert_eq!(bob.until("private_message").await["content"], SECRET);
        for path in [format!("/broadcast/{SECRET}"), format!("/echo?token={SECRET}")] {
            let mut socket = Socket::connect(&server, &path).await;
            socket.send(SECRET).await;
            assert_eq!(socket.text().await, SECRET);
        }
        let header = format!("X-Token: {SECRET}\r\n");
        assert_eq!(answer(&server, &request(&server, "GET", "/nothing", &header)).await.status, 404);
        let mut wire = Wire::upgrade(&server, "/echo").await;
        let reason = [&1000_u16.to_be_bytes()[..], SECRET.as_bytes()].concat();
        wire.send([frame(TEXT, SECRET), frame(CLOSE, reason)].concat()).await;
        assert_eq!(wire.close().await.0, 1000);
        let mut wire = Wire::upgrade(&server, "/chat").await;
        wire.send([frame(TEXT, SECRET), frame(0x3, SECRET)].concat()).await;
        assert_eq!(wire.close().await.0, 1002);
        eventually("all six were admitted", async || server.output().matches("admitted").count() >= 6).await;
        assert!(!server.output().contains(SECRET), "at {level}");
    }
}

async fn an_eviction_is_logged_with_whose_it_is_and_what_waited(launch: Launch) {
    let server = narrow(launch).flag("--log", "json").start();
    let [mut alice, mut bob] = Chat::members(&server).await;
    let slow = slow_member(&server, &mut [&mut alice, &mut bob]).await;
    talk_until_leave(&mut alice, &mut bob).await;
    let line = logged(&server, "evicted").await;
    assert_eq!((&line["level"], &line["dialect"]), (&json!("INFO"), &json!("chat")));
    assert_eq!(line["address"], json!(slow.local_address().to_string()));
    assert_eq!(line["reason"], "slow_consumer");
    assert!(
        line["queued_bytes"].as_u64() > Some(30_000) && line["queued_frames"].as_u64() > Some(0),
        "{line}"
    );
    assert!(line["acknowledged_bytes"].as_u64() > Some(0), "{line}");
    assert!(line["round_trip_ms"].as_f64() > Some(0.0), "{line}");
}

async fn every_line_is_json_where_that_is_asked_for(launch: Launch) {
    let mut server = launch.flag("--log", "json").flag("--log-level", "trace").start();
    let alice = Chat::enter(&server).await;
    alice.leave().await;
    server.signal(Signal::TERM);
    assert_eq!(server.exit().await.code(), Some(0));
    let output = server.output();
    for line in output.lines() {
        let line = strict(line);
        assert!(line["level"].is_string() && line["timestamp"].is_string(), "{line}");
    }
    assert!(output.contains("listening on http") && output.contains("clients_max"), "{output}");
}

#[tokio::test]
async fn a_failed_sign_in_is_logged_with_account_and_address_and_never_the_password() {
    let accounts = AccountFile::of(&["Ann"], &[]).await;
    for (username, shown, reason) in [
        ("Ann", "Ann", "wrong password"),
        ("Ben", "Ben", "unknown account"),
        ("\u{202e}x\n\x1b[31m", "\u{fffd}x\u{fffd}\u{fffd}[31m", "unknown account"),
    ] {
        let launch = Launch::with_shards(1).flag("--log", "json");
        let server = launch.flag("--data", accounts.path().display()).start();
        let mut guesser = Chat::enter(&server).await;
        guesser.say(json!({"type": "auth", "username": username, "password": "orchid-7f3a"})).await;
        assert_eq!(guesser.closed().await.0, 1008);
        let line = logged(&server, "sign-in failed").await;
        assert_eq!((&line["level"], &line["account"]), (&json!("INFO"), &json!(shown)));
        assert_eq!((&line["address"], &line["reason"]), (&json!("127.0.0.1"), &json!(reason)));
        assert!(!server.output().contains("orchid"));
    }
}

#[tokio::test]
async fn failed_sign_ins_do_not_fill_the_log() {
    let server = Launch::with_shards(1).flag("--log", "json").start();
    let begin = Instant::now();
    for count in 0..60 {
        let mut guesser = Chat::enter(&server).await;
        let username = format!("{count}{}", "x".repeat(5_000));
        guesser.say(json!({"type": "auth", "username": username, "password": "x"})).await;
        assert_eq!(guesser.closed().await.0, 1008);
    }
    // However long that took: the first one, and one a second.
    let seconds = begin.elapsed().as_secs() as usize;
    let lines: Vec<_> =
        lines(&server).into_iter().filter(|line| line["message"] == "sign-in failed").collect();
    assert!((1..=seconds + 2).contains(&lines.len()), "{} lines in {seconds} s", lines.len());
    assert!(lines.iter().all(|line| line["account"].as_str().unwrap().len() < 200), "{lines:?}");
}

#[tokio::test]
async fn what_admins_do_is_logged_with_names_and_the_reason() {
    let accounts = AccountFile::of(&[], &["boss"]).await;
    accounts.hash_cheaply("boss");
    let launch = Launch::with_shards(4).flag("--log", "json").flag("--data", accounts.path().display());
    let server = launch.start();
    let [mut boss, mut alice] = Chat::members(&server).await;
    boss.say(json!({"type": "auth", "username": "boss", "password": password_of("boss")})).await;
    assert_eq!(boss.next().await["type"], "auth_success");
    alice.say(json!({"type": "set_name", "name": "Alice \"A\""})).await;
    alice.until("name_changed").await;
    boss.say(json!({"type": "mute", "target_id": alice.id, "seconds": 60})).await;
    alice.until("muted").await;
    let reason = format!("spam\n\u{202e}{}", "x".repeat(1_000));
    boss.say(json!({"type": "kick", "target_id": alice.id, "reason": reason})).await;
    alice.until("kicked").await;
    eventually("both are logged", async || {
        let lines = lines(&server);
        let lines: Vec<_> = lines.iter().filter(|line| line["message"] == "moderated").collect();
        let [mute, kick] = lines[..] else { return false };
        for line in [mute, kick] {
            assert_eq!((&line["by_name"], &line["name"]), (&json!("boss"), &json!("Alice \"A\"")));
            assert_eq!(
                (&line["by"], &line["user"]),
                (&json!(boss.id.to_string()), &json!(alice.id.to_string()))
            );
        }
        assert_eq!((&mute["measure"], &mute["seconds"]), (&json!("mute"), &json!(60)));
        let reason = kick["reason"].as_str().unwrap();
        assert!(reason.starts_with("spam\u{fffd}\u{fffd}xxx") && reason.len() < 200, "{reason}");
        true
    })
    .await;
}

/// Goal: whatever others call themselves and say, a line is one object, in which each key is there once.
#[tokio::test]
async fn no_line_has_a_key_twice() {
    const HOSTILE: &str = "x\",\"level\":\"ERROR\u{2028}\n{\"level\"";
    let (keys, tokens) = (ApiKeys::new(), TokenKey::new());
    let key = keys.add("level", &[]).await;
    let launch = Launch::with_shards(4).flag("--log", "json").flag("--log-level", "trace");
    let launch = launch.switch("--log-access").with_api(&keys);
    let mut server = launch.flag("--token-key", tokens.path().display()).start();
    let backend = Backend::with_key(&server, &key);
    let token =
        tokens.token(HOSTILE, &["--name", "\"level\":", "--topic", "*", "--publish", "topic:*"]).await;
    let mut boss = crate::mutes::admin(&server, &tokens).await;
    let mut ann = Chat::with_token(&server, &token).await;
    ann.read_welcome().await;
    boss.say(json!({"type": "mute", "target_id": ann.id, "seconds": 1})).await;
    ann.until("muted").await;
    boss.say(json!({"type": "kick", "target_id": ann.id, "reason": HOSTILE})).await;
    ann.until("kicked").await;
    ann.closed_in_the_end().await;
    drop(Socket::with_token(&server, "/broadcast/%22level%22", &token).await);
    let mut guesser = Chat::enter(&server).await;
    guesser.say(json!({"type": "auth", "username": HOSTILE, "password": HOSTILE})).await;
    guesser.closed_in_the_end().await;
    for path in ["/chat?token=%22level%22", "/%22level%22", "/broadcast/%22level%22?token=x"] {
        let _ = answer(&server, &request(&server, "GET", path, "X-Level: \"level\"\r\n")).await;
    }
    let mut wire = Wire::upgrade(&server, "/echo").await;
    wire.send(frame(0x3, HOSTILE)).await;
    wire.close().await;
    for (path, body) in [
        ("users/level%22%3A/ban", json!({"seconds": 60, "reason": HOSTILE})),
        ("users/level%22%3A/unban", json!({})),
        ("users/level%22%3A/message", json!({"content": HOSTILE})),
        ("users/level%22%3A/move", json!({"to": "gaming"})),
        ("users/level%22%3A/disconnect", json!({"reason": HOSTILE})),
        ("publish", json!({"room": "general", "content": HOSTILE})),
    ] {
        let done = backend.post(&format!("/api/v1/{path}"), &body).await;
        assert_eq!(done.status, 200, "{done:?}");
    }
    let sent = backend.post("/api/v1/publish", &json!({"room": "general", "content": "x"})).await.json();
    let message = format!("/api/v1/rooms/general/messages/{}", sent["message_id"]);
    assert_eq!(backend.request("DELETE", &message, &[], b"").await.status, 200);
    server.signal(Signal::TERM);
    assert_eq!(server.exit().await.code(), Some(0));
    let lines: Vec<Value> = server.output().lines().map(strict).collect();
    for message in ["moderated", "sign-in failed", "closed", "API request", "connection ended"] {
        assert!(lines.iter().any(|line| line["message"] == message), "{message} is not logged");
    }
    assert!(lines.iter().all(|line| line["level"] != "ERROR"), "{lines:?}");
}

/// A line of the log, which must be JSON without a repeated key.
fn strict(line: &str) -> Value {
    serde_json::from_str::<Strict>(line).unwrap_or_else(|error| panic!("{error}: {line}")).0
}

/// A value, read by a reader that refuses an object with a repeated key.
struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reading;

        impl<'de> Visitor<'de> for Reading {
            type Value = Strict;

            fn expecting(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                to.write_str("what a line of the log has")
            }

            fn visit_bool<E>(self, value: bool) -> Result<Strict, E> {
                Ok(Strict(value.into()))
            }

            fn visit_i64<E>(self, value: i64) -> Result<Strict, E> {
                Ok(Strict(value.into()))
            }

            fn visit_u64<E>(self, value: u64) -> Result<Strict, E> {
                Ok(Strict(value.into()))
            }

            fn visit_f64<E>(self, value: f64) -> Result<Strict, E> {
                Ok(Strict(value.into()))
            }

            fn visit_str<E>(self, value: &str) -> Result<Strict, E> {
                Ok(Strict(value.into()))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Strict, A::Error> {
                let mut object = Map::new();
                while let Some((key, Strict(value))) = map.next_entry::<String, Strict>()? {
                    if object.insert(key.clone(), value).is_some() {
                        return Err(A::Error::custom(format!("{key} is there twice")));
                    }
                }
                Ok(Strict(object.into()))
            }
        }

        deserializer.deserialize_any(Reading)
    }
}

/// The line with that message, once there is one.
async fn logged(server: &Server, message: &str) -> Value {
    let mut found = None;
    eventually(message, async || {
        found = lines(server).into_iter().find(|line| line["message"] == message);
        found.is_some()
    })
    .await;
    found.unwrap()
}

/// The lines of the log that are objects, as all of them are once it has started.
fn lines(server: &Server) -> Vec<Value> {
    let is_whole = |line: &&str| serde_json::from_str::<Value>(line).is_ok();
    server.output().lines().filter(is_whole).map(strict).collect()
}
