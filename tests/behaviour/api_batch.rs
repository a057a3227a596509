//! `POST /api/v1/batch`: many messages at once.

use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use crate::api_publish::with_backend;
use crate::harness::{Chat, Launch, Socket, on_one_and_four_shards_only};

on_one_and_four_shards_only! {
    items_go_to_rooms_and_topics_with_a_result_each,
    items_for_one_room_take_effect_in_order,
    a_malformed_batch_fails_whole,
    an_item_with_a_key_is_published_once,
}

const BATCH: &str = "/api/v1/batch";

async fn items_go_to_rooms_and_topics_with_a_result_each(launch: Launch) {
    let (server, backend) = with_backend(launch).await;
    let mut ann = Chat::enter(&server).await;
    let mut listeners = Socket::listeners(&server, "/broadcast/t", 2).await;
    let batch = json!({"items": [
        {"room": "general", "content": "one"},
        {"topic": "t", "text": "two"},
        {"room": "nowhere", "content": "three"},
        {"topic": "t", "base64": "/wA="},
    ]});
    let answer = backend.post(BATCH, &batch).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let results = answer.json();
    let statuses: Vec<_> =
        results["results"].as_array().unwrap().iter().map(|it| it["status"].clone()).collect();
    assert_eq!(statuses, [200, 200, 404, 200]);
    assert_eq!(results["results"][0]["message_id"], 1);
    assert_eq!(results["results"][1]["receivers"], 2);
    assert_eq!(ann.next().await["content"], "one");
    for listener in &mut listeners {
        assert_eq!(listener.next().await, Some(Message::text("two")));
        assert_eq!(listener.next().await, Some(Message::binary(vec![0xff, 0])));
    }
    assert_eq!(backend.post(BATCH, &json!({"items": []})).await.json(), json!({"results": []}));
}

async fn items_for_one_room_take_effect_in_order(launch: Launch) {
    let (server, backend) = with_backend(launch).await;
    let mut ann = Chat::enter(&server).await;
    let items: Vec<Value> = (0..1_000)
        .map(|number| {
            let room = if number % 2 == 0 { "general" } else { "gaming" };
            json!({"room": room, "content": number.to_string()})
        })
        .collect();
    let answer = backend.post(BATCH, &json!({ "items": items })).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let results = answer.json();
    let ids: Vec<_> =
        results["results"].as_array().unwrap().iter().map(|it| it["message_id"].clone()).collect();
    assert!(ids.iter().enumerate().all(|(place, id)| *id == place / 2 + 1), "{ids:?}");
    for number in (0..1_000).step_by(2) {
        assert_eq!(ann.next().await["content"], number.to_string());
    }
}

async fn a_malformed_batch_fails_whole(launch: Launch) {
    let (server, backend) = with_backend(launch).await;
    let mut ann = Chat::enter(&server).await;
    let refused = async |batch: Value, pointers: &[&str]| {
        let answer = backend.post(BATCH, &batch).await;
        answer.assert_problem(422, "invalid");
        let problem = answer.json();
        let errors = problem["errors"].as_array().unwrap();
        let named: Vec<_> = errors.iter().map(|error| error["pointer"].as_str().unwrap()).collect();
        assert_eq!(named, pointers);
    };
    let good = json!({"room": "general", "content": "unheard"});
    refused(json!({"items": [good, 7, {"room": "general"}]}), &["/items/1", "/items/2/content"]).await;
    refused(json!({"items": [good, {"topic": "t", "text": "a", "base64": "YQ=="}]}), &["/items/1/base64"])
        .await;
    refused(
        json!({"items": [good, {"rooms": ["general"], "content": "a"}]}),
        &["/items/1/room", "/items/1/rooms"],
    )
    .await;
    refused(json!({"items": vec![good.clone(); 1_001]}), &["/items"]).await;
    refused(json!({"item": [good]}), &["/items", "/item"]).await;
    let long = json!({"items": [{"room": "general", "content": "x".repeat(16 << 20)}]});
    backend.post(BATCH, &long).await.assert_problem(413, "too-large");
    backend.post(BATCH, &json!({"items": [{"room": "general", "content": "heard"}]})).await;
    assert_eq!(ann.next().await["content"], "heard");
}

async fn an_item_with_a_key_is_published_once(launch: Launch) {
    let (server, backend) = with_backend(launch).await;
    let mut ann = Chat::enter(&server).await;
    let item =
        |key: &str, content: &str| json!({"room": "general", "content": content, "idempotency_key": key});
    let batch = json!({"items": [item("a", "once"), item("b", "twice")]});
    let first = backend.post(BATCH, &batch).await.json();
    let again =
        json!({"items": [item("a", "once"), item("b", "other"), item("c", "last"), item("c", "last")]});
    let second = backend.post(BATCH, &again).await.json();
    let results = second["results"].as_array().unwrap();
    assert_eq!(results[0]["message_id"], first["results"][0]["message_id"]);
    assert_eq!(results[0]["replayed"], true);
    let statuses: Vec<_> = results.iter().map(|it| it["status"].clone()).collect();
    // The last one came while the one before it was under way.
    assert_eq!(statuses, [200, 422, 200, 409]);
    for content in ["once", "twice", "last"] {
        assert_eq!(ann.next().await["content"], content);
    }
    ann.say(json!({"type": "get_stats"})).await;
    assert_eq!(ann.next().await["type"], "stats", "nothing else was published");
}
