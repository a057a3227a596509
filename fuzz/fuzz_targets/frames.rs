//! The WebSocket input of a connection, on either side: however it is cut, it reads the same, and what is read
//! can be encoded and read again.

#![no_main]

use std::borrow::Cow;

use libfuzzer_sys::fuzz_target;
use uproar_protocol::frames::{Event, MessageKind, Opcode, Reader, Role, Violation, append_message, frame};

const MESSAGE_BYTES_MAX: usize = 4096;

/// Everything that is read, and how it ended.
fn read(role: Role, pieces: &[&[u8]]) -> (Vec<Event<'static>>, Option<Violation>) {
    let mut reader = Reader::new(role, MESSAGE_BYTES_MAX);
    let mut events = Vec::new();
    for piece in pieces {
        let mut input = *piece;
        loop {
            match reader.next(&mut input) {
                Ok(Some(event)) => events.push(owned(event)),
                Ok(None) => break,
                Err(violation) => return (events, Some(violation)),
            }
        }
        assert!(input.is_empty(), "the drain rule");
    }
    if let Some(unfinished) = reader.take_unfinished() {
        assert!(unfinished.bytes.len() <= MESSAGE_BYTES_MAX);
    }
    (events, None)
}

fn owned(event: Event<'_>) -> Event<'static> {
    match event {
        Event::Text(text) => Event::Text(Cow::Owned(text.into_owned())),
        Event::Binary(bytes) => Event::Binary(Cow::Owned(bytes.into_owned())),
        Event::Ping(payload) => Event::Ping(Cow::Owned(payload.into_owned())),
        Event::Pong(payload) => Event::Pong(Cow::Owned(payload.into_owned())),
        Event::Close(close) => Event::Close(close),
    }
}

fn encode(role: Role, event: &Event<'_>) -> Vec<u8> {
    // Who reads as a server is written to by a client.
    let mask = (role == Role::Server).then_some([1, 2, 3, 4]);
    let mut encoded = Vec::new();
    match event {
        Event::Text(text) => append_message(&mut encoded, MessageKind::Text, text.as_bytes(), || mask),
        Event::Binary(bytes) => append_message(&mut encoded, MessageKind::Binary, bytes, || mask),
        Event::Ping(payload) => encoded = frame(Opcode::Ping, payload, mask),
        Event::Pong(payload) => encoded = frame(Opcode::Pong, payload, mask),
        Event::Close(close) => {
            let payload = close.as_ref().map_or(Vec::new(), |close| {
                [&close.code.to_be_bytes(), close.reason.as_bytes()].concat()
            });
            encoded = frame(Opcode::Close, &payload, mask);
        }
    }
    encoded
}

fuzz_target!(|input: (bool, u8, u8, &[u8])| {
    let (is_server, first, second, bytes) = input;
    let role = if is_server { Role::Server } else { Role::Client };
    let whole = read(role, &[bytes]);
    let (front, rest) = bytes.split_at(usize::from(first).min(bytes.len()));
    let (middle, back) = rest.split_at(usize::from(second).min(rest.len()));
    assert_eq!(read(role, &[front, middle, back]).0, whole.0);
    let one_by_one: Vec<&[u8]> = bytes.chunks(1).collect();
    let slowly = read(role, &one_by_one);
    assert_eq!(slowly.0, whole.0);
    if whole.1.is_some() {
        assert!(slowly.1.is_some(), "refused only when it comes at once");
    }
    let again: Vec<u8> = whole.0.iter().flat_map(|event| encode(role, event)).collect();
    assert_eq!(read(role, &[&again]), (whole.0, None));
});
