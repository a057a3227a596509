//! Frames as bytes: what RFC 6455 forbids, and what it allows although it is rare.

use crate::harness::{
    BINARY, CLOSE, CONTINUATION, Header, Launch, PING, PONG, Server, TEXT, Wire, frame, on_one_server, part,
};

on_one_server! {
    protocol_errors_close_with_1002,
    a_protocol_error_in_chat_closes_with_1002,
    lengths_beyond_the_frame_limit_close_with_1009,
    fragments_beyond_the_frame_limit_close_with_1009,
    text_that_is_no_utf8_closes_with_1007,
    a_character_may_be_split_over_fragments,
    binary_messages_may_hold_anything,
    ten_thousand_tiny_fragments_are_one_message,
    ten_thousand_tiny_fragments_are_one_chat_message,
    a_frame_in_single_bytes_is_understood,
    many_frames_in_one_segment_are_each_understood,
    frames_before_an_error_still_count,
}

async fn protocol_errors_close_with_1002(launch: Launch) {
    let server = launch.start();
    for (name, bytes) in protocol_errors() {
        for path in ["/echo", "/broadcast"] {
            let mut wire = Wire::upgrade(&server, path).await;
            wire.send(&bytes).await;
            assert_eq!(wire.close().await.0, 1002, "{name} to {path}");
        }
    }
}

async fn a_protocol_error_in_chat_closes_with_1002(launch: Launch) {
    let server = launch.start();
    for (name, bytes) in protocol_errors() {
        let mut wire = Wire::upgrade(&server, "/chat").await;
        wire.send(&bytes).await;
        assert_eq!(wire.close().await.0, 1002, "{name}");
    }
}

fn protocol_errors() -> Vec<(String, Vec<u8>)> {
    let text = Header::of(TEXT);
    let mut errors = vec![
        ("an unmasked text".to_owned(), Header { is_masked: false, ..text }.with(b"x")),
        ("an unmasked ping".to_owned(), Header { is_masked: false, ..Header::of(PING) }.with(b"")),
        ("a ping of 126 bytes".to_owned(), frame(PING, [0; 126])),
        ("a pong of 126 bytes".to_owned(), frame(PONG, [0; 126])),
        ("a close of 126 bytes".to_owned(), frame(CLOSE, [3; 126])),
        ("a fragmented ping".to_owned(), part(PING, "x")),
        ("a fragmented close".to_owned(), part(CLOSE, [3, 232])),
        ("a lone continuation".to_owned(), frame(CONTINUATION, "x")),
        ("a lone first continuation".to_owned(), part(CONTINUATION, "x")),
        ("a text within a text".to_owned(), [part(TEXT, "x"), frame(TEXT, "y")].concat()),
        ("a binary within a text".to_owned(), [part(TEXT, "x"), part(BINARY, "y")].concat()),
        (
            "a continuation behind the last".to_owned(),
            [part(TEXT, "x"), frame(CONTINUATION, "y"), frame(CONTINUATION, "z")].concat(),
        ),
    ];
    for (short, length) in
        [(126, vec![0, 125]), (127, vec![0, 0, 0, 0, 0, 0, 255, 255]), (127, vec![128, 0, 0, 0, 0, 0, 0, 0])]
    {
        let header = [&[0x81, 0x80 | short][..], &length, b"mask"].concat();
        errors.push((format!("a length written as {length:?}"), header));
    }
    for reserved in 1..=7 {
        let header = Header { reserved, ..text };
        errors.push((format!("reserved bits {reserved:03b}"), header.with(b"x")));
    }
    for opcode in [0x3, 0x4, 0x5, 0x6, 0x7, 0xb, 0xc, 0xd, 0xe, 0xf] {
        errors.push((format!("opcode {opcode:#x}"), frame(opcode, "x")));
    }
    errors
}

async fn lengths_beyond_the_frame_limit_close_with_1009(launch: Launch) {
    let server = launch.start();
    for length in [65_537, 1 << 20, 1 << 31, 1 << 32, 1 << 40, (1 << 63) - 1] {
        for path in ["/echo", "/chat"] {
            // The payload never comes, or only begins to: for all but the first, the announcement
            // must be enough.
            let mut bytes = Header::of(BINARY).announcing(length);
            if length == 65_537 {
                bytes = frame(BINARY, vec![0; length as usize]);
            }
            assert_eq!(code_for(&server, path, &bytes).await, 1009, "{length} to {path}");
        }
    }
    // The highest bit must be 0 (RFC 6455, 5.2), so two rules are broken.
    let bytes = Header::of(BINARY).announcing(1 << 63);
    assert!([1002, 1009].contains(&code_for(&server, "/echo", &bytes).await));
}

async fn fragments_beyond_the_frame_limit_close_with_1009(launch: Launch) {
    let server = launch.start();
    let mut bytes = part(BINARY, vec![0; 30_000]);
    bytes.extend(part(CONTINUATION, vec![0; 30_000]));
    bytes.extend(part(CONTINUATION, vec![0; 5_536]));
    bytes.extend(frame(CONTINUATION, [0]));
    assert_eq!(code_for(&server, "/echo", &bytes).await, 1009);
    // The length of each fragment is far from overflowing anything, that of their sum is not.
    let mut bytes = part(BINARY, [0; 10]);
    bytes.extend(Header::of(CONTINUATION).announcing((1 << 63) - 1));
    assert_eq!(code_for(&server, "/echo", &bytes).await, 1009);
}

