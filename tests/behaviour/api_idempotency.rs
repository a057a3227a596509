//! `Idempotency-Key`: a request that is repeated is answered as the first time, and does nothing.

use serde_json::json;

use crate::api_publish::with_backend;
use crate::harness::{ApiKeys, Backend, Chat, Launch, on_one_and_four_shards_only};

on_one_and_four_shards_only! {
    a_repeated_request_is_answered_as_the_first_time,
    a_key_with_another_content_is_refused,
    a_key_is_of_one_api_key_alone,
    a_refused_request_is_answered_the_same_again,
    invalid_keys_are_refused,
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
