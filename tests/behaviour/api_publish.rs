//! `POST /api/v1/publish`: messages of a backend to rooms.

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::harness::{
    ApiKeys, Backend, Chat, Launch, Server, hub_beside, on_one_and_four_shards_only,
    on_one_and_four_shards_with_data,
};

on_one_and_four_shards_only! {
    all_members_of_a_room_get_a_message_of_the_system,
    a_message_may_have_a_name_and_an_account,
    an_image_is_sent_like_a_message,
    hub_members_get_it_as_a_line,
    several_rooms_get_it_with_a_result_each,
    messages_of_backends_and_members_share_one_order,
    wrong_fields_are_named_all_at_once,
    bodies_have_a_type_and_a_length,
    nothing_is_published_while_the_server_shuts_down,
}

mod with_data {
    super::on_one_and_four_shards_with_data! {
        a_message_that_was_answered_is_kept_over_a_kill,
        a_disk_that_fails_is_told,
    }
    use super::{a_disk_that_fails_is_told, a_message_that_was_answered_is_kept_over_a_kill};
}

const PUBLISH: &str = "/api/v1/publish";

/// A server with the API, and a backend that may publish.
pub(crate) async fn with_backend(launch: Launch) -> (Server, Backend) {
    let keys = ApiKeys::new();
    let key = keys.add("backend", &["publish"]).await;
    let server = launch.with_api(&keys).start();
    let backend = Backend::with_key(&server, &key);
    (server, backend)
}

fn message(from_name: &str, id: u64, content: &str) -> Value {
    json!({"type": "message", "from_id": 0, "from_name": from_name, "content": content, "message_id": id})
}

async fn all_members_of_a_room_get_a_message_of_the_system(launch: Launch) {
    let (server, backend) = with_backend(launch).await;
    let [mut ann, mut bob] = Chat::members(&server).await;
    let mut elsewhere = Chat::enter(&server).await;
    for member in [&mut ann, &mut bob] {
        assert_eq!(member.next().await["type"], "join");
    }
    elsewhere.move_to("gaming").await;
    for member in [&mut ann, &mut bob] {
        assert_eq!(member.next().await["type"], "leave");
    }
    let answer = backend.post(PUBLISH, &json!({"room": "general", "content": "at noon"})).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let published = answer.json();
    assert_eq!(published["message_id"], 1);
    for member in [&mut ann, &mut bob] {
        assert_eq!(member.next().await, message("System", 1, "at noon"));
    }
    // It is part of the history, in the epoch that was answered.
    let mut newcomer = Chat::connect(&server).await;
    let history = newcomer.until("history").await;
    assert_eq!(history["epoch"], published["epoch"]);
    let row = &history["content"][0];
    assert_eq!(
        (&row["from_id"], &row["sender"], &row["content"]),
        (&json!(0), &json!("System"), &json!("at noon"))
    );
    // Nobody elsewhere has heard it.
    elsewhere.say(json!({"type": "get_stats"})).await;
    assert_eq!(elsewhere.next().await["type"], "stats");
}

async fn a_message_may_have_a_name_and_an_account(launch: Launch) {
    let (server, backend) = with_backend(launch).await;
    let mut ann = Chat::enter(&server).await;
    let post =
        json!({"room": "general", "content": "shipped", "from_name": " Shop ", "from_account": "shop-7"});
    assert_eq!(backend.post(PUBLISH, &post).await.status, 200);
    let mut wanted = message("Shop", 1, "shipped");
    wanted["from_account"] = json!("shop-7");
    assert_eq!(ann.next().await, wanted);
}

async fn an_image_is_sent_like_a_message(launch: Launch) {
    let (server, backend) = with_backend(launch).await;
    let mut ann = Chat::enter(&server).await;
    let post = json!({"room": "general", "image": "https://example.org/cat.png"});
    assert_eq!(backend.post(PUBLISH, &post).await.status, 200);
    let image = ann.next().await;
    assert_eq!(
        (&image["type"], &image["content"]["url"]),
        (&json!("image"), &json!("https://example.org/cat.png"))
    );
}

async fn hub_members_get_it_as_a_line(launch: Launch) {
    let (server, backend) = with_backend(launch).await;
    let mut ann = Chat::enter(&server).await;
    let (mut hub, _) = hub_beside(&server, "Hub", &mut ann).await;
    assert_eq!(backend.post(PUBLISH, &json!({"room": "general", "content": "hello"})).await.status, 200);
    let said = hub.next().await;
    assert_eq!(
        (&said["type"], &said["from"], &said["content"]),
        (&json!("user"), &json!("System"), &json!("hello"))
    );
}

async fn several_rooms_get_it_with_a_result_each(launch: Launch) {
    let (server, backend) = with_backend(launch).await;
    let mut ann = Chat::enter(&server).await;
    let mut bob = Chat::enter(&server).await;
    assert_eq!(ann.next().await["type"], "join");
    bob.move_to("gaming").await;
    assert_eq!(ann.next().await["type"], "leave");
    let post = json!({"rooms": ["gaming", "nowhere", "general"], "content": "all"});
    let answer = backend.post(PUBLISH, &post).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let results = answer.json();
    let results = results["results"].as_array().unwrap();
    let told: Vec<_> = results.iter().map(|it| (it["room"].clone(), it["status"].clone())).collect();
    assert_eq!(
        told,
        [("gaming", 200), ("nowhere", 404), ("general", 200)]
            .map(|(room, status)| (json!(room), json!(status)))
    );
    assert_eq!(results[0]["message_id"], 1);
    assert_eq!(results[1]["type"], "urn:uproar:problem:not-found");
    assert_eq!(ann.next().await, message("System", 1, "all"));
    assert_eq!(bob.next().await, message("System", 1, "all"));
}

