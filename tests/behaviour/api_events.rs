//! `/api/v1/events`: what happens, as server-sent events.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::api_rooms::with_api;
use crate::harness::{
    AccountFile, Backend, Chat, EventStream, Launch, SentEvent, Socket, TokenKey, eventually,
    on_one_and_four_shards_only, password_of, within,
};
use crate::mutes::member;

on_one_and_four_shards_only! {
    messages_joins_and_leaves_are_told_as_they_were_published,
    joins_of_a_large_room_are_told_singly,
    connections_are_told_at_their_begin_and_end,
    orders_of_admins_and_backends_are_told,
    moves_and_messages_of_backends_are_told,
    a_stream_has_the_rooms_and_types_that_were_asked_for,
    wrong_rooms_and_types_are_named,
    a_reader_goes_on_behind_its_last_event,
    a_reader_that_was_away_for_too_long_gets_a_gap_first,
    a_reader_that_falls_behind_gets_a_gap_and_its_stream_goes_on,
    a_stream_tells_of_the_end_and_ends_in_order,
    a_reader_that_does_not_read_does_not_keep_the_server_from_its_end,
    streams_leave_most_connections_to_others,
    a_stream_that_takes_nothing_is_closed_for_another_one,
}

/// Fails unless the next event is of this kind, and returns its data without the time.
async fn next(stream: &mut EventStream, kind: &str) -> Value {
    let event = stream.next().await;
    assert_eq!(event.kind, kind, "{event:?}");
    without_time(event)
}

fn without_time(event: SentEvent) -> Value {
    let mut data = event.data;
    crate::harness::take_timestamp(&mut data, "at");
    data
}

async fn publish(backend: &Backend, body: Value) -> Value {
    let answer = backend.post("/api/v1/publish", &body).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()
}

async fn messages_joins_and_leaves_are_told_as_they_were_published(launch: Launch) {
    let (server, backend) = with_api(launch).await;
    let mut stream = backend.events("?types=message,join,leave", None).await;
    let mut alice = Chat::enter(&server).await;
    let user = json!({"room": "general", "user_id": alice.id, "name": alice.name, "account": null});
    assert_eq!(next(&mut stream, "join").await, user);
    let id = alice.message("first\nline \"two\" \u{2028}").await;
    let told = next(&mut stream, "message").await;
    let epoch = told["epoch"].clone();
    assert!(epoch.is_string());
    let from = json!({
        "room": "general", "message_id": id, "epoch": epoch, "from_id": alice.id, "from_name": alice.name,
        "from_account": null, "content": "first\nline \"two\" \u{2028}",
    });
    assert_eq!(told, from);
    let image = json!({
        "room": "general", "image": "https://a.example/b.png", "from_name": "Shop", "from_account": "shop",
    });
    let sent = publish(&backend, image).await;
    let from = json!({
        "room": "general", "message_id": sent["message_id"], "epoch": epoch, "from_id": 0, "from_name": "Shop",
        "from_account": "shop", "image": "https://a.example/b.png",
    });
    assert_eq!(next(&mut stream, "message").await, from);
    alice.leave().await;
    assert_eq!(next(&mut stream, "leave").await, user);
    // In a room without members, too.
    publish(&backend, json!({"room": "gaming", "content": "empty"})).await;
    assert_eq!(next(&mut stream, "message").await["content"], "empty");
}

async fn joins_of_a_large_room_are_told_singly(launch: Launch) {
    let (server, backend) = with_api(launch.flag("--presence-limit", 2)).await;
    let mut stream = backend.events("?types=join,leave", None).await;
    let mut members = Vec::new();
    for _ in 0..5 {
        let member = Chat::enter(&server).await;
        assert_eq!(next(&mut stream, "join").await["user_id"], member.id);
        members.push(member);
    }
    for member in members {
        let id = member.id;
        member.leave().await;
        assert_eq!(next(&mut stream, "leave").await["user_id"], id);
    }
}

