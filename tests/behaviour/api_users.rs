//! `/api/v1/users/{account}`: what a backend sees of an account, and what it sends and orders.

use std::collections::HashMap;

use futures_util::future::join;
use serde_json::{Value, json};

use crate::harness::{
    Answer, ApiKeys, Backend, Chat, Guest, Hub, Launch, Server, Socket, TokenKey, direct, error, eventually,
    on_one_and_four_shards_only, within,
};
use crate::mutes::member;

on_one_and_four_shards_only! {
    an_account_is_shown_with_its_connections,
    an_account_that_nobody_uses_is_shown_empty,
    all_connections_of_an_account_are_closed,
    an_account_is_muted_and_unmuted_on_all_its_connections,
    a_message_reaches_all_connections_of_an_account,
    an_account_is_moved_to_another_room,
    a_move_opens_a_room_and_overrules_rights,
    a_move_waits_for_the_answers_of_its_user,
    wrong_fields_and_names_are_refused,
    an_order_is_repeated_with_its_key,
}

/// A server behind a proxy on this machine with tokens and the API, and a backend that may do everything.
pub(crate) async fn with_users(launch: Launch) -> (Server, TokenKey, Backend) {
    let (keys, tokens) = (ApiKeys::new(), TokenKey::new());
    let key = keys.add("shop", &[]).await;
    let launch = launch.without_rate_limit().flag("--trusted-proxy", "127.0.0.1");
    let server = launch.flag("--token-key", tokens.path().display()).with_api(&keys).start();
    let backend = Backend::with_key(&server, &key);
    (server, tokens, backend)
}

/// The number of connections that an order was about.
pub(crate) fn connections(answer: &Answer) -> u64 {
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()["connections"].as_u64().unwrap()
}

/// Connections of all dialects with this account: two of chat, and one of each other.
async fn connections_of(server: &Server, tokens: &TokenKey, account: &str) -> ([Chat; 2], Hub, [Socket; 2]) {
    let chats = [member(server, tokens, account, &[]).await, member(server, tokens, account, &[]).await];
    let token = tokens.token(account, &["--topic", "*"]).await;
    let mut hub = Hub::with_token(server, &token).await;
    hub.login(account).await;
    let raw = Socket::with_token(server, "/broadcast/news", &token).await;
    let echo = Socket::with_token(server, "/echo", &token).await;
    (chats, hub, [raw, echo])
}

async fn an_account_is_shown_with_its_connections(launch: Launch) {
    let (server, tokens, backend) = with_users(launch).await;
    let (mut chats, _hub, _sockets) = connections_of(&server, &tokens, "ann").await;
    let _other = member(&server, &tokens, "ben", &[]).await;
    chats[1].move_to("gaming").await;
    let shown = async || {
        let answer = backend.get("/api/v1/users/ann").await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()
    };
    // The listener is subscribed at its own pace.
    eventually("five connections", async || shown().await["connections"].as_array().unwrap().len() == 5)
        .await;
    let ann = shown().await;
    assert_eq!((&ann["account"], &ann["mute"], &ann["ban"]), (&json!("ann"), &Value::Null, &Value::Null));
    assert_eq!(ann["connections_total"], 5);
    let rows = ann["connections"].as_array().unwrap();
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
    assert!(rows.iter().all(|row| row["since"].as_u64().unwrap().abs_diff(now) <= 60), "{ann}");
    let mut ids: Vec<_> = rows.iter().map(|row| row["id"].as_str().unwrap()).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 5);
    let find = |dialect: &str, room: Value| {
        let is_it = |row: &&Value| row["dialect"] == dialect && row["room"] == room;
        rows.iter().find(is_it).unwrap_or_else(|| panic!("{dialect} {room} in {ann}")).clone()
    };
    for (chat, room) in chats.iter().zip(["general", "gaming"]) {
        let row = find("chat", json!(room));
        assert_eq!((&row["user_id"], &row["name"]), (&json!(chat.id), &json!("ann")));
    }
    assert_eq!(find("hub", json!("general"))["topic"], Value::Null);
    assert_eq!(find("raw", Value::Null)["topic"], "news");
    assert_eq!(find("echo", Value::Null)["user_id"], Value::Null);
}

