use proptest::prelude::*;

use super::super::frame;
use super::*;

const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

fn server() -> Reader {
    Reader::new(Role::Server, 1 << 20)
}

fn client() -> Reader {
    Reader::new(Role::Client, 1 << 20)
}

/// All events, owned, so that they can be compared.
fn read(reader: &mut Reader, mut input: &[u8]) -> Result<Vec<Event<'static>>, Violation> {
    let mut events = Vec::new();
    while let Some(event) = reader.next(&mut input)? {
        events.push(match event {
            Event::Text(text) => Event::Text(Cow::Owned(text.into_owned())),
            Event::Binary(payload) => Event::Binary(Cow::Owned(payload.into_owned())),
            Event::Ping(payload) => Event::Ping(Cow::Owned(payload.into_owned())),
            Event::Pong(payload) => Event::Pong(Cow::Owned(payload.into_owned())),
            Event::Close(close) => Event::Close(close),
        });
    }
    assert!(input.is_empty());
    Ok(events)
}

/// A frame with any first byte.
fn raw(first: u8, payload: &[u8], mask: Option<[u8; 4]>) -> Vec<u8> {
    let mut bytes = frame(Opcode::Text, payload, mask);
    bytes[0] = first;
    bytes
}

fn text(text: &str) -> Event<'static> {
    Event::Text(Cow::Owned(text.to_owned()))
}

#[test]
fn each_violation_of_a_server_is_named() {
    let cases: [(&[u8], Violation); 13] = [
        (&[0xc1, 0], Violation::ReservedBits),
        (&[0x91, 0], Violation::ReservedBits),
        (&[0x83, 0], Violation::UnknownOpcode(3)),
        (&[0x8b, 0], Violation::UnknownOpcode(11)),
        (&[0x81, 0x80, 1, 2, 3, 4], Violation::Masked),
        (&[0x81, 126, 0, 125], Violation::LengthNotMinimal),
        (&[0x81, 127, 0, 0, 0, 0, 0, 0, 255, 255], Violation::LengthNotMinimal),
        (&[0x81, 127, 0x80, 0, 0, 0, 0, 1, 0, 0], Violation::LengthNotMinimal),
        (&[0x81, 127, 1, 0, 0, 0, 0, 0, 0, 0], Violation::TooLong(1 << 20)),
        (&[0x89, 126, 0, 126], Violation::ControlFrame),
        (&[0x09, 0], Violation::ControlFrame),
        (&[0x80, 0], Violation::UnexpectedContinuation),
        (&[0x01, 0, 0x81, 0], Violation::InterleavedMessage),
    ];
    for (bytes, violation) in cases {
        assert_eq!(read(&mut client(), bytes), Err(violation), "{bytes:x?}");
        // No later than with the byte that makes it certain.
        let mut reader = client();
        let one_by_one = bytes.iter().try_for_each(|byte| read(&mut reader, &[*byte]).map(drop));
        assert_eq!(one_by_one, Err(violation), "{bytes:x?}");
    }
}

#[test]
fn a_client_must_mask() {
    assert_eq!(read(&mut server(), b"\x81\x02hi"), Err(Violation::Unmasked));
    // RFC 6455, 5.7.
    let hello = b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58";
    assert_eq!(read(&mut server(), hello), Ok(vec![text("Hello")]));
}

#[test]
fn a_close_has_no_body_or_a_code_that_may_be_sent() {
    let close = |payload: &[u8]| read(&mut client(), &raw(0x88, payload, None));
    assert_eq!(close(b""), Ok(vec![Event::Close(None)]));
    assert_eq!(close(b"\x03"), Err(Violation::InvalidClose));
    assert_eq!(close(b"\x03\xe8\xff"), Err(Violation::InvalidUtf8));
    for (code, allowed) in [
        (0, false),
        (999, false),
        (1000, true),
        (1003, true),
        (1004, false),
        (1005, false),
        (1006, false),
        (1007, true),
        (1014, true),
        (1015, false),
        (2999, false),
        (3000, true),
        (4999, true),
        (5000, false),
    ] {
        let payload = [&u16::to_be_bytes(code)[..], b"why"].concat();
        let expected = match allowed {
            true => Ok(vec![Event::Close(Some(Close { code, reason: "why".to_owned() }))]),
            false => Err(Violation::InvalidClose),
        };
        assert_eq!(close(&payload), expected, "{code}");
    }
}

#[test]
fn nothing_is_read_behind_a_close() {
    assert_eq!(read(&mut client(), b"\x88\x00\x81\x02hi\xff"), Ok(vec![Event::Close(None)]));
}

