//! Who may use the HTTP API: keys, their scopes, and what needs none.

use rustix::process::Signal;
use serde_json::json;

use crate::harness::{
    ApiKeys, Backend, Chat, Launch, eventually, on_one_and_four_shards_only, request, run,
    through_unix_socket,
};
use crate::http_paths::answer;

on_one_and_four_shards_only! {
    a_key_is_needed_over_tcp,
    a_scope_is_needed,
    the_health_checks_and_the_description_need_no_key,
    a_page_of_another_origin_is_refused,
    keys_are_read_again_on_a_hangup,
    a_unix_socket_needs_no_key,
    metrics_move_from_the_clients_port_to_the_api,
    no_key_is_logged,
    what_cannot_work_is_refused_at_the_start,
}

async fn a_key_is_needed_over_tcp(launch: Launch) {
    let keys = ApiKeys::new();
    let key = keys.add("backend", &[]).await;
    let server = launch.with_api(&keys).start();
    assert_eq!(Backend::with_key(&server, &key).get("/api/v1/stats").await.status, 200);
    let refused = Backend::without_key(&server).get("/api/v1/stats").await;
    refused.assert_problem(401, "unauthenticated");
    assert_eq!(refused.header("www-authenticate"), Some("Bearer realm=\"uproar\""));
    for wrong in ["upk_wrong", &key[..key.len() - 1], &format!("{key}x"), &key.to_uppercase()] {
        let refused = Backend::with_key(&server, wrong).get("/api/v1/stats").await;
        refused.assert_problem(401, "wrong-key");
        let challenge = "Bearer realm=\"uproar\", error=\"invalid_token\"";
        assert_eq!(refused.header("www-authenticate"), Some(challenge));
    }
}

async fn a_scope_is_needed(launch: Launch) {
    let keys = ApiKeys::new();
    let key = keys.add("speaker", &["publish"]).await;
    let server = launch.with_api(&keys).start();
    let refused = Backend::with_key(&server, &key).get("/api/v1/stats").await;
    refused.assert_problem(403, "insufficient-scope");
    let challenge = "Bearer realm=\"uproar\", error=\"insufficient_scope\"";
    assert_eq!(refused.header("www-authenticate"), Some(challenge));
    let metrics = Backend::with_key(&server, &key).get("/metrics").await;
    metrics.assert_problem(403, "insufficient-scope");
}

async fn the_health_checks_and_the_description_need_no_key(launch: Launch) {
    let keys = ApiKeys::new();
    keys.add("backend", &[]).await;
    let server = launch.with_api(&keys).start();
    let stranger = Backend::without_key(&server);
    assert_eq!(stranger.get("/healthz").await.body, "ok");
    assert_eq!(stranger.get("/readyz").await.body, "ready");
    let description = stranger.get("/api/v1/openapi.json").await;
    assert_eq!(description.status, 200);
    assert_eq!(description.json()["openapi"], "3.1.0");
}

async fn a_page_of_another_origin_is_refused(launch: Launch) {
    let keys = ApiKeys::new();
    let key = keys.add("backend", &[]).await;
    let server = launch.with_api(&keys).start();
    let backend = Backend::with_key(&server, &key);
    let from = async |origin: &str| backend.request("GET", "/api/v1/stats", &[("Origin", origin)], b"").await;
    from("https://evil.example").await.assert_problem(403, "foreign-origin");
    from("null").await.assert_problem(403, "foreign-origin");
    let own = from(&format!("http://{}", server.api_address())).await;
    assert_eq!(own.status, 200);
    assert_eq!(own.header("access-control-allow-origin"), None);
}