async fn connections_are_told_at_their_begin_and_end(launch: Launch) {
    let key = TokenKey::new();
    let (server, backend) = with_api(launch.flag("--token-key", key.path().display())).await;
    let mut stream = backend.events("?types=connection", None).await;
    let token = key.token("ann", &[]).await;
    let mut ann = Chat::with_token(&server, &token).await;
    let begin = next(&mut stream, "connection").await;
    assert_eq!((&begin["phase"], &begin["connection"]["account"]), (&json!("begin"), &json!("ann")));
    assert_eq!(
        (&begin["connection"]["dialect"], &begin["connection"]["ended"]),
        (&json!("chat"), &json!(null))
    );
    ann.read_welcome().await;
    ann.leave().await;
    let end = next(&mut stream, "connection").await;
    assert_eq!((&end["phase"], &end["connection"]["id"]), (&json!("end"), &begin["connection"]["id"]));
    assert_eq!(
        (&end["connection"]["user_id"], &end["connection"]["room"]),
        (&json!(ann_id(&end)), &json!("general"))
    );
    let ended = &end["connection"]["ended"];
    assert_eq!((&ended["reason"], &ended["code"]), (&json!("closed"), &json!(1000)));
    let listener = Socket::connect(&server, "/broadcast/prices").await;
    let begin = next(&mut stream, "connection").await;
    assert_eq!(
        (&begin["connection"]["dialect"], &begin["connection"]["topic"]),
        (&json!("raw"), &json!("prices"))
    );
    drop(listener);
    let end = next(&mut stream, "connection").await;
    assert_eq!((&end["phase"], &end["connection"]["ended"]["reason"]), (&json!("end"), &json!("lost")));
}

/// A user's id, which every user has at its end.
fn ann_id(event: &Value) -> u64 {
    event["connection"]["user_id"].as_u64().expect("a user id")
}

async fn orders_of_admins_and_backends_are_told(launch: Launch) {
    let accounts = AccountFile::of(&["Ann"], &["boss"]).await;
    accounts.hash_cheaply("boss");
    let (server, backend) = with_api(launch.flag("--data", accounts.path().display())).await;
    let mut stream = backend.events("?types=moderation", None).await;
    let [mut boss, mut bob] = Chat::members(&server).await;
    boss.say(json!({"type": "auth", "username": "boss", "password": password_of("boss")})).await;
    boss.until("auth_success").await;
    boss.say(json!({"type": "mute", "target_id": bob.id, "seconds": 60})).await;
    bob.until("muted").await;
    let mut told = next(&mut stream, "moderation").await;
    let connection = told["target"].as_object_mut().unwrap().remove("connection").expect("the connection");
    assert!(connection.as_str().is_some_and(|name| name.split('-').count() == 4), "{connection}");
    let target = json!({"address": "127.0.0.1", "user_id": bob.id, "name": bob.name});
    assert_eq!(told, json!({"action": "mute", "by": "account:boss", "target": target, "seconds": 60}));
    boss.say(json!({"type": "ban", "account": "Ann", "seconds": 0, "reason": "spam"})).await;
    let told = next(&mut stream, "moderation").await;
    let ban = json!({
        "action": "ban", "by": "account:boss", "target": {"account": "Ann"}, "seconds": 0, "reason": "spam",
    });
    assert_eq!(told, ban);
    // A backend removes a message.
    let sent = publish(&backend, json!({"room": "general", "content": "oops", "from_name": "Shop"})).await;
    let path = format!("/api/v1/rooms/general/messages/{}", sent["message_id"]);
    assert_eq!(backend.request("DELETE", &path, &[], b"").await.status, 200);
    let target = json!({
        "room": "general", "message_id": sent["message_id"], "user_id": 0, "name": "Shop", "account": null,
    });
    assert_eq!(
        next(&mut stream, "moderation").await,
        json!({"action": "delete", "by": "key:backend", "target": target})
    );
}

async fn moves_and_messages_of_backends_are_told(launch: Launch) {
    let key = TokenKey::new();
    let (server, backend) = with_api(launch.flag("--token-key", key.path().display())).await;
    let mut stream = backend.events("?types=moderation", None).await;
    let mut ann = member(&server, &key, "ann", &[]).await;
    for (verb, body) in [
        ("message", json!({"content": "hello", "from_name": "Shop"})),
        ("move", json!({"to": "gaming"})),
        // From where it is not: an order like others, about nobody.
        ("move", json!({"to": "random", "from": "general"})),
    ] {
        let answer = backend.post(&format!("/api/v1/users/ann/{verb}"), &body).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let told = json!({"action": verb, "by": "key:backend", "target": {"account": "ann"}});
        assert_eq!(next(&mut stream, "moderation").await, told);
    }
    assert_eq!(ann.until("private_message").await["content"], "hello");
    assert_eq!(ann.until("room_joined").await["content"]["room"], "gaming");
}

async fn a_stream_has_the_rooms_and_types_that_were_asked_for(launch: Launch) {
    let (server, backend) = with_api(launch).await;
    let mut gaming = backend.events("?rooms=gaming,random", None).await;
    let mut messages = backend.events("?rooms=general&types=message", None).await;
    let mut all = backend.events("", None).await;
    let mut alice = Chat::enter(&server).await;
    for (room, content) in [("general", "one"), ("gaming", "two"), ("random", "three"), ("general", "four")] {
        publish(&backend, json!({"room": room, "content": content})).await;
    }
    alice.until("message").await;
    // The order of a room is kept, and not that of rooms with different homes.
    let mut told = Vec::new();
    for _ in 0..2 {
        told.push(next(&mut gaming, "message").await["content"].to_string());
    }
    told.sort();
    assert_eq!(told, ["\"three\"", "\"two\""]);
    assert_eq!(next(&mut messages, "message").await["content"], "one");
    assert_eq!(next(&mut messages, "message").await["content"], "four");
    for kind in ["connection", "join"] {
        all.until(kind).await;
    }
    let mut told = Vec::new();
    for _ in 0..4 {
        told.push(all.until("message").await.data["content"].as_str().unwrap().to_owned());
    }
    told.sort();
    assert_eq!(told, ["four", "one", "three", "two"]);
}

