//! `/api/v1/rooms` and below: rooms, their members, what was said in them, and the removal of a message.

use serde_json::{Value, json};

use crate::api_publish::with_backend;
use crate::harness::{
    ApiKeys, Backend, Chat, Launch, Server, on_one_and_four_shards_only, on_one_and_four_shards_with_data,
};

on_one_and_four_shards_only! {
    rooms_are_listed_by_name_in_pages,
    a_room_is_shown_with_its_figures,
    members_are_listed_by_id_in_pages,
    history_is_read_backwards_and_forwards,
    a_message_is_removed_and_members_are_told,
    wrong_parameters_are_named,
    a_message_opens_a_room_of_a_pattern,
    where_no_room_can_be_opened_nothing_happens,
}

mod with_data {
    super::on_one_and_four_shards_with_data! {
        a_removed_message_stays_removed,
        a_room_that_a_backend_opened_comes_back,
    }
    use super::{a_removed_message_stays_removed, a_room_that_a_backend_opened_comes_back};
}

/// A server with the API, and a backend that may do everything.
pub(crate) async fn with_api(launch: Launch) -> (Server, Backend) {
    let keys = ApiKeys::new();
    let key = keys.add("backend", &[]).await;
    let server = launch.with_api(&keys).start();
    let backend = Backend::with_key(&server, &key);
    (server, backend)
}

async fn publish(backend: &Backend, room: &str, content: &str) -> Value {
    let answer = backend.post("/api/v1/publish", &json!({"room": room, "content": content})).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()
}

fn names(list: &Value) -> Vec<&str> {
    list["rooms"].as_array().unwrap().iter().map(|room| room["room"].as_str().unwrap()).collect()
}

async fn rooms_are_listed_by_name_in_pages(launch: Launch) {
    let (_server, backend) = with_api(launch.flag("--room-pattern", "team-*")).await;
    for room in ["team-b", "team-a", "team-c"] {
        publish(&backend, room, "open").await;
    }
    let all = backend.get("/api/v1/rooms").await.json();
    assert_eq!(names(&all), ["gaming", "general", "random", "team-a", "team-b", "team-c"]);
    assert_eq!(all["next"], Value::Null);
    let mut seen = Vec::new();
    let mut path = "/api/v1/rooms?limit=2".to_owned();
    for _ in 0..3 {
        let page = backend.get(&path).await.json();
        assert_eq!(page["rooms"].as_array().unwrap().len(), 2);
        seen.extend(names(&page).iter().map(ToString::to_string));
        path = format!("/api/v1/rooms?limit=2&after={}", page["next"].as_str().unwrap_or_default());
    }
    assert_eq!(seen, names(&all));
    let teams = backend.get("/api/v1/rooms?prefix=team-&after=team-a").await.json();
    assert_eq!(names(&teams), ["team-b", "team-c"]);
    assert_eq!(names(&backend.get("/api/v1/rooms?prefix=x").await.json()), [""; 0]);
}

async fn a_room_is_shown_with_its_figures(launch: Launch) {
    let (server, backend) = with_api(launch).await;
    let _members = Chat::crowd(&server, 2).await;
    let published = publish(&backend, "general", "hello").await;
    let mut room = backend.get("/api/v1/rooms/general").await.json();
    // The subject of `api_figures`.
    room.as_object_mut().unwrap().remove("fan_out").expect("it is always there");
    let wanted = json!({
        "room": "general", "users_online": 2, "last_message_id": 1, "epoch": published["epoch"],
    });
    assert_eq!(room, wanted);
    for path in ["/api/v1/rooms/nowhere", "/api/v1/rooms/nowhere/members", "/api/v1/rooms/nowhere/history"] {
        backend.get(path).await.assert_problem(404, "not-found");
    }
    backend.get("/api/v1/rooms/%FF").await.assert_problem(400, "malformed");
}

