//! Shutdown: everyone is told, what is queued arrives, and the process ends in time.

use futures_util::future::join_all;
use rustix::process::Signal;
use serde_json::json;

use crate::harness::{
    CLOSE, Chat, Launch, Server, Socket, Wire, eventually, frame, on_one_server, request, upgrade_request,
};
use crate::http_paths::{answer, assert_complete};

on_one_server! {
    everyone_is_closed_with_1001_and_nobody_is_said_to_leave,
    an_interrupt_shuts_down_as_well,
    an_idle_server_ends_at_once,
    requests_while_draining_are_answered_503,
    what_is_queued_is_flushed,
    clients_that_do_not_answer_are_not_waited_for_beyond_the_drain_timeout,
    a_receiver_that_never_reads_does_not_stop_the_end,
    silent_requests_do_not_delay_the_end,
    a_second_signal_ends_at_once_with_status_1,
    many_members_are_all_closed_in_time,
    a_hangup_is_no_end,
}

const GOODBYE: (u16, &str) = (1001, "server shutting down");
/// What it says when the drain timeout ends it, and nothing else.
const CUT_OFF: &str = "the drain timeout is over";

async fn everyone_is_closed_with_1001_and_nobody_is_said_to_leave(launch: Launch) {
    let mut server = launch.start();
    let mut members = Chat::crowd(&server, 5).await;
    let mut sockets = Socket::listeners(&server, "/broadcast", 2).await;
    sockets.push(Socket::connect(&server, "/echo").await);
    server.signal(Signal::TERM);
    for member in &mut members {
        // The close comes next, so no leave came before it.
        let (code, reason) = member.closed().await;
        assert_eq!((code, reason.as_str()), GOODBYE);
    }
    for socket in &mut sockets {
        let (code, reason) = socket.closed().await;
        assert_eq!((code, reason.as_str()), GOODBYE);
    }
    assert_eq!(server.exit().await.code(), Some(0));
}

async fn an_interrupt_shuts_down_as_well(launch: Launch) {
    let mut server = launch.start();
    let mut alice = Chat::enter(&server).await;
    server.signal(Signal::INT);
    assert_eq!(alice.closed().await.0, 1001);
    assert_eq!(server.exit().await.code(), Some(0));
}

async fn an_idle_server_ends_at_once(launch: Launch) {
    let mut server = launch.flag("--drain-timeout", "10m").start();
    server.signal(Signal::TERM);
    assert_eq!(server.exit().await.code(), Some(0));
}

async fn requests_while_draining_are_answered_503(launch: Launch) {
    let mut server = launch.start();
    let _stubborn = draining(&server).await;
    let requests = [
        request(&server, "GET", "/healthz", ""),
        request(&server, "GET", "/", ""),
        upgrade_request("/chat"),
        upgrade_request("/echo"),
    ];
    // All at once, for it does not drain for long.
    let responses = join_all(requests.iter().map(|request| answer(&server, request))).await;
    for (request, response) in requests.iter().zip(responses) {
        assert_eq!(response.status, 503, "{request}");
        assert_eq!(response.body.trim_end(), "draining", "{request}");
        assert_complete(&response);
    }
    assert_eq!(server.exit().await.code(), Some(0));
}

async fn what_is_queued_is_flushed(launch: Launch) {
    const WORDS: usize = 400;
    let launch = without_pings(launch.without_rate_limit());
    let mut server = launch.flag("--send-queue", "16MiB").start();
    let mut alice = Chat::enter(&server).await;
    let mut wire = Wire::connect_narrow(&server).await;
    wire.upgrade_to("/chat").await;
    assert_eq!(alice.next().await["type"], "join");
    let content = "x".repeat(10_000);
    alice.messages(vec![content.clone(); WORDS]).await;
    server.signal(Signal::TERM);
    assert_eq!(alice.closed().await.0, 1001);
    for kind in ["welcome", "users", "history"] {
        assert!(wire.text().await.contains(&format!("{kind:?}")));
    }
    let (mut heard, mut is_told_to_return) = (0, false);
    let close = loop {
        let next = wire.frame().await.expect("a close frame before the end");
        if next.opcode == CLOSE {
            break next.payload;
        }
        assert!(next.is_final && !is_told_to_return);
        is_told_to_return = next.payload.len() < content.len();
        heard += usize::from(!is_told_to_return);
    };
    assert_eq!(heard, WORDS, "words that alice knows to be sent");
    assert!(is_told_to_return);
    assert_eq!(close[..2], GOODBYE.0.to_be_bytes());
    assert_eq!(close[2..], *GOODBYE.1.as_bytes());
    drop(wire);
    assert_eq!(server.exit().await.code(), Some(0));
}