async fn an_account_that_nobody_uses_is_shown_empty(launch: Launch) {
    let (_server, _, backend) = with_users(launch).await;
    let nobody = backend.get("/api/v1/users/no%2Fbody%20%C3%A9").await;
    let shown = json!({
        "account": "no/body é", "connections_total": 0, "connections": [], "mute": null, "ban": null,
    });
    assert_eq!(nobody.json(), shown);
    let longest = "é".repeat(128);
    let encoded = "%C3%A9".repeat(128);
    assert_eq!(backend.get(&format!("/api/v1/users/{encoded}")).await.json()["account"], longest);
    backend.get(&format!("/api/v1/users/{encoded}x")).await.assert_problem(404, "not-found");
    backend.get("/api/v1/users/%FF").await.assert_problem(400, "malformed");
    backend.get("/api/v1/users/").await.assert_problem(404, "not-found");
    backend.get("/api/v1/users/ann?limit=1").await.assert_problem(422, "invalid");
}

async fn all_connections_of_an_account_are_closed(launch: Launch) {
    let (server, tokens, backend) = with_users(launch).await;
    let (mut chats, mut hub, mut sockets) = connections_of(&server, &tokens, "troll").await;
    let mut other = member(&server, &tokens, "ann", &[]).await;
    let ordered = backend.post("/api/v1/users/troll/disconnect", &json!({"reason": "moved house"})).await;
    assert_eq!(connections(&ordered), 5);
    for chat in &mut chats {
        assert_eq!(chat.until("kicked").await, direct("kicked", json!({"reason": "moved house"})));
        assert_eq!(chat.closed_in_the_end().await, (1008, "kicked".to_owned()));
    }
    while hub.next().await["content"] != "moved house" {}
    assert_eq!(hub.closed().await, (1008, "kicked".to_owned()));
    for socket in &mut sockets {
        assert_eq!(socket.closed().await, (1008, "kicked".to_owned()));
    }
    other.say(json!({"type": "message", "content": "still here"})).await;
    other.until("message_sent").await;
    // It may come back, and nobody is there before that.
    assert_eq!(connections(&backend.request("POST", "/api/v1/users/troll/disconnect", &[], b"").await), 0);
    let mut again = member(&server, &tokens, "troll", &[]).await;
    assert_eq!(connections(&backend.request("POST", "/api/v1/users/troll/disconnect", &[], b"").await), 1);
    assert_eq!(again.until("kicked").await["content"], json!({"reason": "Kicked by admin"}));
    let log = ["measure=kick", "by=key:shop", "account=\"troll\"", "reason=\"moved house\""];
    eventually("it is logged", async || log.iter().all(|word| server.output().contains(word))).await;
    let metrics = backend.get("/metrics").await.body;
    assert!(metrics.contains("uproar_moderation_orders_total{order=\"kick\"} 3"), "{metrics}");
}

async fn an_account_is_muted_and_unmuted_on_all_its_connections(launch: Launch) {
    let (server, tokens, backend) = with_users(launch).await;
    let mut chats =
        [member(&server, &tokens, "troll", &[]).await, member(&server, &tokens, "troll", &[]).await];
    let muted = backend.post("/api/v1/users/troll/mute", &json!({"seconds": 600})).await;
    assert_eq!(connections(&muted), 2);
    for chat in &mut chats {
        assert_eq!(chat.until("muted").await["content"], json!({"seconds": 600}));
        chat.say(json!({"type": "message", "content": "hm"})).await;
        assert_eq!(chat.next().await, error("You are muted"));
    }
    // It holds for one that comes later.
    let mut later = member(&server, &tokens, "troll", &[]).await;
    later.until("muted").await;
    let until = backend.get("/api/v1/users/troll").await.json()["mute"]["until"].as_u64().unwrap();
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
    assert!((now + 500..=now + 600).contains(&until), "{until}");
    let unmuted = backend.request("POST", "/api/v1/users/troll/unmute", &[], b"").await;
    assert_eq!(connections(&unmuted), 3);
    for chat in chats.iter_mut().chain([&mut later]) {
        chat.until("unmuted").await;
        chat.say(json!({"type": "message", "content": "hm"})).await;
        chat.until("message_sent").await;
    }
    assert_eq!(backend.get("/api/v1/users/troll").await.json()["mute"], Value::Null);
}

