//! `/api/v1/connections`: what the server knows of its clients, now and for a while after their end.

use rustix::process::Signal;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use crate::api_rooms::with_api;
use crate::harness::{
    Backend, Chat, Launch, Socket, TEXT, TokenKey, Wire, eventually, frame, on_one_and_four_shards_only,
};
use crate::slow_receivers::{narrow, slow_member, talk_until_leave};

on_one_and_four_shards_only! {
    a_connection_is_explained_while_it_lasts,
    what_was_sent_and_acknowledged_grows,
    an_evicted_connection_is_explained_afterwards,
    a_violation_is_explained_with_its_code,
    names_that_are_no_connection_are_not_found,
    connections_are_listed_in_pages_and_each_once,
    the_longest_queues_come_first,
    accounts_and_addresses_are_found,
    the_ended_are_listed_newest_first,
    the_ended_are_explained_while_the_server_shuts_down,
    wrong_parameters_are_named,
}

async fn list(backend: &Backend, query: &str) -> Vec<Value> {
    let answer = backend.get(&format!("/api/v1/connections{query}")).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()["connections"].as_array().unwrap().clone()
}

async fn show(backend: &Backend, id: &Value) -> Value {
    let answer = backend.get(&format!("/api/v1/connections/{}", id.as_str().unwrap())).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()
}

async fn a_connection_is_explained_while_it_lasts(launch: Launch) {
    let launch = launch.flag("--rate", 7).flag("--send-queue", "64KiB").flag("--max-message", "2KiB");
    let (server, backend) = with_api(launch).await;
    let mut alice = Chat::enter(&server).await;
    alice.message("hello").await;
    let [listed] = &list(&backend, "").await[..] else { panic!("one connection") };
    let mut shown = show(&backend, &listed["id"]).await;
    for time in ["since", "last_received"] {
        crate::harness::take_timestamp(&mut shown, time);
    }
    let take = |shown: &mut Value, field: &str| shown.as_object_mut().unwrap().remove(field).unwrap();
    let address = take(&mut shown, "address");
    assert!(address.as_str().unwrap().starts_with("127.0.0.1:"), "{address}");
    assert!(take(&mut shown, "received_bytes").as_u64() > Some(20));
    assert!(take(&mut shown, "sent_bytes").as_u64() > Some(300));
    assert!(take(&mut shown, "acknowledged_bytes").as_u64() > Some(0));
    assert!(take(&mut shown, "round_trip_ms").as_f64() > Some(0.0));
    let wanted = json!({
        "id": listed["id"], "dialect": "chat", "account": null, "user_id": alice.id, "name": alice.name,
        "room": "general", "topic": null, "queued_bytes": 0, "queued_frames": 0, "messages_in": 1,
        // welcome, users, history, message_sent
        "messages_out": 4,
        "limits": {"queue_bytes": 65_536, "message_bytes": 2_048, "messages_per_second": 7},
        "ended": null,
    });
    assert_eq!(shown, wanted);
}

async fn what_was_sent_and_acknowledged_grows(launch: Launch) {
    let (server, backend) = with_api(launch).await;
    let mut echo = Socket::connect(&server, "/echo").await;
    let id = list(&backend, "").await[0]["id"].clone();
    let before = show(&backend, &id).await;
    for _ in 0..10 {
        echo.send(Message::binary(vec![7; 10_000])).await;
        assert!(echo.next().await.is_some());
    }
    let mut now = Value::Null;
    eventually("its kernel has acknowledged all", async || {
        now = show(&backend, &id).await;
        let grown = |field: &str| now[field].as_u64().unwrap() - before[field].as_u64().unwrap();
        grown("acknowledged_bytes") >= 100_000
    })
    .await;
    let grown = |field: &str| now[field].as_u64().unwrap() - before[field].as_u64().unwrap();
    assert_eq!((grown("messages_in"), grown("messages_out")), (10, 10));
    // Frames of 10,000 bytes have headers of 4 bytes; those of a client have a mask, too.
    assert_eq!((grown("received_bytes"), grown("sent_bytes")), (100_080, 100_040));
    assert_eq!(grown("acknowledged_bytes"), 100_040);
    assert!(now["round_trip_ms"].as_f64().unwrap() < 10_000.0);
    assert_eq!(now["limits"]["messages_per_second"], Value::Null);
}

