//! What the API tells in figures: how long fan-outs take in each room, how busy the shards are, and what it counts of itself.

use serde_json::{Value, json};

use crate::harness::{ApiKeys, Backend, Chat, Launch, Server, eventually, on_one_and_four_shards_only};

on_one_and_four_shards_only! {
    a_room_tells_how_long_its_fan_outs_took,
    the_slowest_rooms_are_listed_first,
    a_closed_room_is_not_among_the_slowest,
    stats_tell_of_each_shard,
    requests_are_counted_by_the_pattern_of_their_path,
}

async fn with_api(launch: Launch) -> (Server, Backend) {
    let keys = ApiKeys::new();
    let key = keys.add("backend", &[]).await;
    let server = launch.with_api(&keys).start();
    let backend = Backend::with_key(&server, &key);
    (server, backend)
}

async fn publish(backend: &Backend, room: &str) {
    let answer = backend.post("/api/v1/publish", &json!({"room": room, "content": "hello"})).await;
    assert_eq!(answer.status, 200, "{answer:?}");
}

async fn fan_out(backend: &Backend, room: &str) -> Value {
    backend.get(&format!("/api/v1/rooms/{room}")).await.json()["fan_out"].take()
}

async fn slowest(backend: &Backend, query: &str) -> Vec<Value> {
    let list = backend.get(&format!("/api/v1/rooms?order=fan_out{query}")).await.json();
    assert_eq!(list["next"], Value::Null);
    list["rooms"].as_array().unwrap().clone()
}

fn names(rooms: &[Value]) -> Vec<&str> {
    rooms.iter().map(|room| room["room"].as_str().unwrap()).collect()
}

async fn a_room_tells_how_long_its_fan_outs_took(launch: Launch) {
    let (server, backend) = with_api(launch).await;
    assert_eq!(fan_out(&backend, "general").await, Value::Null);
    let _members = Chat::crowd(&server, 3).await;
    for _ in 0..5 {
        publish(&backend, "general").await;
    }
    // One to nobody is not timed.
    publish(&backend, "random").await;
    let mut told = Value::Null;
    eventually("all five are told", async || {
        told = fan_out(&backend, "general").await;
        told["messages"] == 5
    })
    .await;
    let (p50, p99) = (told["p50_ms"].as_f64().unwrap(), told["p99_ms"].as_f64().unwrap());
    assert!(0.0 < p50 && p50 <= p99 && p99 < 60_000.0, "{told}");
    assert_eq!(fan_out(&backend, "random").await, Value::Null);
    let listed = backend.get("/api/v1/rooms?prefix=general").await.json();
    assert_eq!(listed["rooms"][0]["fan_out"]["messages"], 5);
}

async fn the_slowest_rooms_are_listed_first(launch: Launch) {
    let (server, backend) = with_api(launch).await;
    assert_eq!(slowest(&backend, "").await, [Value::Null; 0]);
    let mut members = Chat::crowd(&server, 6).await;
    members[0].move_to("gaming").await;
    for _ in 0..3 {
        publish(&backend, "general").await;
        publish(&backend, "gaming").await;
    }
    let mut rooms = Vec::new();
    eventually("both are listed", async || {
        rooms = slowest(&backend, "").await;
        rooms.len() == 2 && rooms.iter().all(|room| room["fan_out"]["messages"] == 3)
    })
    .await;
    let p99 = |room: &Value| room["fan_out"]["p99_ms"].as_f64().unwrap();
    assert!(p99(&rooms[0]) >= p99(&rooms[1]), "{rooms:?}");
    assert_eq!(names(&slowest(&backend, "&limit=1").await), [rooms[0]["room"].as_str().unwrap()]);
    assert_eq!(names(&slowest(&backend, "&prefix=gam").await), ["gaming"]);
    for (query, parameter) in [("order=speed", "order"), ("order=fan_out&after=a", "after")] {
        let refused = backend.get(&format!("/api/v1/rooms?{query}")).await;
        refused.assert_problem(422, "invalid");
        assert_eq!(refused.json()["errors"][0]["parameter"], parameter);
    }
    assert_eq!(backend.get("/api/v1/rooms?order=name").await.json()["rooms"].as_array().unwrap().len(), 3);
}

async fn a_closed_room_is_not_among_the_slowest(launch: Launch) {
    let (server, backend) = with_api(launch.flag("--room-pattern", "team-*").flag("--rooms-max", 1)).await;
    let mut ann = Chat::enter(&server).await;
    ann.move_to("team-a").await;
    publish(&backend, "team-a").await;
    eventually("it is listed", async || names(&slowest(&backend, "").await) == ["team-a"]).await;
    assert_eq!(ann.next().await["type"], "message");
    ann.move_to("general").await;
    // It makes place for this one.
    publish(&backend, "team-b").await;
    assert_eq!(names(&slowest(&backend, "").await), [""; 0]);
}

async fn stats_tell_of_each_shard(launch: Launch) {
    let (server, backend) = with_api(launch).await;
    let _members = Chat::crowd(&server, 8).await;
    let mut stats = Value::Null;
    eventually("busy shares are told", async || {
        stats = backend.get("/api/v1/stats").await.json();
        stats["shard_loads"].as_array().unwrap().iter().all(|load| load["busy_share"].is_f64())
    })
    .await;
    let loads = stats["shard_loads"].as_array().unwrap();
    assert_eq!(stats["shards"], loads.len());
    for (index, load) in loads.iter().enumerate() {
        assert_eq!(load["shard"], index);
        assert!((0.0..=1.0).contains(&load["busy_share"].as_f64().unwrap()), "{load}");
    }
    assert_eq!(loads.iter().map(|load| load["connections"].as_u64().unwrap()).sum::<u64>(), 8);
}

async fn requests_are_counted_by_the_pattern_of_their_path(launch: Launch) {
    let (_server, backend) = with_api(launch).await;
    for room in ["general", "random", "nowhere"] {
        backend.get(&format!("/api/v1/rooms/{room}")).await;
    }
    backend.get("/api/v1/nowhere").await;
    let metrics = backend.get("/metrics").await.body;
    let has = |line: &str| assert!(metrics.lines().any(|own| own == line), "no {line} in {metrics}");
    has("uproar_api_request_seconds_count{path=\"/api/v1/rooms/{room}\"} 3");
    has("uproar_api_requests_under_way 1");
    has("uproar_api_connections 1");
    has("uproar_api_requests_total{class=\"4xx\"} 2");
    assert!(!metrics.contains("nowhere") && !metrics.contains("general"), "{metrics}");
}
