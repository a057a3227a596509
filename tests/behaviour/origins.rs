//! Which pages may open a WebSocket here. Programs send no `Origin`, so only browsers are held to
//! this.

use crate::harness::{Launch, Server, Wire, on_one_and_four_shards, request, upgrade_request};
use crate::http_paths::answer;

on_one_and_four_shards! {
    pages_of_this_server_pass,
    foreign_pages_are_forbidden,
    listed_origins_pass_and_only_they,
    null_names_pages_opened_from_a_file,
    a_star_allows_all,
    a_plain_request_is_not_asked_for_its_origin,
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