async fn an_evicted_connection_is_explained_afterwards(launch: Launch) {
    let (server, backend) = with_api(narrow(launch)).await;
    let [mut alice, mut bob] = Chat::members(&server).await;
    let slow = slow_member(&server, &mut [&mut alice, &mut bob]).await;
    let address = slow.local_address().to_string();
    let all = list(&backend, "").await;
    let id = all.iter().find(|entry| entry["address"] == *address).expect("the slow one")["id"].clone();
    talk_until_leave(&mut alice, &mut bob).await;
    // It is explained at once, while its socket is still being closed.
    let shown = show(&backend, &id).await;
    assert_eq!((&shown["id"], &shown["address"], &shown["room"]), (&id, &json!(address), &json!("general")));
    assert_eq!((&shown["ended"]["reason"], &shown["ended"]["code"]), (&json!("slow_consumer"), &json!(1013)));
    assert!(shown["ended"]["at"].is_number());
    let queued = shown["queued_bytes"].as_u64().unwrap();
    assert!((30_000..=65_536).contains(&queued) && shown["queued_frames"].as_u64() > Some(0), "{shown}");
    assert!(shown["acknowledged_bytes"].as_u64() > Some(0), "{shown}");
    drop(slow);
    assert_eq!(show(&backend, &id).await, shown);
    assert_eq!(list(&backend, "?ended=true").await[0], shown);
    assert!(list(&backend, "").await.iter().all(|entry| entry["id"] != id), "it is not open");
}

async fn a_violation_is_explained_with_its_code(launch: Launch) {
    let (server, backend) = with_api(launch).await;
    for (bytes, reason, code) in
        [(frame(0x3, ""), "protocol_error", 1002), (frame(TEXT, b"\xff"), "invalid_utf8", 1007)]
    {
        let mut wire = Wire::upgrade(&server, "/echo").await;
        let id = list(&backend, "").await[0]["id"].clone();
        wire.send(bytes).await;
        assert_eq!(wire.close().await.0, code);
        let ended = show(&backend, &id).await["ended"].clone();
        assert_eq!((&ended["reason"], &ended["code"]), (&json!(reason), &json!(code)));
        drop(wire);
        eventually("it is gone", async || list(&backend, "").await.is_empty()).await;
    }
}

async fn names_that_are_no_connection_are_not_found(launch: Launch) {
    let (server, backend) = with_api(launch).await;
    let _echo = Socket::connect(&server, "/echo").await;
    let id = list(&backend, "").await[0]["id"].as_str().unwrap().to_owned();
    let parts: Vec<&str> = id.split('-').collect();
    let [instance, shard, slot, generation] = parts[..] else { panic!("{id}") };
    let other_instance = format!("{:08x}", !u32::from_str_radix(instance, 16).unwrap());
    for other in [
        format!("{other_instance}-{shard}-{slot}-{generation}"),
        format!("{instance}-99-{slot}-{generation}"),
        format!("{instance}-{shard}-4000000000-{generation}"),
        format!("{instance}-{shard}-{slot}-4000000000"),
        format!("0{id}"),
        format!("{id}%00"),
        "x".to_owned(),
    ] {
        backend.get(&format!("/api/v1/connections/{other}")).await.assert_problem(404, "not-found");
    }
}

async fn connections_are_listed_in_pages_and_each_once(launch: Launch) {
    let (server, backend) = with_api(launch).await;
    let _listeners = Socket::listeners(&server, "/broadcast", 23).await;
    let mut seen = Vec::new();
    let mut query = "?limit=5".to_owned();
    for _ in 0..5 {
        let page = backend.get(&format!("/api/v1/connections{query}")).await.json();
        seen.extend(page["connections"].as_array().unwrap().iter().map(|entry| entry["id"].to_string()));
        match page["next"].as_str() {
            Some(next) => query = format!("?limit=5&after={next}"),
            None => break,
        }
    }
    let mut ids: Vec<String> =
        list(&backend, "?limit=1000").await.iter().map(|entry| entry["id"].to_string()).collect();
    assert_eq!(ids.len(), 23);
    assert_eq!(seen, ids);
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 23);
}

async fn the_longest_queues_come_first(launch: Launch) {
    let (server, backend) = with_api(launch).await;
    let _others = Socket::listeners(&server, "/broadcast/quiet", 20).await;
    let mut slow = Wire::connect_narrow(&server).await;
    slow.upgrade_to("/broadcast/loud").await;
    let _listener = Socket::listeners(&server, "/broadcast/loud", 1).await;
    let word = [("Content-Type", "application/octet-stream")];
    let mut queued = 0;
    for _ in 0..1_000 {
        let answer = backend.request("POST", "/api/v1/broadcast/loud", &word, &[7; 20_000]).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let first = &list(&backend, "?order=queue&limit=3").await[0];
        queued = first["queued_bytes"].as_u64().unwrap();
        if queued > 100_000 && first["address"] == json!(slow.local_address().to_string()) {
            break;
        }
    }
    assert!(queued > 100_000, "{queued}");
    let ordered = list(&backend, "?order=queue").await;
    assert_eq!(ordered.len(), 22);
    let queues: Vec<u64> = ordered.iter().map(|entry| entry["queued_bytes"].as_u64().unwrap()).collect();
    assert!(queues.is_sorted_by(|a, b| a >= b), "{queues:?}");
    assert_eq!(ordered[0]["address"], json!(slow.local_address().to_string()));
}

