//! Which pages may open a WebSocket here. Programs send no `Origin`, so only browsers are held to
//! this.

use std::time::Instant;

use serde_json::Value;

use crate::harness::{Launch, Server, Wire, eventually, on_one_server, request, upgrade_request};
use crate::http_paths::answer;

on_one_server! {
    pages_of_this_server_pass,
    foreign_pages_are_forbidden,
    listed_origins_pass_and_only_they,
    null_names_pages_opened_from_a_file,
    a_star_allows_all,
    a_plain_request_is_not_asked_for_its_origin,
    a_schemes_own_port_equals_none,
    an_absolute_target_counts_and_host_does_not,
    a_strange_name_of_a_server_on_loopback_has_no_pages,
    names_can_be_given_to_a_server_on_loopback,
    stars_and_names_in_other_scripts_are_understood,
    a_refused_origin_is_logged_once_a_second_without_control_characters,
    the_page_is_told_whether_its_origin_is_let_in,
    a_refused_origin_cannot_look_like_another_field_of_the_log,
}

async fn pages_of_this_server_pass(launch: Launch) {
    let server = launch.start();
    let host = server.address();
    assert!(passes(&server, &format!("http://{host}")).await);
    assert!(passes(&server, &format!("https://{host}")).await);
}

async fn foreign_pages_are_forbidden(launch: Launch) {
    let server = launch.start();
    let host = server.address();
    let port = host.port();
    for origin in [
        "http://example.com".to_owned(),
        "null".to_owned(),
        "*".to_owned(),
        host.to_string(),
        format!("ftp://{host}"),
        format!("http://{host}.example.com"),
        format!("http://{host}0"),
        format!("http://example.com/{host}"),
        format!("http://127.0.0.1:{}", port ^ 1),
        "http://127.0.0.1".to_owned(),
        format!("http://localhost:{port}"),
    ] {
        assert!(!passes(&server, &origin).await, "{origin:?}");
    }
}

async fn listed_origins_pass_and_only_they(launch: Launch) {
    let server = launch
        .flag("--allow-origin", "https://one.example")
        .flag("--allow-origin", "http://two.example:8000")
        .start();
    let host = server.address();
    assert!(passes(&server, "https://one.example").await);
    assert!(passes(&server, "http://two.example:8000").await);
    assert!(passes(&server, &format!("http://{host}")).await);
    for origin in [
        "http://one.example",
        "https://one.example.org",
        "https://one.example:444",
        "http://two.example",
        "https://three.example",
        "null",
    ] {
        assert!(!passes(&server, origin).await, "{origin}");
    }
}

async fn null_names_pages_opened_from_a_file(launch: Launch) {
    let server = launch.flag("--allow-origin", "null").start();
    assert!(passes(&server, "null").await);
    assert!(!passes(&server, "http://example.com").await);
}

async fn a_star_allows_all(launch: Launch) {
    let server = launch.flag("--allow-origin", "*").start();
    for origin in ["http://example.com", "https://other.example:1", "null"] {
        assert!(passes(&server, origin).await, "{origin}");
    }
}

async fn a_plain_request_is_not_asked_for_its_origin(launch: Launch) {
    let server = launch.start();
    let foreign = "Origin: http://example.com\r\n";
    for (path, status) in [("/", 200), ("/healthz", 200), ("/metrics", 200), ("/echo", 426)] {
        let request = request(&server, "GET", path, foreign);
        assert_eq!(answer(&server, &request).await.status, status, "{path}");
    }
}

async fn a_schemes_own_port_equals_none(launch: Launch) {
    let server = launch.flag("--allow-host", "example.com").start();
    for (host, origin, status) in [
        ("example.com:443", "https://example.com", 101),
        ("example.com", "https://example.com:443", 101),
        ("example.com:80", "http://example.com", 101),
        ("example.com:80", "https://example.com", 403),
        ("example.com:443", "http://example.com", 403),
        ("example.com:8443", "https://example.com", 403),
    ] {
        assert_eq!(status_of(&server, "/echo", host, origin).await, status, "{host} {origin}");
    }
}

async fn an_absolute_target_counts_and_host_does_not(launch: Launch) {
    let server = launch.flag("--allow-host", "example.com,other").start();
    let target = "http://example.com/echo";
    assert_eq!(status_of(&server, target, "other", "http://example.com").await, 101);
    assert_eq!(status_of(&server, target, "other", "http://other").await, 403);
    assert_eq!(status_of(&server, target, "example.com", "http://other").await, 403);
}

/// A page of evil.example whose name server answers with 127.0.0.1 has this server's authority for its origin.
async fn a_strange_name_of_a_server_on_loopback_has_no_pages(launch: Launch) {
    let server = launch.start();
    let port = server.address().port();
    for (host, status) in [
        (format!("evil.example:{port}"), 403),
        (format!("192.0.2.1:{port}"), 403),
        (format!("localhost.evil.example:{port}"), 403),
        (format!("localhost:{port}"), 101),
        (format!("chat.localhost:{port}"), 101),
        (format!("127.0.0.2:{port}"), 101),
        (format!("[::1]:{port}"), 101),
        ("localhost".to_owned(), 101),
    ] {
        let origin = format!("http://{host}");
        assert_eq!(status_of(&server, "/chat", &host, &origin).await, status, "{host}");
    }
    // Programs name no origin, and may call it as they like.
    let request = upgrade_request("/chat").replace("Host: localhost", "Host: evil.example");
    let mut wire = Wire::connect(&server).await;
    wire.send(request).await;
    assert_eq!(wire.head().await.status, 101);
}

