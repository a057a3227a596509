//! `Idempotency-Key`: a request that is repeated is answered as the first time, and does nothing.

use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;

use crate::api_publish::with_backend;
use crate::api_users::with_users;
use crate::harness::{
    ApiKeys, Backend, Chat, Launch, eventually, on_one_and_four_shards_only, on_one_and_four_shards_with_data,
};
use crate::late_disk::HeldDisk;

on_one_and_four_shards_only! {
    a_repeated_request_is_answered_as_the_first_time,
    a_key_with_another_content_is_refused,
    a_key_is_of_one_api_key_alone,
    a_refused_request_is_answered_the_same_again,
    a_repeated_deletion_and_end_of_a_ban_are_answered_as_the_first_time,
    invalid_keys_are_refused,
}

mod with_data {
    super::on_one_and_four_shards_with_data! {
        an_answer_outlives_a_stop_and_a_kill,
        what_was_under_way_at_a_kill_is_done_once_at_most,
        a_disk_that_fails_stops_no_request,
        what_was_answered_while_the_disk_failed_is_known_after_a_restart,
    }
    use super::{
        a_disk_that_fails_stops_no_request, an_answer_outlives_a_stop_and_a_kill,
        what_was_answered_while_the_disk_failed_is_known_after_a_restart,
        what_was_under_way_at_a_kill_is_done_once_at_most,
    };
}

const PUBLISH: &str = "/api/v1/publish";
const JSON: (&str, &str) = ("Content-Type", "application/json");

async fn a_repeated_request_is_answered_as_the_first_time(launch: Launch) {
    let (server, backend) = with_backend(launch).await;
    let mut ann = Chat::enter(&server).await;
    let body = json!({"room": "general", "content": "once"}).to_string();
    let post = async || {
        backend.request("POST", PUBLISH, &[JSON, ("Idempotency-Key", "order-7")], body.as_bytes()).await
    };
    let first = post().await;
    assert_eq!((first.status, first.header("idempotency-replayed")), (200, None));
    for _ in 0..3 {
        let again = post().await;
        assert_eq!((again.status, &again.body), (200, &first.body));
        assert_eq!(again.header("idempotency-replayed"), Some("true"));
    }
    assert_eq!(ann.next().await["content"], "once");
    ann.say(json!({"type": "get_stats"})).await;
    assert_eq!(ann.next().await["type"], "stats");
    let broadcast = async || {
        let headers = [("Idempotency-Key", "tick"), ("Content-Type", "text/plain")];
        backend.request("POST", "/api/v1/broadcast/t", &headers, b"7").await
    };
    assert_eq!(broadcast().await.header("idempotency-replayed"), None);
    assert_eq!(broadcast().await.header("idempotency-replayed"), Some("true"));
}

