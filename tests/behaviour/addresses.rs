//! What one address may have. The clients here are on this machine, so it is told to have limits, too.

use std::net::IpAddr;
use std::time::Instant;

use crate::harness::{Launch, Response, Server, TokenKey, Wire, eventually, on_one_server, upgrade_request};
use crate::http_paths::assert_complete;
use crate::metrics::scrape;

on_one_server! {
    an_address_has_so_many_clients,
    an_address_connects_so_often_in_a_second,
    zero_is_no_limit,
    this_machine_has_no_limits_by_default,
    a_forbidden_origin_comes_ahead_of_the_limits_and_a_full_server_behind_them,
    a_refused_client_that_lingers_takes_no_place,
    a_client_that_lingers_at_a_full_server_takes_no_place,
    refusals_are_counted_by_their_reason_and_logged_once_a_second,
}

/// Leaves nobody on this machine without limits.
fn limited(launch: Launch) -> Launch {
    launch.flag("--no-limit-for", "192.0.2.1")
}

async fn an_address_has_so_many_clients(launch: Launch) {
    let server = limited(launch).flag("--max-clients-per-address", 2).start();
    let first = enter(&server, "127.0.0.1").await;
    let _second = enter(&server, "127.0.0.1").await;
    for path in ["/", "/chat", "/ws", "/broadcast/news", "/echo"] {
        let refusal = refusal(&server, "127.0.0.1", path).await;
        assert_eq!((refusal.status, refusal.body.as_str()), (429, "Too many connections from your address"));
    }
    let _other = enter(&server, "127.0.0.2").await;
    drop(first);
    eventually("a place is free again", async || try_to_enter(&server, "127.0.0.1").await.is_some()).await;
}

async fn an_address_connects_so_often_in_a_second(launch: Launch) {
    let server = limited(launch).flag("--connect-rate-per-address", 1).start();
    let mut refused = None;
    // Bounded, and more than enough: each of them would have to take a second.
    for _ in 0..50 {
        let mut wire = Wire::connect_from(&server, address("127.0.0.1")).await;
        wire.send(upgrade_request("/echo")).await;
        let response = wire.head().await;
        if response.status != 101 {
            refused = Some(response);
            break;
        }
    }
    let refused = refused.expect("a refusal");
    assert_eq!((refused.status, refused.header("retry-after")), (429, Some("1")));
    let _other = enter(&server, "127.0.0.2").await;
    eventually("the second is over", async || try_to_enter(&server, "127.0.0.1").await.is_some()).await;
}

async fn zero_is_no_limit(launch: Launch) {
    let launch = limited(launch).flag("--max-clients-per-address", 0).flag("--connect-rate-per-address", 0);
    let server = launch.start();
    let mut clients = Vec::new();
    for _ in 0..20 {
        clients.push(enter(&server, "127.0.0.1").await);
    }
}

async fn this_machine_has_no_limits_by_default(launch: Launch) {
    let launch = launch.flag("--max-clients-per-address", 1).flag("--connect-rate-per-address", 1);
    let server = launch.start();
    let mut clients = Vec::new();
    for _ in 0..10 {
        clients.push(enter(&server, "127.0.0.1").await);
    }
}

async fn a_forbidden_origin_comes_ahead_of_the_limits_and_a_full_server_behind_them(launch: Launch) {
    let launch = limited(launch).flag("--max-clients-per-address", 1).flag("--max-clients", 1);
    let server = launch.start();
    let _inside = enter(&server, "127.0.0.1").await;
    let forbidden = upgrade_request("/echo").replace("\r\n\r\n", "\r\nOrigin: https://evil.example\r\n\r\n");
    let mut wire = Wire::connect(&server).await;
    wire.send(forbidden).await;
    assert_eq!(wire.response().await.status, 403);
    assert_eq!(refusal(&server, "127.0.0.1", "/echo").await.status, 429);
    let mut wire = enter(&server, "127.0.0.2").await;
    assert_eq!(wire.text().await, "Server is full");
}

