//! A disk that does not answer at all: callers of the HTTP API are told so after 10 s, and what becomes of a request with an
//! idempotency key once the disk answers again.

use std::pin::pin;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::json;
use tokio::io::AsyncWriteExt as _;
use tokio::time::timeout;

use crate::api_publish::with_backend;
use crate::api_rooms::with_api;
use crate::harness::{
    Answer, Backend, Chat, HungThread, Launch, eventually, on_one_and_four_shards_with_data, within,
};

on_one_and_four_shards_with_data! {
    a_message_that_the_disk_keeps_waiting_is_unknown_and_then_as_it_has_become,
    a_deletion_that_the_disk_keeps_waiting_is_unknown_and_then_as_it_has_become,
    a_request_that_cannot_be_noted_does_nothing,
    a_request_whose_key_finds_no_room_in_the_queue_does_nothing,
    a_request_that_waits_for_both_files_is_answered_in_time,
    an_answer_that_cannot_be_noted_is_unknown_and_then_as_it_was,
    requests_of_callers_that_give_up_are_bounded,
}

/// How long a request may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// Publishes it, with itself as the key.
async fn publish(backend: &Backend, content: &str) -> Answer {
    let headers = [("Content-Type", "application/json"), ("Idempotency-Key", content)];
    let body = json!({"room": "general", "content": content}).to_string();
    within("answer", backend.request("POST", "/api/v1/publish", &headers, body.as_bytes())).await
}

/// Repeats a request until its first one is no longer under way.
async fn outcome_of(mut repeat: impl AsyncFnMut() -> Answer) -> Answer {
    let mut outcome = None;
    eventually("the first request has ended", async || {
        let answer = repeat().await;
        let is_under_way = answer.status == 409;
        if is_under_way {
            answer.assert_problem(409, "under-way");
        }
        outcome = (!is_under_way).then_some(answer);
        outcome.is_some()
    })
    .await;
    outcome.unwrap()
}

async fn a_message_that_the_disk_keeps_waiting_is_unknown_and_then_as_it_has_become(launch: Launch) {
    let (server, backend) = with_backend(launch).await;
    assert_eq!(publish(&backend, "kept").await.json()["message_id"], 1);
    let disk = HungThread::of(&server, "storage");
    let began = Instant::now();
    publish(&backend, "late").await.assert_problem(504, "unknown-outcome");
    assert!(began.elapsed() >= REQUEST_TIMEOUT);
    publish(&backend, "late").await.assert_problem(409, "under-way");
    drop(disk);
    let late = outcome_of(async || publish(&backend, "late").await).await;
    assert_eq!((late.status, late.header("idempotency-replayed")), (200, Some("true")), "{late:?}");
    assert_eq!(late.json()["message_id"], 2);
    assert_eq!(publish(&backend, "next").await.json()["message_id"], 3, "it was said once");
}

async fn a_deletion_that_the_disk_keeps_waiting_is_unknown_and_then_as_it_has_become(launch: Launch) {
    let (server, backend) = with_api(launch).await;
    assert_eq!(publish(&backend, "wrong").await.json()["message_id"], 1);
    let delete = async || {
        let path = "/api/v1/rooms/general/messages/1";
        within("answer", backend.request("DELETE", path, &[("Idempotency-Key", "delete")], b"")).await
    };
    let disk = HungThread::of(&server, "storage");
    delete().await.assert_problem(504, "unknown-outcome");
    delete().await.assert_problem(409, "under-way");
    drop(disk);
    let deleted = outcome_of(delete).await;
    assert_eq!((deleted.status, deleted.header("idempotency-replayed")), (200, Some("true")), "{deleted:?}");
    assert_eq!(deleted.json()["message_id"], 1);
}

async fn a_request_that_cannot_be_noted_does_nothing(launch: Launch) {
    let (server, backend) = with_backend(launch).await;
    let disk = HungThread::of(&server, "state");
    let began = Instant::now();
    // Which of the two comes first is not known.
    let (one, other) = tokio::join!(publish(&backend, "late"), publish(&backend, "late"));
    let (refused, under_way) = if one.status == 503 { (one, other) } else { (other, one) };
    refused.assert_problem(503, "unavailable");
    assert_eq!(refused.header("retry-after"), Some("1"));
    under_way.assert_problem(409, "under-way");
    assert!(began.elapsed() >= REQUEST_TIMEOUT);
    drop(disk);
    let first = publish(&backend, "late").await;
    assert_eq!((first.status, first.header("idempotency-replayed")), (200, None), "{first:?}");
    assert_eq!(first.json()["message_id"], 1, "nothing was said before");
    let again = publish(&backend, "late").await;
    assert_eq!((&again.body, again.header("idempotency-replayed")), (&first.body, Some("true")));
}

