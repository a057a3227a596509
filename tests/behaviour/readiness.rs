//! `/readyz`: whether a server is to be sent clients. How it says that it cannot store messages is in
//! `failing_disk`.

use crate::harness::{Launch, on_one_server, request, upgrade_request};
use crate::http_paths::answer;

on_one_server! {
    a_server_that_serves_is_ready,
    readiness_is_no_dialect,
}

async fn a_server_that_serves_is_ready(launch: Launch) {
    let server = launch.start();
    let ready = answer(&server, &request(&server, "GET", "/readyz", "")).await;
    assert_eq!((ready.status, ready.body.trim_end()), (200, "ready"));
}

async fn readiness_is_no_dialect(launch: Launch) {
    let server = launch.start();
    assert_eq!(answer(&server, &upgrade_request("/readyz")).await.status, 404);
    assert_eq!(answer(&server, &request(&server, "POST", "/readyz", "")).await.status, 405);
}
