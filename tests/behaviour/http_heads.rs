//! Request heads that are slow, large, broken, or cut off.

use std::time::Duration;

use rustix::process::Signal;
use tokio::time::{interval, sleep};

use crate::harness::{Launch, PATIENCE, Server, Wire, on_one_server, request};
use crate::http_paths::{answer, assert_complete};

on_one_server! {
    a_head_that_does_not_end_in_time_is_timed_out,
    a_connection_that_says_nothing_is_timed_out,
    dribbling_does_not_extend_the_deadline,
    a_head_that_came_while_the_server_stood_still_is_answered,
    a_head_in_single_bytes_is_understood,
    a_head_of_sixteen_kibibytes_is_the_largest,
    the_largest_head_can_be_set,
    a_request_names_its_host_exactly_once,
    a_refusal_arrives_although_much_follows_the_head,
    many_small_headers_are_no_offence,
    unreadable_heads_are_bad_requests,
    an_answer_reaches_a_client_that_stopped_sending,
    a_head_cut_off_by_the_end_is_not_waited_for,
    silent_connections_delay_nobody,
}

const HEAD_MAX: usize = 16 * 1024;

async fn a_head_that_does_not_end_in_time_is_timed_out(launch: Launch) {
    let server = launch.flag("--handshake-timeout", "200ms").start();
    for beginning in ["G", "GET / HTTP/1.1\r\n", "GET / HTTP/1.1\r\nHost: x\r\n"] {
        let response = answer(&server, beginning).await;
        assert_eq!(response.status, 408, "{beginning:?}");
    }
}

async fn a_connection_that_says_nothing_is_timed_out(launch: Launch) {
    let server = launch.flag("--handshake-timeout", "200ms").start();
    assert_eq!(answer(&server, "").await.status, 408);
}

async fn dribbling_does_not_extend_the_deadline(launch: Launch) {
    let server = launch.flag("--handshake-timeout", "300ms").start();
    let mut wire = Wire::connect(&server).await;
    wire.send("GET / HTTP/1.1\r\nX-Slow: ").await;
    // The pace is the attack: a byte comes long before any timeout for a single read.
    let mut pace = interval(Duration::from_millis(30));
    let bytes = PATIENCE.as_millis() / pace.period().as_millis();
    for _ in 0..bytes {
        tokio::select! {
            _ = pace.tick() => wire.send_anyway("x").await,
            is_open = wire.receive() => {
                assert!(is_open, "an answer comes before the end");
                assert_eq!(wire.head().await.status, 408);
                return;
            }
        }
    }
    panic!("no end of the dribbling");
}

/// A deadline that has passed meanwhile says nothing of the client.
async fn a_head_that_came_while_the_server_stood_still_is_answered(launch: Launch) {
    let server = launch.flag("--handshake-timeout", "3s").start();
    let mut wire = Wire::connect(&server).await;
    let head = request(&server, "GET", "/healthz", "");
    let (beginning, rest) = head.split_at(10);
    wire.send(beginning).await;
    server.signal(Signal::STOP);
    wire.send(rest).await;
    // This long is what the test is about: longer than the handshake timeout.
    sleep(Duration::from_secs(5)).await;
    server.signal(Signal::CONT);
    assert_eq!(wire.response().await.status, 200);
}

async fn a_head_in_single_bytes_is_understood(launch: Launch) {
    let server = launch.start();
    let mut wire = Wire::connect(&server).await;
    wire.dribble(request(&server, "GET", "/healthz", "")).await;
    assert_eq!(wire.response().await.status, 200);
}

async fn a_head_of_sixteen_kibibytes_is_the_largest(launch: Launch) {
    let server = launch.start();
    let largest = head_of(&server, HEAD_MAX);
    assert_eq!(answer(&server, &largest).await.status, 200);
    // Five bytes more are over the limit, whether or not it counts the empty line.
    let larger = head_of(&server, HEAD_MAX + 5);
    assert_eq!(answer(&server, &larger).await.status, 431);
    let endless = "GET / HTTP/1.1\r\nX: ".to_owned() + &"x".repeat(HEAD_MAX);
    assert_eq!(answer(&server, &endless).await.status, 431);
}

async fn the_largest_head_can_be_set(launch: Launch) {
    for (setting, bytes) in [("1KiB", 1024), ("40000", 40_000)] {
        let server = launch.clone().flag("--max-head", setting).start();
        assert_eq!(answer(&server, &head_of(&server, bytes)).await.status, 200);
        assert_eq!(answer(&server, &head_of(&server, bytes + 5)).await.status, 431);
    }
}