async fn a_refused_client_that_lingers_takes_no_place(launch: Launch) {
    let key = TokenKey::new();
    let launch = limited(launch).flag("--max-clients-per-address", 1).flag("--topics-max", 1);
    let launch = launch.flag("--token-key", key.path().display());
    let server = launch.start();
    let (_first, status) = answered(&server, "127.0.0.2", &upgrade_request("/broadcast/a")).await;
    assert_eq!(status, 101);
    let no_right = key.token("ann", &["--topic", "a"]).await;
    for (number, (refused, wanted)) in [
        (upgrade_request("/broadcast/a?token=none"), 401),
        (upgrade_request(&format!("/broadcast/b?token={no_right}")), 403),
        (upgrade_request("/broadcast/b"), 503),
    ]
    .iter()
    .enumerate()
    {
        let from = format!("127.0.0.{}", number + 3);
        let (_lingering, status) = answered(&server, &from, refused).await;
        assert_eq!(status, *wanted, "{refused}");
        let (_other, status) = answered(&server, &from, &upgrade_request("/broadcast/a")).await;
        assert_eq!(status, 101, "{refused}");
    }
}

async fn a_client_that_lingers_at_a_full_server_takes_no_place(launch: Launch) {
    let launch = limited(launch).flag("--max-clients-per-address", 1).flag("--topics-max", 2);
    let server = launch.flag("--max-clients", 1).start();
    let (_inside, status) = answered(&server, "127.0.0.2", &upgrade_request("/broadcast/a")).await;
    assert_eq!(status, 101);
    let mut lingering = Vec::new();
    for topic in ["b", "c"] {
        let request = upgrade_request(&format!("/broadcast/{topic}"));
        let (mut wire, status) = answered(&server, "127.0.0.1", &request).await;
        assert_eq!(status, 101, "{topic}");
        assert_eq!(wire.text().await, "Server is full");
        lingering.push(wire);
    }
}

async fn refusals_are_counted_by_their_reason_and_logged_once_a_second(launch: Launch) {
    let server = limited(launch).flag("--max-clients-per-address", 1).start();
    let _inside = enter(&server, "127.0.0.1").await;
    let begun = Instant::now();
    for _ in 0..20 {
        assert_eq!(refusal(&server, "127.0.0.1", "/echo").await.status, 429);
    }
    let lines_max = begun.elapsed().as_secs() as usize + 2;
    let counted = scrape(&server).await;
    let line = "refused_total{reason=\"address_clients\"} 20";
    assert!(counted.lines().any(|counted| counted.ends_with(line)), "{counted}");
    let lines = || server.output().matches("--max-clients-per-address allows").count();
    eventually("a line", async || lines() > 0).await;
    assert!(lines() <= lines_max, "{} lines, not {lines_max}", lines());
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// An upgraded connection from that address.
async fn enter(server: &Server, from: &str) -> Wire {
    try_to_enter(server, from).await.expect("a 101")
}

async fn try_to_enter(server: &Server, from: &str) -> Option<Wire> {
    let mut wire = Wire::connect_from(server, address(from)).await;
    wire.send(upgrade_request("/echo")).await;
    (wire.head().await.status == 101).then_some(wire)
}

/// A connection from that address after the head of the answer to its upgrade, and its status.
async fn answered(server: &Server, from: &str, request: &str) -> (Wire, u16) {
    let mut wire = Wire::connect_from(server, address(from)).await;
    wire.send(request).await;
    let status = wire.head().await.status;
    (wire, status)
}

/// The answer to an upgrade that is refused.
async fn refusal(server: &Server, from: &str, path: &str) -> Response {
    let mut wire = Wire::connect_from(server, address(from)).await;
    wire.send(upgrade_request(path)).await;
    let response = wire.response().await;
    assert_complete(&response);
    response
}