async fn text_that_is_no_utf8_closes_with_1007(launch: Launch) {
    let server = launch.start();
    let invalid: [&[u8]; 7] = [
        b"\xff",
        b"valid, then \xc3\x28",
        b"\xc0\xaf",
        b"\xed\xa0\x80",
        b"\xf4\x90\x80\x80",
        b"cut \xe6\x97",
        b"\x80",
    ];
    for text in invalid {
        for path in ["/echo", "/chat", "/broadcast"] {
            assert_eq!(code_for(&server, path, &frame(TEXT, text)).await, 1007, "{text:?}");
        }
        let (first, last) = text.split_at(text.len() / 2);
        let parts = [part(TEXT, first), part(CONTINUATION, ""), frame(CONTINUATION, last)];
        assert_eq!(code_for(&server, "/echo", &parts.concat()).await, 1007, "{text:?} in parts");
    }
}

async fn a_character_may_be_split_over_fragments(launch: Launch) {
    let server = launch.start();
    let mut wire = Wire::upgrade(&server, "/echo").await;
    let text = "é日😀";
    for cut in 1..text.len() {
        let (first, last) = text.as_bytes().split_at(cut);
        wire.send([part(TEXT, first), frame(CONTINUATION, last)].concat()).await;
        assert_eq!(wire.text().await, text);
    }
}

async fn binary_messages_may_hold_anything(launch: Launch) {
    let server = launch.start();
    let mut wire = Wire::upgrade(&server, "/echo").await;
    wire.send(frame(BINARY, b"\xff\xed\xa0\x80\0")).await;
    let echo = wire.frame().await.unwrap();
    assert_eq!((echo.opcode, echo.payload.as_slice()), (BINARY, &b"\xff\xed\xa0\x80\0"[..]));
}

async fn ten_thousand_tiny_fragments_are_one_message(launch: Launch) {
    let server = launch.start();
    let mut wire = Wire::upgrade(&server, "/echo").await;
    let text = "0123456789".repeat(1000);
    wire.send(in_single_bytes(&text)).await;
    assert_eq!(wire.text().await, text);
}

async fn ten_thousand_tiny_fragments_are_one_chat_message(launch: Launch) {
    let server = launch.start();
    let mut wire = Wire::upgrade(&server, "/chat").await;
    for _ in ["welcome", "users", "history"] {
        wire.text().await;
    }
    let content = "0123456789".repeat(1000);
    let message = format!(r#"{{"type":"message","content":"{content}"}}"#);
    wire.send(in_single_bytes(&message)).await;
    assert!(wire.text().await.contains("\"message_sent\""));
    let mut wire = Wire::upgrade(&server, "/chat").await;
    wire.text().await;
    wire.text().await;
    assert!(wire.text().await.contains(&content));
}

async fn a_frame_in_single_bytes_is_understood(launch: Launch) {
    let server = launch.start();
    let mut wire = Wire::upgrade(&server, "/echo").await;
    let text = "x".repeat(200);
    wire.dribble(frame(TEXT, &text)).await;
    assert_eq!(wire.text().await, text);
}

async fn many_frames_in_one_segment_are_each_understood(launch: Launch) {
    let server = launch.start();
    let mut wire = Wire::upgrade(&server, "/echo").await;
    let mut bytes = Vec::new();
    for n in 0..2000 {
        bytes.extend(frame(TEXT, n.to_string()));
        bytes.extend(frame(PING, "?"));
    }
    wire.send(bytes).await;
    let (mut words, mut pongs) = (0, 0);
    while words < 2000 || pongs == 0 {
        let frame = wire.frame().await.unwrap();
        if frame.opcode == PONG {
            assert_eq!(frame.payload, b"?");
            pongs += 1;
        } else {
            assert_eq!(frame.payload, words.to_string().into_bytes());
            words += 1;
        }
    }
}

async fn frames_before_an_error_still_count(launch: Launch) {
    let server = launch.start();
    let mut wire = Wire::upgrade(&server, "/echo").await;
    wire.send([frame(TEXT, "one"), frame(TEXT, "two"), frame(0x3, "")].concat()).await;
    assert_eq!(wire.text().await, "one");
    assert_eq!(wire.text().await, "two");
    assert_eq!(wire.close().await.0, 1002);
}

/// The code that a new connection is closed with for those bytes.
async fn code_for(server: &Server, path: &str, bytes: &[u8]) -> u16 {
    let mut wire = Wire::upgrade(server, path).await;
    wire.send_anyway(bytes).await;
    wire.close().await.0
}

/// A text whose every byte is a fragment of its own.
fn in_single_bytes(text: &str) -> Vec<u8> {
    let (first, rest) = text.as_bytes().split_first().unwrap();
    let mut bytes = part(TEXT, [*first]);
    for byte in rest {
        bytes.extend(part(CONTINUATION, [*byte]));
    }
    bytes.extend(frame(CONTINUATION, ""));
    bytes
}
