//! What each path answers to a request that does not ask for WebSocket.

use crate::harness::{Launch, Response, Server, Wire, on_one_server, request};

on_one_server! {
    the_web_client_is_served_at_the_root_and_at_chat,
    dialects_without_a_page_ask_for_an_upgrade,
    health_and_metrics_answer_plainly,
    unknown_paths_are_not_found,
    the_query_changes_nothing,
    head_answers_as_get_without_the_body,
    other_methods_are_not_allowed,
    options_names_the_methods_without_a_body,
    each_response_says_when_it_was_made,
    an_upgrade_to_another_protocol_is_a_plain_request,
}

async fn the_web_client_is_served_at_the_root_and_at_chat(launch: Launch) {
    let server = launch.start();
    for path in ["/", "/chat"] {
        let page = get(&server, path).await;
        assert_eq!(page.status, 200, "{path}");
        assert!(page.header("content-type").unwrap().starts_with("text/html"));
        assert!(page.body.to_ascii_lowercase().contains("<html"), "{path}");
    }
}

async fn dialects_without_a_page_ask_for_an_upgrade(launch: Launch) {
    let server = launch.start();
    for path in ["/ws", "/broadcast", "/broadcast/news", "/echo"] {
        let hint = get(&server, path).await;
        assert_eq!(hint.status, 426, "{path}");
        assert_eq!(hint.header("upgrade"), Some("websocket"), "{path}");
        assert!(!hint.body.trim().is_empty(), "{path}");
    }
}

async fn health_and_metrics_answer_plainly(launch: Launch) {
    let server = launch.start();
    let health = get(&server, "/healthz").await;
    assert_eq!((health.status, health.body.trim_end()), (200, "ok"));
    assert_eq!(get(&server, "/metrics").await.status, 200);
}

async fn unknown_paths_are_not_found(launch: Launch) {
    let server = launch.start();
    let unknown = [
        "/nothing",
        "/chat/room",
        "/echoes",
        "/wss",
        "/healthz/",
        "/broadcasts",
        "/CHAT",
        "//",
        "/../chat",
        "/%00",
        "/chat%3Fx",
    ];
    for path in unknown {
        let answer = get(&server, path).await;
        assert_eq!((answer.status, answer.body.trim_end()), (404, "Not Found"), "{path}");
    }
}

async fn the_query_changes_nothing(launch: Launch) {
    let server = launch.start();
    for (path, status) in [
        ("/?room=general", 200),
        ("/chat?/echo", 200),
        ("/healthz?", 200),
        ("/echo?x=/chat", 426),
        ("/nothing?/chat", 404),
    ] {
        assert_eq!(get(&server, path).await.status, status, "{path}");
    }
}

async fn head_answers_as_get_without_the_body(launch: Launch) {
    let server = launch.start();
    for path in ["/", "/chat", "/ws", "/broadcast/news", "/echo", "/healthz", "/nothing"] {
        let get = get(&server, path).await;
        let mut wire = Wire::connect(&server).await;
        wire.send(request(&server, "HEAD", path, "")).await;
        let head = wire.response().await;
        assert_eq!(head.status, get.status, "{path}");
        assert_eq!(head.body, "", "{path}");
        for header in ["content-length", "content-type", "upgrade", "connection"] {
            assert_eq!(head.header(header), get.header(header), "{header} of {path}");
        }
    }
}

async fn other_methods_are_not_allowed(launch: Launch) {
    let server = launch.start();
    for method in ["POST", "PUT", "DELETE", "PATCH", "TRACE"] {
        for path in ["/", "/ws", "/healthz", "/metrics"] {
            let answer = answer(&server, &request(&server, method, path, "")).await;
            assert_eq!(answer.status, 405, "{method} {path}");
            let allowed = answer.header("allow").expect("an Allow header");
            let allowed: Vec<_> = allowed.split(',').map(str::trim).collect();
            assert!(allowed.contains(&"GET") && allowed.contains(&"HEAD"), "{allowed:?}");
            assert!(!allowed.contains(&method), "{allowed:?}");
        }
    }
}

async fn options_names_the_methods_without_a_body(launch: Launch) {
    let server = launch.start();
    for path in ["/", "/chat", "/ws", "/broadcast/news", "/echo", "/healthz", "/metrics", "*"] {
        let mut wire = Wire::connect(&server).await;
        wire.send(request(&server, "OPTIONS", path, "")).await;
        let response = wire.response().await;
        assert_eq!((response.status, response.body.as_str()), (204, ""), "{path}");
        assert_eq!(response.header("allow"), Some("GET, HEAD, OPTIONS"), "{path}");
        assert_eq!(response.header("content-length"), None, "{path}");
        assert_eq!(response.header("connection"), Some("close"), "{path}");
        assert_dated(&response);
    }
    assert_eq!(answer(&server, &request(&server, "OPTIONS", "/nothing", "")).await.status, 404);
}

async fn each_response_says_when_it_was_made(launch: Launch) {
    let server = launch.flag("--handshake-timeout", "1s").start();
    for (request, status) in [
        (request(&server, "GET", "/", ""), 200),
        (request(&server, "GET", "/metrics", ""), 200),
        (request(&server, "GET", "/nothing", ""), 404),
        (request(&server, "POST", "/", ""), 405),
        (request(&server, "GET", "/ws", ""), 426),
        ("no request\r\n\r\n".to_owned(), 400),
        ("GET / HTTP/1.1\r\n".to_owned(), 408),
    ] {
        // `answer` looks at the date.
        assert_eq!(answer(&server, &request).await.status, status);
    }
}

async fn an_upgrade_to_another_protocol_is_a_plain_request(launch: Launch) {
    let server = launch.start();
    let headers = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n";
    let answer = answer(&server, &request(&server, "GET", "/healthz", headers)).await;
    assert_eq!(answer.status, 200);
}

async fn get(server: &Server, path: &str) -> Response {
    answer(server, &request(server, "GET", path, "")).await
}

/// Sends a request, and checks what every response must have: its length, its kind, and that it
/// was the last one.
pub(crate) async fn answer(server: &Server, request: &str) -> Response {
    let mut wire = Wire::connect(server).await;
    wire.send(request).await;
    let response = wire.response().await;
    assert_complete(&response);
    response
}

/// Every plain response is complete in itself and closes its connection.
pub(crate) fn assert_complete(response: &Response) {
    let length = response.body.len().to_string();
    assert_eq!(response.header("content-length"), Some(length.as_str()), "{response:?}");
    let connection = response.header("connection").unwrap_or_default();
    let mut options = connection.split(',').map(str::trim);
    assert!(options.any(|option| option.eq_ignore_ascii_case("close")), "{response:?}");
    assert!(!response.body.is_empty(), "{response:?}");
    let kind = response.header("content-type").expect("a content type");
    assert!(kind.starts_with("text/"), "{kind}");
    assert_dated(response);
}

/// A response has the time in the one form that is sent (RFC 9110, 5.6.7), and it is the present.
fn assert_dated(response: &Response) {
    let date = response.header("date").expect("a Date");
    let parsed = chrono::NaiveDateTime::parse_from_str(date, "%a, %d %b %Y %H:%M:%S GMT").expect(date);
    let age = chrono::Utc::now().naive_utc() - parsed;
    assert!((0..60).contains(&age.num_seconds()), "{date}");
}