#[test]
fn a_ping_amid_fragments_does_not_disturb_them() {
    for mask in [None, Some(MASK)] {
        let reader = || if mask.is_some() { server() } else { client() };
        let bytes = [
            raw(0x01, b"he", mask),
            raw(0x89, b"?", mask),
            raw(0x00, b"ll", mask),
            raw(0x00, b"", mask),
            raw(0x80, b"o", mask),
            raw(0x82, b"next", mask),
        ]
        .concat();
        let expected =
            vec![Event::Ping(Cow::Borrowed(b"?")), text("hello"), Event::Binary(Cow::Borrowed(b"next"))];
        assert_eq!(read(&mut reader(), &bytes), Ok(expected.clone()));
        let mut reader = reader();
        let one_by_one: Vec<_> =
            bytes.iter().flat_map(|byte| read(&mut reader, &[*byte]).expect("valid")).collect();
        assert_eq!(one_by_one, expected);
    }
}

#[test]
fn wrong_utf8_ends_a_message_with_its_first_wrong_byte() {
    // Autobahn 6.4: the frame is not complete yet, and what has come can no longer become text.
    let mut reader = client();
    assert_eq!(read(&mut reader, b"\x81\x7d\xce\xba\xf4"), Ok(vec![]));
    assert_eq!(read(&mut reader, b"\x90"), Err(Violation::InvalidUtf8));
    // A surrogate, and a character that never ends.
    assert_eq!(read(&mut client(), b"\x01\x02\xed\xa0"), Err(Violation::InvalidUtf8));
    assert_eq!(read(&mut client(), b"\x01\x01\xce\x80\x00"), Err(Violation::InvalidUtf8));
    // A character may be cut by fragments.
    assert_eq!(read(&mut client(), b"\x01\x01\xce\x80\x01\xba"), Ok(vec![text("κ")]));
}

#[test]
fn what_a_message_may_have_is_counted_over_its_fragments() {
    let mut reader = Reader::new(Role::Client, 4);
    assert_eq!(read(&mut reader, b"\x02\x02ab\x00\x00\x80\x02cd").map(|events| events.len()), Ok(1));
    assert_eq!(read(&mut reader, b"\x02\x02ab\x00\x03"), Err(Violation::TooLong(4)));
    assert_eq!(
        reader.take_unfinished(),
        Some(Unfinished { kind: MessageKind::Binary, bytes: b"ab".to_vec() })
    );
}

#[test]
fn what_arrived_of_an_unfinished_message_can_be_had() {
    let mut reader = client();
    assert_eq!(reader.take_unfinished(), None);
    assert_eq!(read(&mut reader, b"\x01\x03ab\xce\x00\x05\xba"), Ok(vec![]));
    let unfinished = Unfinished { kind: MessageKind::Text, bytes: b"ab\xce\xba".to_vec() };
    assert_eq!(reader.take_unfinished(), Some(unfinished));
}

#[test]
fn an_idle_reader_is_small() {
    assert!(size_of::<Reader>() <= 24, "{}", size_of::<Reader>());
}

proptest! {
    #[test]
    fn any_cut_of_the_stream_reads_the_same(
        messages in prop::collection::vec((prop::bool::ANY, "\\PC{0,99}"), 1..8),
        pieces in prop::collection::vec(1..200usize, 1..50),
        mask in prop::option::of(any::<[u8; 4]>()),
    ) {
        let mut bytes = Vec::new();
        let mut expected = Vec::new();
        for (is_binary, payload) in messages {
            if is_binary {
                bytes.extend(frame(Opcode::Binary, payload.as_bytes(), mask));
                expected.push(Event::Binary(Cow::Owned(payload.into_bytes())));
            } else {
                bytes.extend(frame(Opcode::Text, payload.as_bytes(), mask));
                expected.push(Event::Text(Cow::Owned(payload)));
            }
        }
        let mut reader = if mask.is_some() { server() } else { client() };
        let mut read_back = Vec::new();
        let mut rest = &bytes[..];
        let mut pieces = pieces.iter().cycle();
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(rest.len().min(*pieces.next().expect("endless")));
            rest = after;
            read_back.extend(read(&mut reader, piece).expect("valid"));
        }
        prop_assert_eq!(read_back, expected);
    }

    #[test]
    fn no_bytes_make_it_panic(
        pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..20),
        is_server in prop::bool::ANY,
    ) {
        let mut reader = if is_server { server() } else { client() };
        for piece in pieces {
            if read(&mut reader, &piece).is_err() {
                break;
            }
        }
    }
}