async fn messages_of_backends_and_members_share_one_order(launch: Launch) {
    let (server, backend) = with_backend(launch.without_rate_limit()).await;
    let [mut ann, mut bob] = Chat::members(&server).await;
    let (said, posted) = tokio::join!(
        async {
            for number in 0..50 {
                ann.say(json!({"type": "message", "content": format!("ann {number}")})).await;
            }
        },
        async {
            let mut ids = Vec::new();
            for number in 0..50 {
                let post = json!({"room": "general", "content": format!("backend {number}")});
                ids.push(backend.post(PUBLISH, &post).await.json()["message_id"].as_u64().unwrap());
            }
            ids
        }
    );
    let () = said;
    let mut seen = Vec::new();
    for id in 1..=100 {
        let message = bob.next().await;
        assert_eq!(message["message_id"], id);
        if message["from_id"] == 0 {
            seen.push(id);
        }
    }
    assert_eq!(seen, posted);
}

async fn wrong_fields_are_named_all_at_once(launch: Launch) {
    let (_server, backend) = with_backend(launch).await;
    let refused = async |post: Value, pointers: &[&str]| {
        let answer = backend.post(PUBLISH, &post).await;
        answer.assert_problem(422, "invalid");
        let problem = answer.json();
        let errors = problem["errors"].as_array().unwrap();
        let named: Vec<_> = errors.iter().map(|error| error["pointer"].as_str().unwrap()).collect();
        assert_eq!(named, pointers, "{post}");
    };
    refused(json!({}), &["/room", "/content"]).await;
    refused(json!({"room": 1, "content": ["a"], "ttl": 9}), &["/room", "/content", "/ttl"]).await;
    refused(json!({"room": "general", "content": "x".repeat(10 * 1024 + 1)}), &["/content"]).await;
    refused(json!({"room": "general", "content": "a", "idempotency-key": "k"}), &["/idempotency-key"]).await;
    refused(json!({"room": "general", "content": "a", "from_name": "\u{202e}"}), &["/from_name"]).await;
    refused(json!({"rooms": vec!["a"; 1_001], "content": "a"}), &["/rooms"]).await;
    let absent = backend.post(PUBLISH, &json!({"room": "nowhere", "content": "a"})).await;
    absent.assert_problem(404, "not-found");
}

async fn bodies_have_a_type_and_a_length(launch: Launch) {
    let (_server, backend) = with_backend(launch).await;
    let post = br#"{"room": "general", "content": "a"}"#;
    for kind in ["text/plain", "application/x-www-form-urlencoded", ""] {
        let answer = backend.request("POST", PUBLISH, &[("Content-Type", kind)], post).await;
        answer.assert_problem(415, "unsupported-type");
    }
    backend.request("POST", PUBLISH, &[], post).await.assert_problem(415, "unsupported-type");
    let json = [("Content-Type", "application/json; charset=utf-8")];
    assert_eq!(backend.request("POST", PUBLISH, &json, post).await.status, 200);
    for body in [&b""[..], b"[]", b"{", b"null", b"\xff", b"{\"room\": \"general\", \"content\": \"\xff\"}"] {
        backend.request("POST", PUBLISH, &json, body).await.assert_problem(400, "malformed");
    }
    let long = format!("{{\"room\": \"general\", \"content\": \"{}\"}}", "x".repeat(1 << 20));
    backend.request("POST", PUBLISH, &json, long.as_bytes()).await.assert_problem(413, "too-large");
}

async fn nothing_is_published_while_the_server_shuts_down(launch: Launch) {
    let (mut server, backend) = with_backend(launch).await;
    // A member that does not answer the close keeps the server for a while.
    let mut ann = Chat::enter(&server).await;
    server.signal(Signal::TERM);
    let mut refused = None;
    while refused.is_none() {
        let answer = backend.post(PUBLISH, &json!({"room": "general", "content": "late"})).await;
        match answer.status {
            200 => {}
            _ => refused = Some(answer),
        }
    }
    let refused = refused.unwrap();
    refused.assert_problem(503, "unavailable");
    assert!(refused.header("retry-after").is_some());
    assert_eq!(backend.get("/readyz").await.body, "draining");
    assert_eq!(ann.closed_in_the_end().await.0, 1001);
    drop(ann);
    assert!(server.exit().await.success());
}

async fn a_message_that_was_answered_is_kept_over_a_kill(launch: Launch) {
    let (server, backend) = with_backend(launch.clone()).await;
    let published = backend.post(PUBLISH, &json!({"room": "general", "content": "kept"})).await.json();
    server.signal(Signal::KILL);
    drop(server);
    let server = launch.start();
    let mut ann = Chat::connect(&server).await;
    let history = ann.until("history").await;
    assert_eq!(history["epoch"], published["epoch"]);
    let row = &history["content"][0];
    assert_eq!((&row["content"], &row["from_id"]), (&json!("kept"), &json!(0)));
}

async fn a_disk_that_fails_is_told(launch: Launch) {
    let (server, backend) = with_backend(launch.with_small_files()).await;
    let mut ann = Chat::enter(&server).await;
    let post = json!({"room": "general", "content": "a"});
    assert_eq!(backend.post(PUBLISH, &post).await.status, 200);
    server.refuse_writes();
    // The first one was on its way when the disk failed.
    backend.post(PUBLISH, &post).await.assert_problem(503, "not-stored");
    for content in [1, 2] {
        assert_eq!(ann.next().await["message_id"], content);
    }
    let refused = backend.post(PUBLISH, &post).await;
    refused.assert_problem(503, "unavailable");
    assert_eq!(refused.header("retry-after"), Some("1"));
}
