//! The closing handshake.

use std::time::Duration;

use tokio::time::Instant;

use crate::harness::{CLOSE, Launch, Server, TEXT, Wire, frame, on_one_server};

on_one_server! {
    a_close_is_answered_with_its_code_and_the_server_ends_first,
    a_close_without_a_code_is_answered,
    what_was_sent_before_a_close_is_answered_before_it,
    a_close_that_is_malformed_is_a_protocol_error,
    a_client_that_does_not_answer_a_close_is_cut_off,
    a_client_that_answers_a_close_is_ended_at_once,
}

async fn a_close_is_answered_with_its_code_and_the_server_ends_first(launch: Launch) {
    let server = launch.start();
    for path in ["/chat", "/broadcast", "/echo"] {
        for code in [1000, 1001, 1003, 1007, 1011, 3000, 4999] {
            let mut wire = connect(&server, path).await;
            let mut payload = u16::to_be_bytes(code).to_vec();
            payload.extend(b"that is all");
            wire.send(frame(CLOSE, payload)).await;
            assert_eq!(wire.close().await.0, code, "{path}");
            wire.end().await;
        }
    }
}

async fn a_close_without_a_code_is_answered(launch: Launch) {
    let server = launch.start();
    let mut wire = connect(&server, "/echo").await;
    wire.send(frame(CLOSE, "")).await;
    let close = wire.frame().await.unwrap();
    assert_eq!(close.opcode, CLOSE);
    assert!([&b""[..], &[0x03, 0xe8]].contains(&close.payload.as_slice()), "{close:?}");
    wire.end().await;
}

async fn what_was_sent_before_a_close_is_answered_before_it(launch: Launch) {
    let server = launch.start();
    let mut wire = connect(&server, "/echo").await;
    let mut bytes = Vec::new();
    for n in 0..100 {
        bytes.extend(frame(TEXT, format!("word {n}")));
    }
    bytes.extend(frame(CLOSE, 1000_u16.to_be_bytes()));
    wire.send(bytes).await;
    for n in 0..100 {
        assert_eq!(wire.text().await, format!("word {n}"));
    }
    assert_eq!(wire.close().await.0, 1000);
    wire.end().await;
}

async fn a_close_that_is_malformed_is_a_protocol_error(launch: Launch) {
    let server = launch.start();
    let codes = [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65_535];
    let mut payloads: Vec<Vec<u8>> = codes.map(|code: u16| code.to_be_bytes().to_vec()).into();
    payloads.push(vec![3]);
    for path in ["/chat", "/broadcast", "/echo"] {
        for payload in &payloads {
            let mut wire = connect(&server, path).await;
            wire.send(frame(CLOSE, payload)).await;
            assert_eq!(wire.close().await.0, 1002, "{payload:?} to {path}");
            wire.end().await;
        }
    }
    // A reason that is no UTF-8 breaks two rules.
    let mut wire = connect(&server, "/echo").await;
    wire.send(frame(CLOSE, b"\x03\xe8\xff")).await;
    assert!([1002, 1007].contains(&wire.close().await.0));
}

/// It has two seconds to answer: no less, and not for ever.
async fn a_client_that_does_not_answer_a_close_is_cut_off(launch: Launch) {
    let server = hasty(launch).start();
    let before = server.sockets();
    let (mut wire, since) = closed_for_its_silence(&server).await;
    assert_eq!(server.sockets(), before + 1);
    wire.end().await;
    let waited = since.elapsed();
    assert!(waited >= Duration::from_millis(1500), "cut off after {waited:?}");
    server.falls_to_sockets(before).await;
}

async fn a_client_that_answers_a_close_is_ended_at_once(launch: Launch) {
    let server = hasty(launch).start();
    let before = server.sockets();
    let (mut wire, since) = closed_for_its_silence(&server).await;
    wire.send(frame(CLOSE, 1001_u16.to_be_bytes())).await;
    wire.end().await;
    drop(wire);
    server.falls_to_sockets(before).await;
    // Without the answer it would have had its two seconds.
    let waited = since.elapsed();
    assert!(waited < Duration::from_millis(1500), "closed after {waited:?}");
}

fn hasty(launch: Launch) -> Launch {
    launch.flag("--ping-interval", "100ms").flag("--idle-timeout", "300ms")
}

/// A connection that the server has just begun to close, and whose answer it waits for. After most
/// errors of the peer it would not wait, for it reads no more.
async fn closed_for_its_silence(server: &Server) -> (Wire, Instant) {
    let mut wire = connect(server, "/echo").await;
    assert_eq!(wire.close().await.0, 1001);
    (wire, Instant::now())
}

async fn connect(server: &Server, path: &str) -> Wire {
    Wire::upgrade(server, path).await
}