async fn a_message_reaches_all_connections_of_an_account(launch: Launch) {
    let (server, tokens, backend) = with_users(launch).await;
    let mut chats = [member(&server, &tokens, "ann", &[]).await, member(&server, &tokens, "ann", &[]).await];
    let mut hub = Hub::with_token(&server, &tokens.token("ann", &[]).await).await;
    hub.login("ann").await;
    chats[0].move_to("random").await;
    let sent = backend.post("/api/v1/users/ann/message", &json!({"content": "order 7 is ready"})).await;
    assert_eq!(connections(&sent), 3);
    let named = json!({"content": "thanks", "from_name": "Shop"});
    assert_eq!(connections(&backend.post("/api/v1/users/ann/message", &named).await), 3);
    for chat in &mut chats {
        for (name, content) in [("System", "order 7 is ready"), ("Shop", "thanks")] {
            let told = chat.until("private_message").await;
            assert_eq!(
                told,
                json!({"type": "private_message", "from_id": 0, "from_name": name, "content": content})
            );
        }
    }
    while hub.next().await["content"] != "thanks" {}
    assert_eq!(connections(&backend.post("/api/v1/users/nobody/message", &json!({"content": "a"})).await), 0);
}

async fn an_account_is_moved_to_another_room(launch: Launch) {
    let (server, tokens, backend) = with_users(launch).await;
    let mut watcher = Chat::enter(&server).await;
    let mut chats = [member(&server, &tokens, "ann", &[]).await, member(&server, &tokens, "ann", &[]).await];
    for _ in &chats {
        watcher.until("join").await;
    }
    chats[1].move_to("random").await;
    watcher.until("leave").await;
    let order = json!({"from": "general", "to": "gaming"});
    assert_eq!(connections(&backend.post("/api/v1/users/ann/move", &order).await), 1);
    assert_eq!(chats[0].until("room_joined").await["content"], json!({"room": "gaming"}));
    assert_eq!(chats[0].next().await["type"], "users");
    assert_eq!(chats[0].next().await["type"], "history");
    let left = watcher.until("leave").await;
    assert_eq!(left["content"]["user_id"], chats[0].id);
    // All of them, wherever they are; those that are there already stay.
    assert_eq!(connections(&backend.post("/api/v1/users/ann/move", &json!({"to": "gaming"})).await), 1);
    chats[1].until("room_joined").await;
    assert_eq!(connections(&backend.post("/api/v1/users/ann/move", &json!({"to": "gaming"})).await), 0);
    chats[0].until("join").await;
    assert_eq!(chats[1].until("history").await["type"], "history");
    let id = chats[1].message("here we are").await;
    let heard = chats[0].until("message").await;
    assert_eq!((&heard["content"], &heard["message_id"]), (&json!("here we are"), &json!(id)));
}

async fn a_move_opens_a_room_and_overrules_rights(launch: Launch) {
    let (server, tokens, backend) = with_users(launch.flag("--room-pattern", "support-*")).await;
    let mut ann = member(&server, &tokens, "ann", &["--room", "general"]).await;
    ann.say(json!({"type": "join_room", "room": "support-7"})).await;
    assert_eq!(ann.next().await, error("Permission denied"));
    assert_eq!(connections(&backend.post("/api/v1/users/ann/move", &json!({"to": "support-7"})).await), 1);
    assert_eq!(ann.until("room_joined").await["content"], json!({"room": "support-7"}));
    ann.until("history").await;
    let members = backend.get("/api/v1/rooms/support-7/members").await.json();
    assert_eq!(members["members"][0]["account"], "ann");
    backend.post("/api/v1/users/ann/move", &json!({"to": "nowhere"})).await.assert_problem(404, "not-found");
    // A room that nobody enters is not left behind.
    assert_eq!(connections(&backend.post("/api/v1/users/nobody/move", &json!({"to": "support-8"})).await), 0);
    eventually("the room is gone", async || backend.get("/api/v1/rooms/support-8").await.status == 404).await;
}