async fn wrong_rooms_and_types_are_named(launch: Launch) {
    let (_server, backend) = with_api(launch).await;
    for (query, parameter) in [
        ("types=message,shout", "types"),
        ("types=", "types"),
        ("types=Message", "types"),
        ("rooms=", "rooms"),
        ("rooms=a,,b", "rooms"),
        ("room=general", "room"),
    ] {
        let answer = backend.get(&format!("/api/v1/events?{query}")).await;
        answer.assert_problem(422, "invalid");
        assert_eq!(answer.json()["errors"][0]["parameter"], parameter, "{query}");
    }
}

async fn a_reader_goes_on_behind_its_last_event(launch: Launch) {
    let (_server, backend) = with_api(launch).await;
    let mut first = backend.events("?types=message", None).await;
    // Before any event it has a position already.
    let beginning = first.last_id.clone();
    for content in ["one", "two", "three"] {
        publish(&backend, json!({"room": "general", "content": content})).await;
    }
    assert_eq!(next(&mut first, "message").await["content"], "one");
    let id = first.last_id.clone();
    drop(first);
    let mut second = backend.events("?types=message", Some(&id)).await;
    assert_eq!(next(&mut second, "message").await["content"], "two");
    assert_eq!(next(&mut second, "message").await["content"], "three");
    let mut third = backend.events("?types=message", Some(&beginning)).await;
    assert_eq!(next(&mut third, "message").await["content"], "one");
    // Another life of the server, what is none, and what has not happened yet.
    let instance = id.split_once('-').unwrap().0;
    for unknown in ["00000000-2", "x", &format!("{instance}-1000000")] {
        let mut stream = backend.events("?types=message", Some(unknown)).await;
        let gap = stream.next().await;
        assert_eq!((&*gap.kind, gap.data), ("gap", json!({"lost": null})), "{unknown}");
        assert_eq!(next(&mut stream, "message").await["content"], "one");
    }
}

async fn a_reader_that_was_away_for_too_long_gets_a_gap_first(launch: Launch) {
    let (_server, backend) = with_api(launch).await;
    let first = backend.events("", None).await;
    let id = first.last_id.clone();
    drop(first);
    let mut watcher = backend.events("?types=message", None).await;
    publish_many(&backend, "general", 10_500).await;
    // All of them are in the log.
    while watcher.until("message").await.data["content"] != "10499" {}
    let mut stream = backend.events("", Some(&id)).await;
    let gap = stream.next().await;
    assert_eq!(gap.kind, "gap");
    let lost = gap.data["lost"].as_u64().unwrap();
    assert!((500..520).contains(&lost), "{lost}");
    let mut last = stream.next().await;
    for _ in 1..10_000 {
        let event = stream.next().await;
        let number = |event: &SentEvent| event.id.split_once('-').unwrap().1.parse::<u64>().unwrap();
        assert_eq!(number(&event), number(&last) + 1);
        last = event;
    }
    // One that comes back with the id of the gap goes on behind it.
    let mut again = backend.events("", Some(&gap.id)).await;
    assert_eq!(again.next().await.kind, "message");
}

async fn a_reader_that_falls_behind_gets_a_gap_and_its_stream_goes_on(launch: Launch) {
    let (_server, backend) = with_api(launch).await;
    let mut stalled = backend.narrow_events("?types=message").await;
    let mut watcher = backend.events("?types=message", None).await;
    let watching = async { while watcher.until("message").await.data["content"] != "19999" {} };
    let publishing = publish_many(&backend, "general", 20_000);
    tokio::join!(publishing, watching);
    let (mut heard, mut gap) = (0, None);
    while gap.is_none() {
        let event = stalled.next().await;
        match &*event.kind {
            "message" => heard += 1,
            _ => gap = event.data["lost"].as_u64(),
        }
    }
    assert!(gap.unwrap() > 0 && heard < 10_000, "{heard} events and {gap:?}");
    while stalled.next().await.data["content"] != "19999" {}
    publish(&backend, json!({"room": "general", "content": "live"})).await;
    assert_eq!(next(&mut stalled, "message").await["content"], "live");
}

