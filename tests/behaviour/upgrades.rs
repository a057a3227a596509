//! The opening handshake: which are accepted, how others are refused, and the bytes behind it.

use crate::harness::{
    Chat, Launch, Response, Server, TEXT, Wire, frame, from_system, on_one_server, request, upgrade_request,
};
use crate::http_paths::answer;
use serde_json::json;

on_one_server! {
    every_dialect_accepts_an_upgrade,
    paths_without_a_dialect_refuse_an_upgrade,
    the_query_does_not_pick_the_dialect,
    header_names_and_tokens_ignore_case_and_lists_are_read,
    a_missing_or_wrong_version_is_told_the_right_one,
    malformed_upgrades_are_bad_requests,
    extensions_and_unknown_subprotocols_are_not_agreed_to,
    the_subprotocol_of_the_dialect_is_agreed_to,
    an_upgrade_names_its_host_exactly_once,
    bytes_right_behind_the_request_are_not_lost,
    a_frame_cut_by_the_end_of_the_first_segment_is_whole_in_the_end,
    words_said_before_half_closing_are_heard,
    an_upgrade_in_single_bytes_is_understood,
}

const KEY: &str = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
const VERSION: &str = "Sec-WebSocket-Version: 13\r\n";
const UPGRADE: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\n";

async fn every_dialect_accepts_an_upgrade(launch: Launch) {
    let server = launch.start();
    for path in ["/", "/chat", "/broadcast", "/broadcast/news", "/echo"] {
        let response = upgrade(&server, &upgrade_request(path)).await;
        assert_eq!(response.status, 101, "{path}");
        let accept = response.header("sec-websocket-accept");
        assert_eq!(accept, Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
        let upgrade = response.header("upgrade").unwrap();
        assert!(upgrade.eq_ignore_ascii_case("websocket"));
        let connection = response.header("connection").unwrap();
        assert!(connection.eq_ignore_ascii_case("upgrade"));
        assert_eq!(response.header("content-length"), None);
    }
}

async fn paths_without_a_dialect_refuse_an_upgrade(launch: Launch) {
    let server = launch.start();
    for path in ["/healthz", "/metrics", "/nothing", "/chat/room", "/echo/"] {
        let response = answer(&server, &upgrade_request(path)).await;
        assert_eq!(response.status, 404, "{path}");
    }
}

async fn the_query_does_not_pick_the_dialect(launch: Launch) {
    let server = launch.start();
    let mut wire = Wire::upgrade(&server, "/echo?path=/chat&x=%20").await;
    wire.send(frame(TEXT, "heard")).await;
    assert_eq!(wire.text().await, "heard");
    let mut wire = Wire::upgrade(&server, "/?/echo").await;
    assert!(wire.text().await.contains("\"welcome\""));
}

async fn header_names_and_tokens_ignore_case_and_lists_are_read(launch: Launch) {
    let server = launch.start();
    for headers in [
        "connection: keep-alive, upgrade\r\nupgrade: WebSocket\r\n",
        "CONNECTION: UPGRADE\r\nUPGRADE: WEBSOCKET\r\n",
        "Connection:Upgrade\r\nUpgrade:   websocket  \r\n",
        "Connection: keep-alive\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n",
        "Connection: Upgrade\r\nUpgrade: h2c, websocket\r\n",
    ] {
        let headers = format!("{headers}{VERSION}{KEY}");
        let response = upgrade(&server, &request(&server, "GET", "/echo", &headers)).await;
        assert_eq!(response.status, 101, "{headers:?}");
    }
}

async fn a_missing_or_wrong_version_is_told_the_right_one(launch: Launch) {
    let server = launch.start();
    for version in ["", "8", "12", "14", "130", "x"] {
        let version = match version {
            "" => String::new(),
            value => format!("Sec-WebSocket-Version: {value}\r\n"),
        };
        let headers = format!("{UPGRADE}{version}{KEY}");
        let response = answer(&server, &request(&server, "GET", "/chat", &headers)).await;
        assert_eq!(response.status, 426, "{version:?}");
        assert_eq!(response.header("sec-websocket-version"), Some("13"));
        assert_eq!(response.header("upgrade"), Some("websocket"));
    }
}

async fn malformed_upgrades_are_bad_requests(launch: Launch) {
    let server = launch.start();
    let get = |headers: &str| request(&server, "GET", "/chat", headers);
    let whole = get(&format!("{UPGRADE}{VERSION}{KEY}"));
    let without_connection = get(&format!("Upgrade: websocket\r\n{VERSION}{KEY}"));
    let keep_alive = get(&format!("Connection: keep-alive\r\nUpgrade: websocket\r\n{VERSION}{KEY}"));
    for (name, request) in [
        ("without Connection", without_connection),
        ("Connection: keep-alive", keep_alive),
        ("HTTP/1.0", whole.replace("HTTP/1.1", "HTTP/1.0")),
        ("POST", whole.replace("GET", "POST")),
        ("HEAD", whole.replace("GET", "HEAD")),
        ("no key", get(&format!("{UPGRADE}{VERSION}"))),
        ("an empty key", whole.replace("dGhlIHNhbXBsZSBub25jZQ==", "")),
        ("not Base64", whole.replace("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25jZ!==")),
        ("15 bytes", whole.replace("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25j")),
        ("17 bytes", whole.replace("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25jZWU=")),
    ] {
        let mut wire = Wire::connect(&server).await;
        wire.send(request).await;
        assert_eq!(wire.response().await.status, 400, "{name}");
    }
}

async fn extensions_and_unknown_subprotocols_are_not_agreed_to(launch: Launch) {
    let server = launch.start();
    let headers = format!(
        "{UPGRADE}{VERSION}{KEY}Sec-WebSocket-Extensions: permessage-deflate\r\n\
         Sec-WebSocket-Protocol: soap, wamp\r\n"
    );
    let response = upgrade(&server, &request(&server, "GET", "/echo", &headers)).await;
    assert_eq!(response.status, 101);
    assert_eq!(response.header("sec-websocket-extensions"), None);
    assert_eq!(response.header("sec-websocket-protocol"), None);
}

async fn the_subprotocol_of_the_dialect_is_agreed_to(launch: Launch) {
    let server = launch.start();
    for (path, offered, agreed) in [
        ("/chat", "uproar.chat", Some("uproar.chat")),
        ("/", "soap,uproar.hub, uproar.chat", Some("uproar.chat")),
        ("/ws", "soap\r\nSec-WebSocket-Protocol: uproar.hub", Some("uproar.hub")),
        ("/broadcast/news", "uproar.raw", Some("uproar.raw")),
        ("/echo", "uproar.echo", Some("uproar.echo")),
        ("/echo", "uproar.chat", None),
        ("/chat", "UPROAR.CHAT", None),
        ("/chat", "uproar", None),
    ] {
        let headers = format!("{UPGRADE}{VERSION}{KEY}Sec-WebSocket-Protocol: {offered}\r\n");
        let response = upgrade(&server, &request(&server, "GET", path, &headers)).await;
        assert_eq!(response.status, 101, "{path} {offered}");
        assert_eq!(response.header("sec-websocket-protocol"), agreed, "{path} {offered}");
    }
}

async fn an_upgrade_names_its_host_exactly_once(launch: Launch) {
    let server = launch.start();
    for host in ["", "Host: here\r\nHost: here\r\n", "Host: a b\r\n"] {
        let upgrade = upgrade_request("/chat").replace("Host: localhost\r\n", host);
        assert_eq!(answer(&server, &upgrade).await.status, 400, "{host:?}");
    }
}

async fn bytes_right_behind_the_request_are_not_lost(launch: Launch) {
    let server = launch.start();
    let mut segment = upgrade_request("/echo").into_bytes();
    let words: Vec<String> = (0..20).map(|n| format!("word {n}")).collect();
    for word in &words {
        segment.extend(frame(TEXT, word));
    }
    let mut wire = Wire::connect(&server).await;
    wire.send(segment).await;
    assert_eq!(wire.head().await.status, 101);
    for word in words {
        assert_eq!(wire.text().await, word);
    }
}

async fn a_frame_cut_by_the_end_of_the_first_segment_is_whole_in_the_end(launch: Launch) {
    let server = launch.start();
    let word = frame(TEXT, "a word cut in two");
    for cut in [1, 2, 4, 6, 10, word.len() - 1] {
        let mut segment = upgrade_request("/echo").into_bytes();
        segment.extend(&word[..cut]);
        let mut wire = Wire::connect(&server).await;
        wire.send(segment).await;
        // The 101 shows that the first part has been read.
        assert_eq!(wire.head().await.status, 101);
        wire.send(&word[cut..]).await;
        assert_eq!(wire.text().await, "a word cut in two");
    }
}

async fn words_said_before_half_closing_are_heard(launch: Launch) {
    let server = launch.start();
    let mut alice = Chat::enter(&server).await;
    let mut segment = upgrade_request("/chat").into_bytes();
    segment.extend(frame(TEXT, r#"{"type":"message","content":"farewell"}"#));
    let mut wire = Wire::connect(&server).await;
    wire.send(segment).await;
    wire.half_close().await;

    let join = alice.next().await;
    let (id, name) = (&join["from_id"], &join["from_name"]);
    assert_eq!(join["type"], "join");
    let message = alice.next().await;
    assert_eq!(
        (&message["type"], &message["content"], &message["from_id"]),
        (&json!("message"), &json!("farewell"), id)
    );
    let leave = json!({"user_id": id, "user_name": name, "users_online": 1, "room": "general"});
    assert_eq!(alice.next().await, from_system("leave", leave));
}

async fn an_upgrade_in_single_bytes_is_understood(launch: Launch) {
    let server = launch.start();
    let mut alice = Chat::enter(&server).await;
    let mut wire = Wire::connect(&server).await;
    wire.dribble(upgrade_request("/")).await;
    assert_eq!(wire.head().await.status, 101);
    assert_eq!(alice.next().await["type"], "join");
    for kind in ["welcome", "users", "history"] {
        assert!(wire.text().await.contains(&format!("{kind:?}")));
    }
    wire.dribble(frame(TEXT, r#"{"type":"message","content":"slowly"}"#)).await;
    let message = alice.next().await;
    assert_eq!((&message["type"], &message["content"]), (&json!("message"), &json!("slowly")));
}

/// The head of the answer to an upgrade.
async fn upgrade(server: &Server, request: &str) -> Response {
    let mut wire = Wire::connect(server).await;
    wire.send(request).await;
    wire.head().await
}
