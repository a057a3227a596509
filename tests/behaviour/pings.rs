//! Pings, from both sides, and what becomes of the silent.

use std::time::Duration;

use futures_util::future::join_all;
use rustix::process::Signal;
use tokio::time::{Instant, sleep};

use crate::harness::{CLOSE, Launch, PING, PONG, Server, TEXT, Wire, frame, on_one_server};

on_one_server! {
    a_ping_is_answered_with_its_payload,
    a_silent_connection_is_pinged_and_stays_while_it_answers,
    a_connection_that_answers_no_ping_is_closed_with_1001,
    unasked_pongs_are_ignored,
    a_half_sent_frame_does_not_keep_a_connection_forever,
    nobody_is_called_silent_for_a_time_in_which_the_server_stood_still,
}

const DIALECTS: [&str; 3] = ["/chat", "/broadcast", "/echo"];

async fn a_ping_is_answered_with_its_payload(launch: Launch) {
    let server = launch.start();
    for path in DIALECTS.into_iter().chain(["/ws"]) {
        let mut wire = connect(&server, path).await;
        for payload in [&b""[..], b"hello", &[0xff; 125]] {
            wire.send(frame(PING, payload)).await;
            let pong = wire.frame().await.unwrap();
            assert_eq!((pong.opcode, pong.payload.as_slice()), (PONG, payload), "{path}");
        }
    }
}

async fn a_silent_connection_is_pinged_and_stays_while_it_answers(launch: Launch) {
    let server = hurried(launch).start();
    let each_dialect = DIALECTS.map(async |path| {
        let mut wire = connect(&server, path).await;
        let start = Instant::now();
        // Fifteen intervals are longer than the idle timeout.
        for _ in 0..15 {
            let ping = wire.frame().await.unwrap();
            assert_eq!(ping.opcode, PING, "{path}");
            wire.send(frame(PONG, ping.payload)).await;
        }
        let elapsed = start.elapsed();
        assert!(elapsed >= Duration::from_millis(2500), "fifteen pings within {elapsed:?}");
        wire.send(frame(CLOSE, 1000_u16.to_be_bytes())).await;
        assert_eq!(wire.close().await.0, 1000);
    });
    join_all(each_dialect).await;
}

async fn a_connection_that_answers_no_ping_is_closed_with_1001(launch: Launch) {
    let server = hurried(launch).start();
    let each_dialect = DIALECTS.map(async |path| {
        let mut wire = connect(&server, path).await;
        let start = Instant::now();
        let ping = wire.frame().await.unwrap();
        assert_eq!(ping.opcode, PING, "{path}");
        assert_eq!(wire.close().await.0, 1001, "{path}");
        let elapsed = start.elapsed();
        assert!(elapsed >= Duration::from_millis(1900), "{path} closed after {elapsed:?}");
    });
    join_all(each_dialect).await;
}

async fn unasked_pongs_are_ignored(launch: Launch) {
    let server = launch.start();
    let mut wire = connect(&server, "/echo").await;
    wire.send([frame(PONG, ""), frame(PONG, "unasked"), frame(TEXT, "a word")].concat()).await;
    assert_eq!(wire.text().await, "a word");
}

/// A frame that never ends is silence, too, once no byte of it comes any more.
async fn a_half_sent_frame_does_not_keep_a_connection_forever(launch: Launch) {
    let server = hurried(launch).start();
    let mut wire = connect(&server, "/echo").await;
    let word = frame(TEXT, "never finished");
    wire.send(&word[..word.len() - 1]).await;
    assert_eq!(wire.close().await.0, 1001);
}

/// As when its machine is frozen, or a write of its is blocked: it could not ping, and hears only afterwards what
/// was said.
async fn nobody_is_called_silent_for_a_time_in_which_the_server_stood_still(launch: Launch) {
    const EACH: usize = 40;
    // A busy machine has nearly four seconds, in which hub members must be heard.
    let server = launch.flag("--ping-interval", "200ms").flag("--idle-timeout", "4s").start();
    let mut wires = Vec::new();
    for path in DIALECTS {
        for _ in 0..EACH {
            wires.push(connect(&server, path).await);
        }
    }
    // All of them have been heard of.
    join_all(wires.iter_mut().map(answer_a_ping)).await;
    server.signal(Signal::STOP);
    // This long is what the test is about: longer than the idle timeout.
    sleep(Duration::from_secs(6)).await;
    for wire in &mut wires[EACH..] {
        wire.send(frame(TEXT, "still here")).await;
    }
    server.signal(Signal::CONT);
    // The silent ones are pinged, the others are heard, and all of them stay.
    let each_wire = wires.iter_mut().map(async |wire| {
        for _ in 0..3 {
            answer_a_ping(wire).await;
        }
    });
    join_all(each_wire).await;
}

/// Waits for a ping, whatever comes before it, and answers.
async fn answer_a_ping(wire: &mut Wire) {
    loop {
        let ping = wire.frame().await.expect("the connection stays");
        assert_ne!(ping.opcode, CLOSE, "{:?}", String::from_utf8_lossy(&ping.payload));
        if ping.opcode == PING {
            return wire.send(frame(PONG, ping.payload)).await;
        }
    }
}

/// A busy machine has nearly two seconds to ask and to answer.
fn hurried(launch: Launch) -> Launch {
    launch.flag("--ping-interval", "200ms").flag("--idle-timeout", "2s")
}

/// A connection that has been told what a newcomer is told.
async fn connect(server: &Server, path: &str) -> Wire {
    let mut wire = Wire::upgrade(server, path).await;
    if path == "/ws" {
        assert!(wire.text().await.contains("\"handshake\""));
    }
    if path == "/chat" {
        for kind in ["welcome", "users", "history"] {
            assert!(wire.text().await.contains(&format!("{kind:?}")));
        }
    }
    wire
}
