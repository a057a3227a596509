//! The admin page as a response. `tests/browser/admin.rs` uses it.

use crate::harness::{ApiKeys, Backend, Launch, Wire, request};

#[tokio::test]
async fn the_page_needs_no_key_and_cannot_be_framed() {
    let keys = ApiKeys::new();
    keys.add("shop", &[]).await;
    let server = Launch::with_shards(1).with_api(&keys).start();
    let stranger = Backend::without_key(&server);
    let page = stranger.get("/admin").await;
    assert_eq!((page.status, page.header("content-type")), (200, Some("text/html; charset=utf-8")));
    assert!(page.body.starts_with("<!doctype html>"), "{}", page.body);
    let policy = page.header("content-security-policy").unwrap();
    for part in ["default-src 'none'", "frame-ancestors 'none'", "connect-src 'self'"] {
        assert!(policy.contains(part), "{policy}");
    }
    assert_eq!(page.header("referrer-policy"), Some("no-referrer"));
    assert_eq!(page.header("x-content-type-options"), Some("nosniff"));
    assert_eq!(page.header("cache-control"), Some("no-store"));
    stranger.request("POST", "/admin", &[], b"").await.assert_problem(405, "method-not-allowed");
    stranger.get("/admin/").await.assert_problem(404, "not-found");
    stranger.get("/api/v1/stats").await.assert_problem(401, "unauthenticated");
}

#[tokio::test]
async fn the_page_is_not_on_the_clients_port() {
    let server = Launch::with_shards(1).start();
    let mut wire = Wire::connect(&server).await;
    wire.send(request(&server, "GET", "/admin", "")).await;
    assert_eq!(wire.response().await.status, 404);
}