async fn keys_are_read_again_on_a_hangup(launch: Launch) {
    let keys = ApiKeys::new();
    let first = keys.add("first", &[]).await;
    let server = launch.with_api(&keys).start();
    let second = keys.add("second", &[]).await;
    assert_eq!(Backend::with_key(&server, &second).get("/api/v1/stats").await.status, 401);
    server.signal(Signal::HUP);
    let works = async |key: &str| Backend::with_key(&server, key).get("/api/v1/stats").await.status == 200;
    eventually("the new key works", async || works(&second).await).await;
    assert!(works(&first).await);
    // A file that cannot be used changes nothing.
    std::fs::write(keys.path(), "second:read\n").unwrap();
    server.signal(Signal::HUP);
    eventually("that is logged", async || server.output().contains("the API keys stay as they were")).await;
    assert!(server.output().contains("line 1 of"), "{}", server.output());
    assert!(works(&first).await && works(&second).await);
}

async fn a_unix_socket_needs_no_key(launch: Launch) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("api.sock");
    let mut server = launch.flag("--api-listen", format!("unix:{}", path.display())).start();
    let ask = "GET /api/v1/stats HTTP/1.1\r\nHost: uproar\r\nConnection: close\r\n\r\n";
    let stats = through_unix_socket(&path, ask).await;
    assert_eq!(stats.status, 200, "{stats:?}");
    assert_eq!(stats.json()["users_online"], 0);
    server.signal(Signal::TERM);
    assert!(server.exit().await.success());
    assert!(!path.exists(), "it is removed at the end");
}

async fn metrics_move_from_the_clients_port_to_the_api(launch: Launch) {
    let keys = ApiKeys::new();
    let key = keys.add("prometheus", &["read"]).await;
    let server = launch.clone().with_api(&keys).start();
    assert_eq!(answer(&server, &request(&server, "GET", "/metrics", "")).await.status, 404);
    Backend::without_key(&server).get("/metrics").await.assert_problem(401, "unauthenticated");
    let metrics = Backend::with_key(&server, &key).get("/metrics").await;
    assert_eq!(metrics.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    assert!(metrics.body.contains("\nuproar_clients 0\n"), "{}", metrics.body);
    let public = launch.with_api(&keys).flag("--metrics", "public").start();
    assert_eq!(answer(&public, &request(&public, "GET", "/metrics", "")).await.status, 200);
    assert_eq!(Backend::with_key(&public, &key).get("/metrics").await.status, 200);
}

async fn no_key_is_logged(launch: Launch) {
    let keys = ApiKeys::new();
    let key = keys.add("backend", &[]).await;
    let server = launch.with_api(&keys).flag("--log-level", "trace").start();
    let _member = Chat::enter(&server).await;
    assert_eq!(Backend::with_key(&server, &key).get("/api/v1/stats").await.json()["users_online"], 1);
    Backend::with_key(&server, "upk_secret").post("/api/v1/stats", &json!({})).await;
    eventually("the request is logged", async || server.output().contains("caller=\"backend\"")).await;
    let output = server.output();
    assert!(!output.contains(&key[4..]) && !output.contains("upk_secret"), "{output}");
}

async fn what_cannot_work_is_refused_at_the_start(_: Launch) {
    let refused = async |arguments: &[&str], said: &str| {
        let finished = run(arguments, &[]).await;
        assert!(finished.code.is_some_and(|code| code != 0), "{arguments:?}");
        assert!(finished.output().contains(said), "{arguments:?}: {}", finished.output());
    };
    let keys = ApiKeys::new();
    let file = keys.path();
    let file = file.to_str().unwrap();
    refused(&["--api-listen", "127.0.0.1:0"], "--api-key-file").await;
    refused(&["--api-listen", "9090"], "unix:").await;
    refused(&["--api-key-file", file], "--api-listen").await;
    refused(&["--api-tls"], "--tls-cert").await;
    refused(&["--metrics", "public"], "--api-listen").await;
    let with = |file| ["--listen", "127.0.0.1:0", "--api-listen", "127.0.0.1:0", "--api-key-file", file];
    refused(&with(file), "has no key; make one with: uproar api-key NAME").await;
    refused(&with("/nonexistent"), "/nonexistent cannot be read").await;
    std::fs::write(file, "backend:everything:00\n").unwrap();
    refused(&with(file), "line 1 of").await;
}