async fn a_key_with_another_content_is_refused(launch: Launch) {
    let (_server, backend) = with_backend(launch).await;
    let post = async |path: &str, body: &str| {
        backend.request("POST", path, &[JSON, ("Idempotency-Key", "k")], body.as_bytes()).await
    };
    assert_eq!(post(PUBLISH, r#"{"room": "general", "content": "a"}"#).await.status, 200);
    post(PUBLISH, r#"{"room": "general", "content": "b"}"#).await.assert_problem(422, "invalid");
    post("/api/v1/broadcast/t", r#"{"room": "general", "content": "a"}"#)
        .await
        .assert_problem(422, "invalid");
}

async fn a_key_is_of_one_api_key_alone(launch: Launch) {
    let keys = ApiKeys::new();
    let (shop, billing) = (keys.add("shop", &[]).await, keys.add("billing", &[]).await);
    let server = launch.with_api(&keys).start();
    let mut ids = Vec::new();
    for key in [&shop, &billing] {
        let body = br#"{"room": "general", "content": "a"}"#;
        let backend = Backend::with_key(&server, key);
        let answer = backend.request("POST", PUBLISH, &[JSON, ("Idempotency-Key", "k")], body).await;
        ids.push(answer.json()["message_id"].clone());
    }
    assert_eq!(ids, [1, 2]);
}

async fn a_refused_request_is_answered_the_same_again(launch: Launch) {
    let (_server, backend) = with_backend(launch).await;
    let body = br#"{"room": "nowhere", "content": "a"}"#;
    for replayed in [None, Some("true")] {
        let answer = backend.request("POST", PUBLISH, &[JSON, ("Idempotency-Key", "k")], body).await;
        answer.assert_problem(404, "not-found");
        assert_eq!(answer.header("idempotency-replayed"), replayed);
    }
}

async fn a_repeated_deletion_and_end_of_a_ban_are_answered_as_the_first_time(launch: Launch) {
    let (server, _, backend) = with_users(launch).await;
    let mut ann = Chat::enter(&server).await;
    let id = ann.message("rash").await;
    ann.message("kept").await;
    let bans = async || backend.get("/api/v1/bans").await.json()["bans"].as_array().unwrap().len();
    let ban = async |account: &str| {
        backend.post(&format!("/api/v1/users/{account}/ban"), &json!({"seconds": 0})).await
    };
    ban("troll").await;
    let delete = async |path: &str| backend.request("DELETE", path, &[("Idempotency-Key", path)], b"").await;
    for path in [format!("/api/v1/rooms/general/messages/{id}"), "/api/v1/bans/1".to_owned()] {
        let first = delete(&path).await;
        assert_eq!((first.status, first.header("idempotency-replayed")), (200, None), "{first:?}");
        let again = delete(&path).await;
        assert_eq!((again.status, &again.body), (200, &first.body), "{path}");
        assert_eq!(again.header("idempotency-replayed"), Some("true"));
        // Without the key it is another request: there is nothing any more.
        backend.request("DELETE", &path, &[], b"").await.assert_problem(404, "not-found");
    }
    ban("troll").await;
    assert_eq!(delete("/api/v1/bans/1").await.header("idempotency-replayed"), Some("true"));
    assert_eq!(bans().await, 1, "a later ban stays");
    ann.until("message_deleted").await;
    assert_eq!(ann.message("next").await, 3, "it was deleted once");
}

async fn invalid_keys_are_refused(launch: Launch) {
    let (_server, backend) = with_backend(launch).await;
    let body = br#"{"room": "general", "content": "a"}"#;
    for key in ["", "a b", &"k".repeat(129)] {
        let answer = backend.request("POST", PUBLISH, &[JSON, ("Idempotency-Key", key)], body).await;
        answer.assert_problem(400, "malformed");
    }
    let longest = "k".repeat(128);
    assert_eq!(
        backend.request("POST", PUBLISH, &[JSON, ("Idempotency-Key", &longest)], body).await.status,
        200
    );
}

async fn post_with(backend: &Backend, path: &str, key: &str, body: &Value) -> crate::harness::Answer {
    backend.request("POST", path, &[JSON, ("Idempotency-Key", key)], body.to_string().as_bytes()).await
}

/// The messages of `general`, as a new member sees them.
async fn said(server: &crate::harness::Server) -> Vec<String> {
    let mut chat = Chat::connect(server).await;
    let history = chat.until("history").await;
    let rows = history["content"].as_array().unwrap().iter();
    let said = rows.map(|row| row["content"].as_str().unwrap().to_owned()).collect();
    chat.leave().await;
    said
}

async fn an_answer_outlives_a_stop_and_a_kill(launch: Launch) {
    let once = json!({"room": "general", "content": "once"});
    let batch = json!({"items": [
        {"room": "general", "content": "item", "idempotency_key": "i"}, {"topic": "t", "text": "x"},
        {"room": "nowhere", "content": "refused", "idempotency_key": "n"},
    ]});
    let mut answers: Option<[Value; 3]> = None;
    for signal in [Signal::KILL, Signal::TERM, Signal::KILL] {
        let (server, backend) = with_backend(launch.clone()).await;
        let published = post_with(&backend, PUBLISH, "a", &once).await;
        let refused = post_with(&backend, PUBLISH, "r", &json!({"room": "nowhere", "content": "a"})).await;
        let mut items = backend.post("/api/v1/batch", &batch).await.json();
        assert_eq!((published.status, refused.status), (200, 404), "{published:?} {refused:?}");
        let is_replayed = answers.is_some().then_some("true");
        for answer in [&published, &refused] {
            assert_eq!(answer.header("idempotency-replayed"), is_replayed);
        }
        for index in [0, 2] {
            let replayed = items["results"][index].as_object_mut().unwrap().remove("replayed");
            assert_eq!(replayed.is_some(), is_replayed.is_some(), "{items}");
        }
        let found = [published.json(), refused.json(), items];
        assert_eq!(*answers.get_or_insert_with(|| found.clone()), found);
        post_with(&backend, PUBLISH, "a", &json!({"room": "general", "content": "other"}))
            .await
            .assert_problem(422, "invalid");
        assert_eq!(said(&server).await, ["once", "item"]);
        server.signal(signal);
        drop(server);
    }
}

/// Goal: a backend that repeats everything without an answer after a crash sends nothing twice, and is told where the server
/// does not know.
async fn what_was_under_way_at_a_kill_is_done_once_at_most(launch: Launch) {
    let keys = ApiKeys::new();
    let key = keys.add("backend", &["publish"]).await;
    let launch = launch.with_api(&keys).flag("--history", 1_000);
    for round in 0..3 {
        let server = launch.clone().start();
        let backend = Backend::with_key(&server, &key);
        let body = |n: usize| json!({"room": "general", "content": format!("{round} {n}")});
        let mut ann = Chat::enter(&server).await;
        let mut streams = Vec::new();
        for n in 0..60 {
            let body = body(n).to_string();
            let mut stream = backend.connect().await;
            let head = format!(
                "POST {PUBLISH} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {key}\r\nContent-Type: application/json\r\n\
                 Idempotency-Key: {round}-{n}\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            );
            stream.write_all(head.as_bytes()).await.unwrap();
            streams.push(stream);
        }
        // In the midst of them: members do not wait for the disk.
        ann.until("message").await;
        server.signal(Signal::KILL);
        drop((server, streams));
        let server = launch.clone().start();
        let backend = Backend::with_key(&server, &key);
        let mut statuses = Vec::new();
        for n in 0..60 {
            let again = post_with(&backend, PUBLISH, &format!("{round}-{n}"), &body(n)).await;
            if again.status != 200 {
                again.assert_problem(504, "unknown-outcome");
                assert_eq!(again.header("idempotency-replayed"), Some("true"));
            }
            statuses.push(again.status);
        }
        let said = said(&server).await;
        for (n, status) in statuses.iter().enumerate() {
            let count = said.iter().filter(|content| **content == format!("{round} {n}")).count();
            assert!(
                count == 1 || count == 0 && *status == 504,
                "{n} was answered {status} and said {count} times"
            );
        }
        server.signal(Signal::KILL);
    }
}

async fn a_disk_that_fails_stops_no_request(launch: Launch) {
    let (server, backend) = with_backend(launch.clone()).await;
    assert_eq!(
        post_with(&backend, PUBLISH, "a", &json!({"room": "general", "content": "a"})).await.status,
        200
    );
    std::fs::remove_file(launch.data().join("state.db")).unwrap();
    for key in ["b", "c"] {
        let body = json!({"room": "general", "content": key});
        let first = post_with(&backend, PUBLISH, key, &body).await;
        assert_eq!((first.status, first.header("idempotency-replayed")), (200, None), "{first:?}");
        let again = post_with(&backend, PUBLISH, key, &body).await;
        assert_eq!((&again.body, again.header("idempotency-replayed")), (&first.body, Some("true")));
    }
    assert_eq!(said(&server).await, ["a", "b", "c"]);
    eventually("it is in the log", async || server.output().contains("so do idempotency keys")).await;
}

/// Goal: a caller that has an answer gets the same one after a restart, wherever the disk failed and came back meanwhile.
async fn what_was_answered_while_the_disk_failed_is_known_after_a_restart(launch: Launch) {
    let (server, backend) = with_backend(launch.clone()).await;
    let publish = async |backend: &Backend, key: &str| {
        post_with(backend, PUBLISH, key, &json!({"room": "general", "content": key})).await
    };
    let before = publish(&backend, "before").await;
    let mut ann = Chat::enter(&server).await;
    let (here, away) = (launch.data().join("state.db"), launch.data().join("away.db"));
    let history = HeldDisk::of(launch.data());
    let failing = async {
        // It has begun, which the file knows, and is answered while the file cannot be written.
        assert_eq!(ann.until("message").await["content"], "begun");
        std::fs::rename(&here, &away).unwrap();
        history.release();
    };
    let (begun, ()) = tokio::join!(publish(&backend, "begun"), failing);
    let during = publish(&backend, "during").await;
    eventually("it is in the log", async || server.output().contains("so do idempotency keys")).await;
    std::fs::rename(&away, &here).unwrap();
    let answers = [("before", before), ("begun", begun), ("during", during)];
    let count = |sql: &str| {
        let file = rusqlite::Connection::open(&here).unwrap();
        file.query_row(sql, [], |row| row.get::<_, usize>(0)).unwrap()
    };
    let answered = "SELECT count(*) FROM request WHERE status = 200";
    eventually("all are in the file", async || count(answered) == answers.len()).await;
    assert_eq!(count("SELECT count(*) FROM request"), answers.len());
    server.signal(Signal::KILL);
    drop(server);
    let (server, backend) = with_backend(launch).await;
    for (key, answer) in answers {
        let again = publish(&backend, key).await;
        assert_eq!((again.status, &again.body), (200, &answer.body), "{key}");
        assert_eq!((answer.status, again.header("idempotency-replayed")), (200, Some("true")));
    }
    assert_eq!(said(&server).await, ["before", "begun", "during"]);
}