async fn names_can_be_given_to_a_server_on_loopback(launch: Launch) {
    let launch = launch.flag("--allow-host", "chat.example,m\u{fc}nchen.example");
    let server = launch.flag("--allow-host", "192.0.2.1").start();
    for host in ["chat.example", "CHAT.example:8080", "xn--mnchen-3ya.example", "192.0.2.1"] {
        assert_eq!(status_of(&server, "/chat", host, &format!("https://{host}")).await, 101, "{host}");
    }
    assert_eq!(status_of(&server, "/chat", "a.chat.example", "https://a.chat.example").await, 403);
    assert_eq!(status_of(&server, "/chat", "chat.example", "https://evil.example").await, 403);
}

async fn stars_and_names_in_other_scripts_are_understood(launch: Launch) {
    let launch = launch.flag("--allow-origin", "https://*.example.com,https://m\u{fc}nchen.example");
    let server = launch.start();
    for origin in ["https://app.example.com", "https://a.b.example.com", "https://xn--mnchen-3ya.example"] {
        assert!(passes(&server, origin).await, "{origin}");
    }
    for origin in ["https://example.com", "http://app.example.com", "https://app.example.com.evil.example"] {
        assert!(!passes(&server, origin).await, "{origin}");
    }
}

async fn a_refused_origin_is_logged_once_a_second_without_control_characters(launch: Launch) {
    let server = launch.flag("--log", "json").start();
    let host = server.address().to_string();
    let begun = Instant::now();
    for _ in 0..20 {
        assert_eq!(status_of(&server, "/chat", &host, "https://evil.example\t\u{e9}").await, 403);
    }
    let lines_max = begun.elapsed().as_secs() as usize + 2;
    let lines = || -> Vec<Value> {
        let output = server.output();
        let lines = output.lines().filter_map(|line| serde_json::from_str(line).ok());
        lines.filter(|line: &Value| line["origin"].is_string()).collect()
    };
    eventually("a line", async || !lines().is_empty()).await;
    let line = &lines()[0];
    assert_eq!(line["origin"], r"https://evil.example\t\xc3\xa9");
    assert_eq!(line["host"], host);
    assert!(line["message"].as_str().unwrap().contains("--allow-origin"), "{line}");
    assert!(lines().len() <= lines_max, "{} lines, not {lines_max}", lines().len());
}

async fn a_refused_origin_cannot_look_like_another_field_of_the_log(launch: Launch) {
    let server = launch.start();
    let host = server.address().to_string();
    let origin = "http://x left_out=0 host=trusted.example";
    assert_eq!(status_of(&server, "/chat", &host, origin).await, 403);
    eventually("a line", async || server.output().contains("--allow-origin lets")).await;
    let output = server.output();
    assert!(output.contains(&format!("origin=\"{origin}\" host=\"{host}\"")), "{output}");
}

async fn the_page_is_told_whether_its_origin_is_let_in(launch: Launch) {
    let server = launch.flag("--allow-origin", "https://friend.example").start();
    let host = server.address().to_string();
    for (host, origin, told) in [
        (host.as_str(), &*format!("http://{host}"), "allowed"),
        (&host, "https://friend.example", "allowed"),
        (&host, "https://chat.example", "other-origin"),
        ("chat.example", "https://chat.example", "unknown-host"),
    ] {
        for (method, path) in [("HEAD", "/chat"), ("GET", "/")] {
            let mut wire = Wire::connect(&server).await;
            let fields = format!("Host: {host}\r\nUproar-Origin: {origin}\r\n");
            wire.send(format!("{method} {path} HTTP/1.1\r\n{fields}\r\n")).await;
            let response = wire.response().await;
            assert_eq!(response.status, 200);
            assert_eq!(response.header("uproar-origin"), Some(told), "{origin}");
        }
    }
    let plain = answer(&server, &request(&server, "GET", "/", "")).await;
    assert_eq!(plain.header("uproar-origin"), None);
}

/// The status of an upgrade for a page of that origin, to a server that is called so.
async fn status_of(server: &Server, target: &str, host: &str, origin: &str) -> u16 {
    let headers = format!("Host: {host}\r\nOrigin: {origin}");
    let mut wire = Wire::connect(server).await;
    wire.send(upgrade_request(target).replace("Host: localhost", &headers)).await;
    wire.head().await.status
}

/// Whether a page of that origin may connect, which all dialects must agree on.
async fn passes(server: &Server, origin: &str) -> bool {
    let mut statuses = Vec::new();
    for path in ["/", "/chat", "/broadcast/news", "/echo"] {
        let headers = format!("Host: {}\r\nOrigin: {origin}", server.address());
        let request = upgrade_request(path).replace("Host: localhost", &headers);
        let mut wire = Wire::connect(server).await;
        wire.send(&request).await;
        let status = wire.head().await.status;
        if status != 101 {
            assert_eq!(answer(server, &request).await.status, status);
        }
        statuses.push(status);
    }
    match statuses[0] {
        101 => assert_eq!(statuses, [101; 4], "{origin:?}"),
        _ => assert_eq!(statuses, [403; 4], "{origin:?}"),
    }
    statuses[0] == 101
}