/// Goal: no request with a key is carried out that a restart would not know.
async fn a_request_whose_key_finds_no_room_in_the_queue_does_nothing(launch: Launch) {
    const CHANGES_WAITING_MAX: usize = 1 << 16;
    const ITEMS: usize = 1_000;
    const MORE: usize = 3;
    let (server, backend) = with_backend(launch).await;
    let disk = HungThread::of(&server, "state");
    let batches = join_all((0..CHANGES_WAITING_MAX.div_ceil(ITEMS) + MORE).map(async |batch| {
        let item = |item| json!({"topic": "news", "text": "x", "idempotency_key": format!("{batch}-{item}")});
        let items: Vec<_> = (0..ITEMS).map(item).collect();
        backend.post("/api/v1/batch", &json!({ "items": items })).await
    }))
    .await;
    // Batches whose keys wait for the disk are answered late; those whose keys found no room, at once.
    let refused: Vec<_> = batches.iter().filter(|answer| answer.status == 200).collect();
    assert_eq!(refused.len(), MORE);
    for answer in refused {
        let results = answer.json();
        assert!(results["results"].as_array().unwrap().iter().all(|result| result["status"] == 503));
    }
    let refused = publish(&backend, "late").await;
    refused.assert_problem(503, "unavailable");
    assert_eq!(refused.json()["detail"], "too many idempotency keys wait for the disk");
    assert_eq!(refused.header("retry-after"), Some("1"));
    drop(disk);
    let mut first = None;
    eventually("keys are noted again", async || {
        let answer = publish(&backend, "late").await;
        let is_taken = answer.status == 200;
        first = is_taken.then_some(answer);
        is_taken
    })
    .await;
    assert_eq!(first.unwrap().json()["message_id"], 1, "nothing was said before");
}

/// Goal: the time of a request is counted once, from its beginning.
async fn a_request_that_waits_for_both_files_is_answered_in_time(launch: Launch) {
    let (server, backend) = with_backend(launch).await;
    let (state, _storage) = (HungThread::of(&server, "state"), HungThread::of(&server, "storage"));
    let began = Instant::now();
    let mut publishing = pin!(publish(&backend, "late"));
    let noting = timeout(REQUEST_TIMEOUT * 7 / 10, publishing.as_mut()).await;
    assert!(noting.is_err(), "its key is not noted yet");
    drop(state);
    publishing.await.assert_problem(504, "unknown-outcome");
    assert!(began.elapsed() < REQUEST_TIMEOUT * 3 / 2, "{:?}", began.elapsed());
}

async fn an_answer_that_cannot_be_noted_is_unknown_and_then_as_it_was(launch: Launch) {
    let (server, backend) = with_backend(launch).await;
    let mut ann = Chat::enter(&server).await;
    let storage = HungThread::of(&server, "storage");
    let hanging = async {
        // Its key is noted, and it waits for the disk. Members do not.
        assert_eq!(ann.until("message").await["content"], "late");
        let state = HungThread::of(&server, "state");
        drop(storage);
        state
    };
    let (unknown, state) = tokio::join!(publish(&backend, "late"), hanging);
    unknown.assert_problem(504, "unknown-outcome");
    drop(state);
    let late = outcome_of(async || publish(&backend, "late").await).await;
    assert_eq!((late.status, late.header("idempotency-replayed")), (200, Some("true")), "{late:?}");
    assert_eq!(publish(&backend, "next").await.json()["message_id"], 2, "it was said once");
}

/// Goal: who posts and hangs up while the disk hangs piles up no more requests than allowed.
async fn requests_of_callers_that_give_up_are_bounded(launch: Launch) {
    const WORKS_MAX: usize = 1_024;
    const CALLERS: usize = 128;
    let (server, backend) = with_api(launch).await;
    let mut ann = Chat::enter(&server).await;
    let disk = HungThread::of(&server, "storage");
    let body = json!({"room": "general", "content": "given up"}).to_string();
    let fields = format!("Content-Type: application/json\r\nContent-Length: {}\r\n\r\n", body.len());
    let request = backend.head("POST", "/api/v1/publish") + &fields + &body;
    for _ in 0..WORKS_MAX / CALLERS {
        let callers = join_all((0..CALLERS).map(async |_| {
            let mut caller = backend.connect().await;
            caller.write_all(request.as_bytes()).await.unwrap();
            caller
        }))
        .await;
        // Members do not wait for the disk, so each of them is being carried out then.
        for _ in 0..CALLERS {
            assert_eq!(ann.until("message").await["content"], "given up");
        }
        drop(callers);
    }
    for key in ["one", "one", "other"] {
        let refused = publish(&backend, key).await;
        refused.assert_problem(429, "busy");
        assert_eq!(refused.header("retry-after"), Some("1"));
    }
    let metrics = backend.get("/metrics").await.body;
    assert!(metrics.lines().any(|line| line == "uproar_api_requests_refused_total 3"), "{metrics}");
    drop(disk);
    eventually("requests are carried out again", async || publish(&backend, "one").await.status == 200).await;
}