async fn members_are_listed_by_id_in_pages(launch: Launch) {
    let (server, backend) = with_api(launch).await;
    let members = Chat::crowd(&server, 5).await;
    let mut seen = Vec::new();
    let mut path = "/api/v1/rooms/general/members?limit=2".to_owned();
    for count in [2, 2, 1] {
        let page = backend.get(&path).await.json();
        let rows = page["members"].as_array().unwrap();
        assert_eq!((rows.len(), &page["total"]), (count, &json!(5)));
        seen.extend(
            rows.iter().map(|row| (row["id"].as_u64().unwrap(), row["name"].as_str().unwrap().to_owned())),
        );
        path = format!(
            "/api/v1/rooms/general/members?limit=2&after={}",
            page["next"].as_str().unwrap_or_default()
        );
    }
    let wanted: Vec<_> = members.iter().map(|member| (member.id, member.name.clone())).collect();
    assert_eq!(seen, wanted);
}

async fn history_is_read_backwards_and_forwards(launch: Launch) {
    let (_server, backend) = with_api(launch).await;
    let mut epoch = Value::Null;
    for number in 1..=5 {
        epoch = publish(&backend, "general", &number.to_string()).await["epoch"].clone();
    }
    let read = async |query: &str| {
        let page = backend.get(&format!("/api/v1/rooms/general/history?{query}")).await.json();
        assert_eq!(page["epoch"], epoch);
        let messages = page["messages"].as_array().unwrap();
        let ids: Vec<_> = messages.iter().map(|row| row["message_id"].as_u64().unwrap()).collect();
        (ids, page["next"].clone())
    };
    assert_eq!(read("").await, (vec![1, 2, 3, 4, 5], Value::Null));
    assert_eq!(read("limit=2").await, (vec![4, 5], json!("4")));
    assert_eq!(read("limit=2&before=4").await, (vec![2, 3], json!("2")));
    assert_eq!(read("limit=2&before=2").await, (vec![1], Value::Null));
    assert_eq!(read("limit=2&after=0").await, (vec![1, 2], json!("2")));
    assert_eq!(read("limit=3&after=2").await, (vec![3, 4, 5], Value::Null));
    assert_eq!(read("after=9007199254740991").await, (vec![], Value::Null));
    assert_eq!(read("before=0").await, (vec![], Value::Null));
    let page = backend.get("/api/v1/rooms/general/history?limit=1").await.json();
    let row = &page["messages"][0];
    assert!(row["timestamp"].is_u64());
    assert_eq!(
        (&row["type"], &row["sender"], &row["from_id"], &row["content"]),
        (&json!("message"), &json!("System"), &json!(0), &json!("5"))
    );
}

async fn a_message_is_removed_and_members_are_told(launch: Launch) {
    let (server, backend) = with_api(launch).await;
    let mut ann = Chat::enter(&server).await;
    let id = ann.message("rude").await;
    let removed = backend.request("DELETE", &format!("/api/v1/rooms/general/messages/{id}"), &[], b"").await;
    assert_eq!((removed.status, removed.json()["message_id"].as_u64()), (200, Some(id)), "{removed:?}");
    let told = ann.next().await;
    assert_eq!(told["type"], "message_deleted");
    assert_eq!(told["content"], json!({"message_id": id, "deleted_by": 0}));
    let history = backend.get("/api/v1/rooms/general/history").await.json();
    assert_eq!(history["messages"], json!([]));
    for path in [format!("/api/v1/rooms/general/messages/{id}"), "/api/v1/rooms/nowhere/messages/1".into()] {
        backend.request("DELETE", &path, &[], b"").await.assert_problem(404, "not-found");
    }
    for id in ["x", "-1", "1.5", "99999999999999999999"] {
        let path = format!("/api/v1/rooms/general/messages/{id}");
        backend.request("DELETE", &path, &[], b"").await.assert_problem(400, "malformed");
    }
    let (_other, speaker) = with_backend(Launch::with_shards(1)).await;
    let refused = speaker.request("DELETE", "/api/v1/rooms/general/messages/1", &[], b"").await;
    refused.assert_problem(403, "insufficient-scope");
}

