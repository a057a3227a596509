//! The HTTP of the API: what it answers to requests that ask for nothing it has, and how it is bounded.

use rustix::process::Signal;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_rustls::TlsConnector;

use crate::harness::{ApiKeys, Backend, Launch, on_one_and_four_shards_only, read_answer, within};

on_one_and_four_shards_only! {
    unknown_paths_and_methods_are_problems,
    head_answers_as_get_without_the_body,
    parameters_that_are_not_known_are_refused,
    nothing_is_to_be_stored,
    heads_are_bounded,
    rubbish_ends_its_own_connection,
    idle_connections_keep_nobody_out,
    it_speaks_tls_if_asked_to,
    it_ends_with_the_server,
}

/// The most connections of the API.
const CONNECTIONS_MAX: usize = 256;

async fn unknown_paths_and_methods_are_problems(launch: Launch) {
    let keys = ApiKeys::new();
    let key = keys.add("backend", &[]).await;
    let server = launch.with_api(&keys).start();
    let backend = Backend::with_key(&server, &key);
    for path in ["/", "/api/v1", "/api/v1/", "/api/v2/stats", "/chat", "/api/v1/stats/", "/api/v1/%00"] {
        backend.get(path).await.assert_problem(404, "not-found");
    }
    for (method, path, allowed) in [
        ("POST", "/api/v1/stats", "GET,HEAD"),
        ("DELETE", "/metrics", "GET,HEAD"),
        ("PUT", "/healthz", "GET,HEAD"),
    ] {
        let refused = backend.request(method, path, &[], b"").await;
        refused.assert_problem(405, "method-not-allowed");
        assert_eq!(refused.header("allow"), Some(allowed), "{path}");
    }
}

async fn head_answers_as_get_without_the_body(launch: Launch) {
    let keys = ApiKeys::new();
    let key = keys.add("backend", &[]).await;
    let server = launch.with_api(&keys).start();
    let backend = Backend::with_key(&server, &key);
    let head = backend.request("HEAD", "/api/v1/stats", &[], b"").await;
    assert_eq!((head.status, &*head.body), (200, ""));
    assert_eq!(head.header("content-type"), Some("application/json"));
}

async fn parameters_that_are_not_known_are_refused(launch: Launch) {
    let keys = ApiKeys::new();
    let key = keys.add("backend", &[]).await;
    let server = launch.with_api(&keys).start();
    let backend = Backend::with_key(&server, &key);
    let description = backend.get("/api/v1/openapi.json").await.json();
    for (path, methods) in description["paths"].as_object().unwrap() {
        for method in methods.as_object().unwrap().keys().filter(|method| *method != "parameters") {
            let asked = path.replace("{room}", "general").replace("{topic}", "news").replace(['{', '}'], "");
            let answer =
                backend.request(&method.to_uppercase(), &format!("{asked}?dry_run=1"), &[], b"").await;
            if path.starts_with("/api/v1/") {
                answer.assert_problem(422, "invalid");
                assert_eq!(answer.json()["errors"][0]["parameter"], "dry_run", "{method} {path}");
            } else {
                assert_eq!(answer.status, 200, "{method} {path}");
            }
        }
    }
    assert_eq!(backend.get("/admin?from=menu").await.status, 200);
}

async fn nothing_is_to_be_stored(launch: Launch) {
    let keys = ApiKeys::new();
    let key = keys.add("backend", &[]).await;
    let server = launch.with_api(&keys).start();
    for backend in [Backend::with_key(&server, &key), Backend::without_key(&server)] {
        for path in ["/api/v1/stats", "/api/v1/openapi.json", "/metrics", "/healthz", "/nowhere"] {
            let answer = backend.get(path).await;
            assert_eq!(answer.header("cache-control"), Some("no-store"), "{path}");
            assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{path}");
        }
    }
}

async fn heads_are_bounded(launch: Launch) {
    let keys = ApiKeys::new();
    let key = keys.add("backend", &[]).await;
    let server = launch.with_api(&keys).start();
    let backend = Backend::with_key(&server, &key);
    let long = "x".repeat(20 << 10);
    assert_eq!(backend.request("GET", "/healthz", &[("X-Long", &long)], b"").await.status, 431);
    let many: Vec<_> = (0..100).map(|number| (format!("X-{number}"), "x")).collect();
    let many: Vec<_> = many.iter().map(|(name, value)| (&**name, *value)).collect();
    assert_eq!(backend.request("GET", "/healthz", &many, b"").await.status, 431);
    assert_eq!(backend.get("/healthz").await.status, 200);
}

async fn rubbish_ends_its_own_connection(launch: Launch) {
    let keys = ApiKeys::new();
    keys.add("backend", &[]).await;
    let server = launch.with_api(&keys).start();
    let backend = Backend::without_key(&server);
    for rubbish in
        [&b"\r\n\r\n\x00\xff\xfe\r\n\r\n"[..], b"GET\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00", &[0; 100_000]]
    {
        let mut stream = backend.connect().await;
        let _ = stream.write_all(rubbish).await;
        let mut answer = Vec::new();
        let _ = within("end", stream.read_to_end(&mut answer)).await;
        assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 4"), "{answer:?}");
    }
    assert_eq!(backend.get("/healthz").await.status, 200);
}

/// Goal: whoever holds connections open has the API for as long as nobody else wants it, and no longer.
async fn idle_connections_keep_nobody_out(launch: Launch) {
    let keys = ApiKeys::new();
    keys.add("backend", &[]).await;
    let server = launch.with_api(&keys).start();
    let backend = Backend::without_key(&server);
    let mut idle = Vec::new();
    for _ in 0..CONNECTIONS_MAX {
        let mut stream = backend.connect().await;
        // Each has had a request, and may have another one.
        let request = "GET /healthz HTTP/1.1\r\nHost: api\r\n\r\n";
        stream.write_all(request.as_bytes()).await.unwrap();
        assert!(within("answer", stream.read(&mut [0; 512])).await.unwrap() > 0);
        idle.push(stream);
    }
    assert_eq!(backend.get("/healthz").await.status, 200);
    // The one that has been idle longest was closed for it.
    assert_eq!(within("end", idle[0].read(&mut [0; 512])).await.unwrap(), 0);
    let last = idle.last_mut().unwrap();
    last.write_all(b"GET /healthz HTTP/1.1\r\nHost: api\r\nConnection: close\r\n\r\n").await.unwrap();
    assert_eq!(read_answer(last).await.status, 200);
}

async fn it_speaks_tls_if_asked_to(launch: Launch) {
    let keys = ApiKeys::new();
    keys.add("backend", &[]).await;
    let server = launch.over_tls().with_api(&keys).switch("--api-tls").start();
    let certificate = server.certificate().unwrap();
    let backend = Backend::without_key(&server);
    let connector = TlsConnector::from(certificate.usual_client());
    let stream = connector.connect(certificate.name(), backend.connect().await);
    let mut stream = within("TLS handshake", stream).await.unwrap();
    let request = "GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    within("answer", stream.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("\r\n\r\nok"), "{answer}");
    // Plain HTTP gets no answer.
    let mut stream = backend.connect().await;
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: api\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let _ = within("end", stream.read_to_end(&mut answer)).await;
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
}

async fn it_ends_with_the_server(launch: Launch) {
    let keys = ApiKeys::new();
    keys.add("backend", &[]).await;
    let mut server = launch.with_api(&keys).start();
    let mut idle = Backend::without_key(&server).connect().await;
    server.signal(Signal::TERM);
    assert!(server.exit().await.success());
    assert_eq!(within("end", idle.read(&mut [0; 1])).await.unwrap_or(0), 0);
}