/// Goal: a move that comes while rooms are opened for a user neither loses nor overtakes what it has asked for: the user gets
/// every answer, each from the room where it is then.
async fn a_move_waits_for_the_answers_of_its_user(launch: Launch) {
    const ROOMS: usize = 300;
    const ROUNDS_MIN: usize = 10;
    const ROUNDS_MAX: usize = 30;
    let (server, tokens, backend) = with_users(launch.flag("--room-pattern", "team-*")).await;
    let mut ann = member(&server, &tokens, "ann", &[]).await;
    let mut here = "general".to_owned();
    let mut said = HashMap::<String, Vec<Value>>::new();
    // The order races with what the user asks for. In some rounds it comes in between, and these are what the test is about.
    let (mut rounds, mut crossed) = (0, 0);
    while rounds < ROUNDS_MIN || crossed == 0 {
        assert!(rounds < ROUNDS_MAX, "the order never crosses with what its user asks for");
        let rooms: Vec<String> = (0..ROOMS).map(|nth| format!("team-{rounds}-{nth}")).collect();
        let asked = rooms.iter().flat_map(|room| {
            let join = json!({"type": "join_room", "room": room});
            [join, json!({"type": "message", "content": room}), json!({"type": "get_history"})]
        });
        let to = ["gaming", "random"][rounds % 2];
        let order = json!({"to": to});
        let (moved, ()) = join(backend.post("/api/v1/users/ann/move", &order), ann.burst(asked)).await;
        assert_eq!(connections(&moved), 1);
        let (mut joined, mut sent, mut histories) = (Vec::new(), 0, 0);
        // A room is shown with its history, too.
        within("answers", async {
            while joined.len() < ROOMS + 1 || sent < ROOMS || histories < 2 * ROOMS + 1 {
                let message = ann.next().await;
                let content = &message["content"];
                match message["type"].as_str().unwrap() {
                    "room_joined" => {
                        here = content["room"].as_str().unwrap().to_owned();
                        joined.push(here.clone());
                    }
                    "message_sent" => {
                        assert_eq!(content["room"], here, "{rounds}: {joined:?}");
                        said.entry(here.clone()).or_default().push(json!(rooms[sent]));
                        sent += 1;
                    }
                    "history" => {
                        let shown = content.as_array().unwrap().iter().map(|message| &message["content"]);
                        let said = said.get(&here).into_iter().flatten();
                        assert!(shown.eq(said), "{rounds}: {here} after {joined:?}: {content}");
                        histories += 1;
                    }
                    "users" => {}
                    other => panic!("{other}: {message}"),
                }
            }
        })
        .await;
        let place = joined.iter().position(|room| room == to).unwrap();
        crossed += usize::from(0 < place && place < ROOMS);
        joined.remove(place);
        assert_eq!(joined, rooms, "{rounds}");
        rounds += 1;
    }
}