async fn wrong_parameters_are_named(launch: Launch) {
    let (_server, backend) = with_api(launch).await;
    for (path, parameters) in [
        ("/api/v1/rooms?limit=0", &["limit"][..]),
        ("/api/v1/rooms?limit=1001&page=2", &["limit", "page"]),
        ("/api/v1/rooms?limit=1&limit=2", &["limit"]),
        ("/api/v1/rooms/general/members?after=x", &["after"]),
        ("/api/v1/rooms/general/history?before=1&after=1", &["before"]),
        ("/api/v1/rooms/general/history?limit=-1", &["limit"]),
    ] {
        let refused = backend.get(path).await;
        refused.assert_problem(422, "invalid");
        let problem = refused.json();
        let errors = problem["errors"].as_array().unwrap();
        let named: Vec<_> = errors.iter().map(|error| error["parameter"].as_str().unwrap()).collect();
        assert_eq!(named, parameters, "{path}");
    }
}

async fn a_message_opens_a_room_of_a_pattern(launch: Launch) {
    let (server, backend) = with_api(launch.flag("--room-pattern", "team-*")).await;
    let published = publish(&backend, "team-a", "welcome").await;
    // It stays, though nobody was in it.
    let mut ann = Chat::enter(&server).await;
    ann.say(json!({"type": "join_room", "room": "team-a"})).await;
    let history = ann.until("history").await;
    assert_eq!(history["epoch"], published["epoch"]);
    assert_eq!(history["content"][0]["content"], "welcome");
    let batch = json!({"items": [
        {"room": "team-a", "content": "one"}, {"room": "team-b", "content": "two"}, {"room": "team-a", "content": "three"},
        {"room": "other", "content": "four"},
    ]});
    let results = backend.post("/api/v1/batch", &batch).await.json();
    let statuses: Vec<_> =
        results["results"].as_array().unwrap().iter().map(|it| it["status"].clone()).collect();
    assert_eq!(statuses, [200, 200, 200, 404]);
    for content in ["one", "three"] {
        assert_eq!(ann.next().await["content"], content);
    }
}

async fn where_no_room_can_be_opened_nothing_happens(launch: Launch) {
    let (server, backend) = with_api(launch.flag("--room-pattern", "*").flag("--rooms-max", 1)).await;
    let mut ann = Chat::enter(&server).await;
    ann.move_to("full").await;
    let refused = backend.post("/api/v1/publish", &json!({"room": "other", "content": "a"})).await;
    refused.assert_problem(503, "unavailable");
    assert!(refused.header("retry-after").is_some());
    ann.move_to("general").await;
    // Now one is empty, and makes place.
    publish(&backend, "other", "a").await;
    assert_eq!(names(&backend.get("/api/v1/rooms?prefix=o").await.json()), ["other"]);
    assert_eq!(names(&backend.get("/api/v1/rooms?prefix=f").await.json()), [""; 0]);
}

async fn a_removed_message_stays_removed(launch: Launch) {
    let (server, backend) = with_api(launch.clone()).await;
    publish(&backend, "general", "kept").await;
    publish(&backend, "general", "removed").await;
    assert_eq!(backend.request("DELETE", "/api/v1/rooms/general/messages/2", &[], b"").await.status, 200);
    server.signal(rustix::process::Signal::KILL);
    drop(server);
    let (_server, backend) = with_api(launch).await;
    let history = backend.get("/api/v1/rooms/general/history").await.json();
    let contents: Vec<_> =
        history["messages"].as_array().unwrap().iter().map(|row| row["content"].clone()).collect();
    assert_eq!(contents, ["kept"]);
}

async fn a_room_that_a_backend_opened_comes_back(launch: Launch) {
    let launch = launch.flag("--room-pattern", "team-*");
    let (server, backend) = with_api(launch.clone()).await;
    let published = publish(&backend, "team-a", "welcome").await;
    server.signal(rustix::process::Signal::KILL);
    drop(server);
    let (_server, backend) = with_api(launch).await;
    let again = publish(&backend, "team-a", "again").await;
    assert_eq!(again["epoch"], published["epoch"]);
    let history = backend.get("/api/v1/rooms/team-a/history").await.json();
    let contents: Vec<_> =
        history["messages"].as_array().unwrap().iter().map(|row| row["content"].clone()).collect();
    assert_eq!(contents, ["welcome", "again"]);
}