/// RFC 9112, 3.2.
async fn a_request_names_its_host_exactly_once(launch: Launch) {
    let server = launch.start();
    for (hosts, status) in [
        ("Host: here\r\n", 200),
        ("host: here:8080\r\n", 200),
        ("Host: [::1]:8080\r\n", 200),
        ("Host:\r\n", 200),
        ("", 400),
        ("Host: here\r\nHost: here\r\n", 400),
        ("Host: here, there/\r\n", 400),
        ("Host: a b/c@d\r\n", 400),
        ("Host: user@here\r\n", 400),
        ("Host: http://here\r\n", 400),
        ("Host: here:http\r\n", 400),
        ("Host: [::1\r\n", 400),
    ] {
        let get = format!("GET /healthz HTTP/1.1\r\n{hosts}\r\n");
        assert_eq!(answer(&server, &get).await.status, status, "{hosts:?}");
    }
    // HTTP/1.0 need not name it.
    assert_eq!(answer(&server, "GET /healthz HTTP/1.0\r\n\r\n").await.status, 200);
    // An absolute target does not make up for a missing one.
    let absolute = "GET http://here/healthz HTTP/1.1\r\n\r\n";
    assert_eq!(answer(&server, absolute).await.status, 400);
}

/// Closing a socket with bytes left unread resets it, and a reset can overtake the response.
async fn a_refusal_arrives_although_much_follows_the_head(launch: Launch) {
    let server = launch.start();
    for (request, status) in [
        (head_of(&server, 64 * 1024), 431),
        (request(&server, "POST", "/", "Content-Length: 100000\r\n") + &"x".repeat(100_000), 405),
        (request(&server, "GET", "/nothing", "") + &"x".repeat(100_000), 404),
    ] {
        let mut wire = Wire::connect(&server).await;
        wire.send_anyway(&request).await;
        let response = wire.response().await;
        assert_eq!(response.status, status);
        assert_complete(&response);
    }
}

async fn many_small_headers_are_no_offence(launch: Launch) {
    let server = launch.start();
    let headers: String = (0..100).map(|n| format!("X-{n}: {n}\r\n")).collect();
    let request = request(&server, "GET", "/healthz", &headers);
    assert_eq!(answer(&server, &request).await.status, 200);
}

async fn unreadable_heads_are_bad_requests(launch: Launch) {
    let server = launch.start();
    for head in [
        "GET\r\n\r\n",
        "GET /\r\n\r\n",
        "\0\u{1}\u{2}\r\n\r\n",
        "GET / HTTP/9.9\r\n\r\n",
        "GET / HTTP/1.1\r\nno colon\r\n\r\n",
        "GET / HTTP/1.1\r\nBad\0Name: x\r\n\r\n",
        "GET / HTTP/1.1\r\n: no name\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ] {
        assert_eq!(answer(&server, head).await.status, 400, "{head:?}");
    }
}

async fn an_answer_reaches_a_client_that_stopped_sending(launch: Launch) {
    let server = launch.start();
    for (path, status) in [("/", 200), ("/healthz", 200), ("/nothing", 404)] {
        let mut wire = Wire::connect(&server).await;
        wire.send(request(&server, "GET", path, "")).await;
        wire.half_close().await;
        let response = wire.response().await;
        assert_eq!(response.status, status);
        assert_complete(&response);
    }
}

async fn a_head_cut_off_by_the_end_is_not_waited_for(launch: Launch) {
    let server = launch.flag("--handshake-timeout", "1h").start();
    for beginning in ["", "GET", "GET / HTTP/1.1\r\nHost: x\r\n"] {
        let mut wire = Wire::connect(&server).await;
        wire.send(beginning).await;
        wire.half_close().await;
        if wire.receive().await {
            assert_eq!(wire.head().await.status, 400, "{beginning:?}");
            while wire.receive().await {}
        }
    }
}

async fn silent_connections_delay_nobody(launch: Launch) {
    let server = launch.start();
    let mut silent = Vec::new();
    for _ in 0..100 {
        silent.push(Wire::connect(&server).await);
    }
    let request = request(&server, "GET", "/healthz", "");
    assert_eq!(answer(&server, &request).await.status, 200);
    // They are not forgotten either: each can still speak.
    for mut wire in silent {
        wire.send(&request).await;
        assert_eq!(wire.response().await.status, 200);
    }
}

/// A valid request whose head takes exactly `length` bytes.
fn head_of(server: &Server, length: usize) -> String {
    let bare = request(server, "GET", "/healthz", "X-Padding: \r\n").len();
    let padding = "x".repeat(length - bare);
    let head = request(server, "GET", "/healthz", &format!("X-Padding: {padding}\r\n"));
    assert_eq!(head.len(), length);
    head
}