async fn accounts_and_addresses_are_found(launch: Launch) {
    let key = TokenKey::new();
    let (server, backend) = with_api(launch.flag("--token-key", key.path().display())).await;
    let token = key.token("ann", &[]).await;
    let mut ann = Chat::with_token(&server, &token).await;
    ann.read_welcome().await;
    let _prices = Socket::with_token(&server, "/broadcast/prices", &token).await;
    let _echo = Socket::connect(&server, "/echo").await;
    let mut elsewhere = Wire::connect_from(&server, [127, 0, 0, 9].into()).await;
    elsewhere.upgrade_to("/echo").await;
    let dialects = |found: Vec<Value>| {
        let mut dialects: Vec<String> =
            found.iter().map(|entry| entry["dialect"].as_str().unwrap().to_owned()).collect();
        dialects.sort();
        dialects
    };
    assert_eq!(dialects(list(&backend, "?account=ann").await), ["chat", "raw"]);
    assert_eq!(dialects(list(&backend, "?account=ann&order=queue").await), ["chat", "raw"]);
    assert_eq!(dialects(list(&backend, "?account=Ann").await), [""; 0]);
    for address in ["127.0.0.9", "::ffff:127.0.0.9"] {
        let found = list(&backend, &format!("?address={address}")).await;
        assert_eq!(found.len(), 1);
        assert_eq!(found[0]["address"], json!(elsewhere.local_address().to_string()));
    }
    assert_eq!(list(&backend, "?address=127.0.0.1").await.len(), 3);
    ann.leave().await;
    elsewhere.send(frame(0x3, "")).await;
    elsewhere.close().await;
    eventually("both ends are listed", async || list(&backend, "?ended=true").await.len() == 2).await;
    assert_eq!(dialects(list(&backend, "?ended=true&account=ann").await), ["chat"]);
    assert_eq!(dialects(list(&backend, "?ended=true&address=127.0.0.9").await), ["echo"]);
}

async fn the_ended_are_listed_newest_first(launch: Launch) {
    let (server, backend) = with_api(launch).await;
    let mut ids = Vec::new();
    for number in 0..5 {
        let echo = Socket::connect(&server, "/echo").await;
        eventually("it is the only one", async || list(&backend, "").await.len() == 1).await;
        ids.push(list(&backend, "").await[0]["id"].clone());
        echo.leave(1000).await;
        eventually("it is listed", async || list(&backend, "?ended=true").await.len() == number + 1).await;
    }
    ids.reverse();
    let mut seen = Vec::new();
    let mut query = "?ended=true&limit=2".to_owned();
    for _ in 0..3 {
        let page = backend.get(&format!("/api/v1/connections{query}")).await.json();
        seen.extend(page["connections"].as_array().unwrap().iter().map(|entry| entry["id"].clone()));
        query = format!("?ended=true&limit=2&after={}", page["next"].as_str().unwrap_or_default());
    }
    assert_eq!(seen, ids);
}

async fn the_ended_are_explained_while_the_server_shuts_down(launch: Launch) {
    let (mut server, backend) = with_api(launch).await;
    let echo = Socket::connect(&server, "/echo").await;
    let id = list(&backend, "").await[0]["id"].clone();
    echo.leave(1000).await;
    // A client that does not answer its close keeps the server for a while.
    let stubborn = Wire::upgrade(&server, "/echo").await;
    let open = async || list(&backend, "").await;
    eventually("only the other one is open", async || open().await.len() == 1 && open().await[0]["id"] != id)
        .await;
    let other = open().await[0]["id"].clone();
    server.signal(Signal::TERM);
    eventually("no shard is asked any more", async || backend.get("/api/v1/connections").await.status == 503)
        .await;
    assert_eq!(show(&backend, &id).await["ended"]["reason"], "closed");
    let shown = async || backend.get(&format!("/api/v1/connections/{}", other.as_str().unwrap())).await;
    eventually("the other one has ended, too", async || shown().await.status == 200).await;
    assert_eq!(shown().await.json()["ended"]["reason"], "shutdown");
    drop(stubborn);
    assert!(server.exit().await.success());
}

async fn wrong_parameters_are_named(launch: Launch) {
    let (_server, backend) = with_api(launch).await;
    for (query, parameter) in [
        ("order=name", "order"),
        ("ended=yes", "ended"),
        ("ended=true&order=queue", "order"),
        ("order=queue&after=0-0", "after"),
        ("after=x", "after"),
        ("after=0-01", "after"),
        ("after=65536-0", "after"),
        ("ended=true&after=0-0", "after"),
        ("address=localhost", "address"),
        ("limit=1001", "limit"),
        ("x=y", "x"),
    ] {
        let answer = backend.get(&format!("/api/v1/connections?{query}")).await;
        answer.assert_problem(422, "invalid");
        assert_eq!(answer.json()["errors"][0]["parameter"], parameter, "{query}");
    }
    // Places behind all connections are no error.
    for after in ["65535-0", "0-4294967295"] {
        assert!(list(&backend, &format!("?after={after}")).await.is_empty());
    }
}
