//! The log: it names connections and reasons, and repeats nothing of what is said.

use serde_json::{Value, json};

use crate::harness::{
    CLOSE, Chat, Launch, Server, Socket, TEXT, Wire, eventually, frame, on_one_and_four_shards, request,
};
use crate::http_paths::answer;

on_one_and_four_shards! {
    each_connection_is_logged_from_admission_to_its_end,
    nothing_that_is_said_is_ever_logged,
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

/// The lines of the log that are objects, as all of them are once it has started.
fn lines(server: &Server) -> Vec<Value> {
    server.output().lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}