async fn clients_that_do_not_answer_are_not_waited_for_beyond_the_drain_timeout(launch: Launch) {
    let mut server = launch.flag("--drain-timeout", "500ms").start();
    let _stubborn = draining(&server).await;
    assert_eq!(server.exit().await.code(), Some(0));
    assert!(server.output().contains(CUT_OFF), "it would have waited for the answer for longer");
}

async fn a_receiver_that_never_reads_does_not_stop_the_end(launch: Launch) {
    let launch = without_pings(launch.without_rate_limit()).flag("--send-queue", "64MiB");
    let mut server = launch.flag("--drain-timeout", "1s").start();
    let mut alice = Chat::enter(&server).await;
    let mut wire = Wire::connect_narrow(&server).await;
    wire.upgrade_to("/chat").await;
    assert_eq!(alice.next().await["type"], "join");
    let content = "x".repeat(10_000);
    alice.messages(vec![content; 600]).await;
    server.signal(Signal::TERM);
    assert_eq!(alice.closed().await.0, 1001);
    assert_eq!(server.exit().await.code(), Some(0));
    assert!(server.output().contains(CUT_OFF), "it would have waited for the reader for longer");
}

async fn silent_requests_do_not_delay_the_end(launch: Launch) {
    let mut server = launch.flag("--drain-timeout", "1s").start();
    let _silent = Wire::connect(&server).await;
    let mut begun = Wire::connect(&server).await;
    begun.send("GET / HTTP/1.1\r\n").await;
    server.signal(Signal::TERM);
    assert_eq!(server.exit().await.code(), Some(0));
}

async fn a_second_signal_ends_at_once_with_status_1(launch: Launch) {
    for second in [Signal::TERM, Signal::INT] {
        let mut server = launch.clone().flag("--drain-timeout", "60s").start();
        let _stubborn = draining(&server).await;
        assert!(server.is_running());
        server.signal(second);
        assert_eq!(server.exit().await.code(), Some(1));
    }
}

async fn many_members_are_all_closed_in_time(launch: Launch) {
    let mut server = launch.start();
    let mut members = Vec::new();
    for _ in 0..300 {
        members.push(Wire::upgrade(&server, "/chat").await);
    }
    server.signal(Signal::TERM);
    for member in &mut members {
        // Whom the drain timeout cuts off is told nothing.
        loop {
            let heard = member.frame().await.expect("a close before the end");
            let text = String::from_utf8_lossy(&heard.payload).into_owned();
            assert!(!text.contains("\"leave\""), "{text}");
            if heard.opcode == CLOSE {
                assert_eq!(heard.payload[..2], 1001_u16.to_be_bytes());
                member.send_anyway(frame(CLOSE, &heard.payload)).await;
                break;
            }
        }
    }
    assert_eq!(server.exit().await.code(), Some(0));
}

async fn a_hangup_is_no_end(launch: Launch) {
    let mut server = launch.start();
    let [mut alice, mut bob] = Chat::members(&server).await;
    for count in 1..=3 {
        server.signal(Signal::HUP);
        let lines = || server.output().matches("nothing was read again").count();
        let reloads = || server.output().matches("new connections get the certificate").count();
        eventually("the signal is logged", async || lines() + reloads() == count).await;
    }
    alice.message("still here").await;
    assert_eq!(bob.next().await["content"], "still here");
    server.signal(Signal::TERM);
    assert_eq!(alice.closed().await.0, 1001);
    assert_eq!(server.exit().await.code(), Some(0));
}

/// Pings would come between the words of a slow machine.
fn without_pings(launch: Launch) -> Launch {
    launch.flag("--ping-interval", "10m").flag("--idle-timeout", "20m")
}

/// Sends the first signal and returns once the server drains, with a connection that keeps it
/// from ending: one that does not answer its close.
async fn draining(server: &Server) -> Wire {
    let mut alice = Chat::enter(server).await;
    let stubborn = Wire::upgrade(server, "/chat").await;
    let join = alice.next().await;
    assert_eq!((&join["type"], &join["content"]["users_online"]), (&json!("join"), &json!(2)));
    server.signal(Signal::TERM);
    assert_eq!(alice.closed().await.0, 1001);
    stubborn
}