/// Publishes so many messages, each with its number and some padding beside it.
async fn publish_many(backend: &Backend, room: &str, count: usize) {
    let padding = "x".repeat(200);
    for begin in (0..count).step_by(1_000) {
        let items = (begin..count.min(begin + 1_000)).map(
            |number| json!({"room": room, "content": number.to_string(), "from_account": padding[..100]}),
        );
        let body = json!({"items": items.collect::<Vec<_>>()});
        let answer = backend.post("/api/v1/batch", &body).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let results = answer.json();
        assert!(results["results"].as_array().unwrap().iter().all(|result| result["status"] == 200));
    }
}

async fn a_stream_tells_of_the_end_and_ends_in_order(launch: Launch) {
    let (mut server, backend) = with_api(launch).await;
    let mut stream = backend.events("?types=connection", None).await;
    let mut members = Chat::crowd(&server, 3).await;
    for _ in 0..3 {
        assert_eq!(next(&mut stream, "connection").await["phase"], "begin");
    }
    server.signal(Signal::TERM);
    for member in &mut members {
        assert_eq!(member.closed().await.0, 1001);
    }
    for _ in 0..3 {
        let end = next(&mut stream, "connection").await;
        let ended = &end["connection"]["ended"];
        assert_eq!((&ended["reason"], &ended["code"]), (&json!("shutdown"), &json!(1001)));
    }
    assert_eq!(stream.next_or_end().await, None);
    assert_eq!(server.exit().await.code(), Some(0));
}

async fn a_reader_that_does_not_read_does_not_keep_the_server_from_its_end(launch: Launch) {
    let (mut server, backend) = with_api(launch).await;
    let _stalled = backend.narrow_events("").await;
    publish_many(&backend, "general", 20_000).await;
    server.signal(Signal::TERM);
    assert_eq!(server.exit().await.code(), Some(0));
}

/// Goal: those who watch cannot keep out those who publish, and one that leaves makes place for another.
async fn streams_leave_most_connections_to_others(launch: Launch) {
    const STREAMS_MAX: usize = 64;
    let (_server, backend) = with_api(launch).await;
    let mut streams = Vec::new();
    for _ in 0..STREAMS_MAX {
        streams.push(backend.events("", None).await);
    }
    let refused = backend.get("/api/v1/events").await;
    refused.assert_problem(429, "busy");
    assert_eq!(refused.header("retry-after"), Some("1"));
    assert_eq!(refused.json()["detail"], "64 event streams are open, which is the most");
    let metrics = backend.get("/metrics").await.body;
    for line in ["uproar_api_event_streams 64", "uproar_api_event_streams_refused_total 1"] {
        assert!(metrics.lines().any(|own| own == line), "{line} is not in {metrics}");
    }
    publish(&backend, json!({"room": "general", "content": "hello"})).await;
    for stream in &mut streams {
        assert_eq!(next(stream, "message").await["content"], "hello");
    }
    drop(streams.pop());
    eventually("its place is free", async || {
        let metrics = backend.get("/metrics").await.body;
        metrics.lines().any(|line| line == "uproar_api_event_streams 63")
    })
    .await;
    streams.push(backend.events("", None).await);
}

/// Goal: dead readers do not keep others out until TCP gives them up, and never those who read.
async fn a_stream_that_takes_nothing_is_closed_for_another_one(launch: Launch) {
    const STREAMS_MAX: usize = 64;
    const STALL_MAX: Duration = Duration::from_secs(45);
    let (_server, backend) = with_api(launch).await;
    let began = Instant::now();
    let mut alive = backend.events("?types=message", None).await;
    let mut stalled = Vec::new();
    for _ in 1..STREAMS_MAX {
        stalled.push(backend.narrow_events("?types=message").await);
    }
    let reading = async { while alive.until("message").await.data["content"] != "19999" {} };
    tokio::join!(publish_many(&backend, "general", 20_000), reading);
    let head = backend.head("GET", "/api/v1/events") + "\r\n";
    let mut newcomer = None;
    eventually("a stream is closed for the newcomer", async || {
        let mut stream = backend.connect().await;
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = [0; 12];
        within("answer", stream.read_exact(&mut answer)).await.unwrap();
        if &answer == b"HTTP/1.1 429" {
            return false;
        }
        assert_eq!(&answer, b"HTTP/1.1 200");
        newcomer = Some(stream);
        true
    })
    .await;
    assert!(began.elapsed() >= STALL_MAX);
    publish(&backend, json!({"room": "general", "content": "hello"})).await;
    assert_eq!(next(&mut alive, "message").await["content"], "hello");
    let metrics = backend.get("/metrics").await.body;
    assert!(metrics.lines().any(|line| line == "uproar_api_event_streams 64"), "{metrics}");
}
