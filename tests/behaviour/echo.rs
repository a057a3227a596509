//! The echo dialect: every message comes back unchanged, to its sender alone.

use tokio_tungstenite::tungstenite::Message;

use crate::harness::{CONTINUATION, Launch, PING, PONG, Socket, TEXT, Wire, frame, on_one_server, part};

on_one_server! {
    every_message_comes_back_unchanged,
    echoes_come_in_turn_and_to_their_sender_alone,
    control_frames_between_fragments_are_answered_at_once,
    a_message_over_the_frame_limit_closes_with_1009,
    the_frame_limit_can_be_set,
}

async fn every_message_comes_back_unchanged(launch: Launch) {
    let server = launch.start();
    let mut socket = Socket::connect(&server, "/echo").await;
    for length in [0, 1, 125, 126, 127, 65_535, 65_536] {
        for message in [Message::text("x".repeat(length)), Message::binary(vec![0xff; length])] {
            socket.send(message.clone()).await;
            assert!(socket.next().await == Some(message), "{length} bytes changed");
        }
    }
    socket.send("日本\0\u{10ffff}").await;
    assert_eq!(socket.text().await, "日本\0\u{10ffff}");
}

async fn echoes_come_in_turn_and_to_their_sender_alone(launch: Launch) {
    let server = launch.start();
    let mut one = Socket::connect(&server, "/echo").await;
    let mut other = Socket::connect(&server, "/echo").await;
    let words = |who: &str| (0..500).map(|n| format!("{who} {n}")).collect::<Vec<_>>();
    one.send_all(words("one").into_iter().map(Message::text)).await;
    other.send_all(words("other").into_iter().map(Message::text)).await;
    for word in words("one") {
        assert_eq!(one.text().await, word);
    }
    for word in words("other") {
        assert_eq!(other.text().await, word);
    }
}

async fn control_frames_between_fragments_are_answered_at_once(launch: Launch) {
    let server = launch.start();
    let mut wire = Wire::upgrade(&server, "/echo").await;
    wire.send(part(TEXT, "first, ")).await;
    wire.send(frame(PING, "now")).await;
    let pong = wire.frame().await.unwrap();
    assert_eq!((pong.opcode, pong.payload.as_slice()), (PONG, &b"now"[..]));
    wire.send(frame(PONG, "unasked")).await;
    wire.send(frame(CONTINUATION, "last")).await;
    assert_eq!(wire.text().await, "first, last");
}

async fn a_message_over_the_frame_limit_closes_with_1009(launch: Launch) {
    let server = launch.start();
    let mut socket = Socket::connect(&server, "/echo").await;
    socket.send("x".repeat(65_537)).await;
    assert_eq!(socket.closed().await.0, 1009);
}

async fn the_frame_limit_can_be_set(launch: Launch) {
    let server = launch.flag("--max-frame", "100KiB").start();
    let mut socket = Socket::connect(&server, "/echo").await;
    let largest = Message::binary(vec![1; 100 * 1024]);
    socket.send(largest.clone()).await;
    assert!(socket.next().await == Some(largest), "the largest message changed");
    socket.send(vec![1; 100 * 1024 + 1]).await;
    assert_eq!(socket.closed().await.0, 1009);
}