async fn wrong_fields_and_names_are_refused(launch: Launch) {
    let (server, tokens, backend) = with_users(launch).await;
    let mut ann = member(&server, &tokens, "ann", &[]).await;
    for (verb, body, pointers) in [
        ("mute", json!({}), &["/seconds"][..]),
        ("mute", json!({"seconds": 0}), &["/seconds"]),
        ("mute", json!({"seconds": 31_536_001}), &["/seconds"]),
        ("mute", json!({"seconds": 1.5}), &["/seconds"]),
        ("mute", json!({"seconds": -1}), &["/seconds"]),
        ("mute", json!({"seconds": "60"}), &["/seconds"]),
        ("mute", json!({"seconds": 60, "reason": "x"}), &["/reason"]),
        ("unmute", json!({"seconds": 60}), &["/seconds"]),
        ("ban", json!({"reason": 7}), &["/seconds", "/reason"]),
        ("ban", json!({"seconds": u64::MAX}), &["/seconds"]),
        ("ban", json!({"seconds": 0, "reason": "x".repeat(10_241)}), &["/reason"]),
        ("unban", json!({"reason": "x"}), &["/reason"]),
        ("disconnect", json!({"reason": []}), &["/reason"]),
        ("message", json!({}), &["/content"]),
        ("message", json!({"content": ""}), &["/content"]),
        ("message", json!({"content": "x".repeat(10_241)}), &["/content"]),
        (
            "message",
            json!({"content": 1, "from_name": "\u{202e}", "image": "y"}),
            &["/content", "/from_name", "/image"],
        ),
        ("move", json!({"from": "general"}), &["/to"]),
        ("move", json!({"from": 1, "to": 2}), &["/from", "/to"]),
    ] {
        let refused = backend.post(&format!("/api/v1/users/ann/{verb}"), &body).await;
        refused.assert_problem(422, "invalid");
        let problem = refused.json();
        let named: Vec<_> =
            problem["errors"].as_array().unwrap().iter().map(|it| it["pointer"].as_str().unwrap()).collect();
        assert_eq!(named, pointers, "{verb} {body}");
    }
    let too_long = "x".repeat(129);
    for verb in ["disconnect", "mute", "unmute", "ban", "unban", "message", "move"] {
        let post = async |account: &str, headers: &[(&str, &str)], body: &[u8]| {
            backend.request("POST", &format!("/api/v1/users/{account}/{verb}"), headers, body).await
        };
        const JSON: (&str, &str) = ("Content-Type", "application/json");
        post(&too_long, &[JSON], b"{}").await.assert_problem(404, "not-found");
        post("ann", &[JSON], b"[]").await.assert_problem(400, "malformed");
        post("ann", &[], b"{}").await.assert_problem(415, "unsupported-type");
        post("%FF", &[JSON], b"{}").await.assert_problem(400, "malformed");
        let got = backend.get(&format!("/api/v1/users/ann/{verb}")).await;
        got.assert_problem(405, "method-not-allowed");
        assert_eq!(got.header("allow"), Some("POST"));
    }
    let keys = ApiKeys::new();
    let reader = keys.add("reader", &["read", "publish"]).await;
    let other = Launch::with_shards(1).with_api(&keys).start();
    let reader = Backend::with_key(&other, &reader);
    for path in ["users/ann/disconnect", "users/ann/move", "connections/00000000-0-0-0/ban"] {
        let refused = reader.request("POST", &format!("/api/v1/{path}"), &[], b"").await;
        refused.assert_problem(403, "insufficient-scope");
    }
    // None of it has had an effect.
    ann.message("still here").await;
    assert_eq!(backend.get("/api/v1/bans").await.json()["bans"], json!([]));
}

async fn an_order_is_repeated_with_its_key(launch: Launch) {
    let (server, tokens, backend) = with_users(launch).await;
    let mut ann = member(&server, &tokens, "ann", &[]).await;
    let post = async |body: &str| {
        let headers = [("Content-Type", "application/json"), ("Idempotency-Key", "k")];
        backend.request("POST", "/api/v1/users/ann/message", &headers, body.as_bytes()).await
    };
    let first = post(r#"{"content": "once"}"#).await;
    let again = post(r#"{"content": "once"}"#).await;
    assert_eq!((connections(&first), connections(&again)), (1, 1));
    assert_eq!(again.header("idempotency-replayed"), Some("true"));
    post(r#"{"content": "twice"}"#).await.assert_problem(422, "invalid");
    assert_eq!(ann.next().await["content"], "once");
    ann.say(json!({"type": "get_stats"})).await;
    assert_eq!(ann.next().await["type"], "stats", "nothing came between");
    // The same body for another account is another order.
    let headers = [("Content-Type", "application/json"), ("Idempotency-Key", "k")];
    let other =
        backend.request("POST", "/api/v1/users/ben/message", &headers, br#"{"content": "once"}"#).await;
    other.assert_problem(422, "invalid");
    let mut guest = Guest::enter(&server, "192.0.2.1").await;
    assert!(guest.is_heard().await);
}
