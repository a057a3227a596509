//! A connection against bytes and time, without a socket: what it says, and when it ends.

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::frames::{MessageKind, append_message, frame};

const MASK: [u8; 4] = [1, 2, 3, 4];
const KEEP_ALIVE: KeepAlive = KeepAlive { ping_interval_ms: 1_000, idle_timeout_ms: 3_000 };
const LIMITS: QueueLimits =
    QueueLimits { charged_bytes_max: 10_000, overhead_bytes: 0, control: ControlOrder::Queued };
const TIMES: ClosingTimes =
    ClosingTimes { answer_ms: 2_000, fin_ms: 2_000, stall_ms: 5_000, total_ms: 30_000 };

type Endpoint = Connection<Bytes>;

fn server() -> Endpoint {
    endpoint(None, LIMITS)
}

fn endpoint(new_mask: Option<fn() -> [u8; 4]>, queue: QueueLimits) -> Endpoint {
    Endpoint::new(&Arc::new(Config { new_mask, message_bytes_max: 1_000, queue, closing: TIMES }), None, 0)
}

fn client() -> Endpoint {
    endpoint(Some(|| MASK), LIMITS)
}

/// A client's frame.
fn masked(opcode: Opcode, payload: &[u8]) -> Vec<u8> {
    frame(opcode, payload, Some(MASK))
}

/// Has an endpoint read everything, and returns what it reports.
fn read(endpoint: &mut Endpoint, mut bytes: &[u8], now_ms: u64) -> Vec<Event<'static>> {
    let mut events = Vec::new();
    while let Some(event) = endpoint.poll_event(&mut bytes, || now_ms) {
        events.push(match event {
            Event::Text(text) => Event::Text(text.into_owned().into()),
            Event::Binary(bytes) => Event::Binary(bytes.into_owned().into()),
            Event::Ping(payload) => Event::Ping(payload.into_owned().into()),
            Event::Pong(payload) => Event::Pong(payload.into_owned().into()),
            Event::Closed(close) => Event::Closed(close),
            Event::Failed(violation) => Event::Failed(violation),
        });
    }
    assert_eq!(bytes, b"");
    events
}

/// Everything that an endpoint asks for, with its bytes sent at once.
fn drain(endpoint: &mut Endpoint, now_ms: u64) -> (Vec<u8>, Vec<Action<Bytes>>) {
    let (mut sent, mut others) = (Vec::new(), Vec::new());
    while let Some(action) = endpoint.poll_action(&mut Vec::new()).expect("there is no TLS") {
        match action {
            Action::Send(batch) => {
                (0..batch.entry_count()).for_each(|index| sent.extend_from_slice(batch.slice(index)));
                let bytes = batch.remaining_bytes();
                endpoint.handle_sent(batch, bytes, now_ms);
            }
            other => others.push(other),
        }
    }
    (sent, others)
}

fn close_of(code: u16) -> Option<frames::Close> {
    Some(frames::Close { code, reason: String::new() })
}

#[test]
fn a_ping_is_answered_with_its_payload() {
    let mut server = server();
    assert_eq!(read(&mut server, &masked(Opcode::Ping, b"here?"), 0), [Event::Ping(b"here?".into())]);
    assert_eq!(drain(&mut server, 0).0, frame(Opcode::Pong, b"here?", None));
    let mut client = client();
    assert_eq!(read(&mut client, &frame(Opcode::Ping, b"here?", None), 0), [Event::Ping(b"here?".into())]);
    assert_eq!(drain(&mut client, 0).0, masked(Opcode::Pong, b"here?"));
}

#[test]
fn the_peers_close_is_echoed_and_both_fins_follow() {
    let mut server = server();
    server.push(Bytes::from_static(b"last message")).expect("room");
    let close = masked(Opcode::Close, &[3, 232, b'b', b'y', b'e']);
    let expected = frames::Close { code: 1000, reason: "bye".to_owned() };
    assert_eq!(read(&mut server, &close, 5), [Event::Closed(Some(expected))]);
    assert!(!server.is_open() && !server.is_reading());
    let (sent, actions) = drain(&mut server, 5);
    assert_eq!(sent, [&b"last message"[..], &frame(Opcode::Close, &[3, 232], None)].concat());
    assert_eq!(actions, [Action::ShutdownWrite]);
    server.handle_end_of_stream(false, 6);
    assert_eq!(drain(&mut server, 6).1, [Action::Close(CloseMode::Graceful)]);
    assert!(server.has_ended());
}

#[test]
fn a_close_without_a_code_is_echoed_without_one() {
    let mut server = server();
    assert_eq!(read(&mut server, &masked(Opcode::Close, b""), 0), [Event::Closed(None)]);
    assert_eq!(drain(&mut server, 0).0, frame(Opcode::Close, b"", None));
}

#[test]
fn our_close_waits_for_the_answer_and_reads_on_until_then() {
    let mut client = client();
    client.close(1001, "going away", 0);
    let (sent, actions) = drain(&mut client, 0);
    assert_eq!(sent, masked(Opcode::Close, b"\x03\xe9going away"));
    assert_eq!(actions, []);
    client.push(Bytes::from_static(b"too late")).expect("ignored");
    let mut answer = frame(Opcode::Text, b"crossing", None);
    answer.extend(frame(Opcode::Close, &[3, 233], None));
    let events = read(&mut client, &answer, 1);
    assert_eq!(events, [Event::Text("crossing".into()), Event::Closed(close_of(1001))]);
    let (sent, actions) = drain(&mut client, 1);
    assert_eq!((sent, actions), (vec![], vec![]), "an answer has no answer, and the server ends TCP");
    client.handle_end_of_stream(false, 2);
    assert_eq!(drain(&mut client, 2).1, [Action::Close(CloseMode::Graceful)]);
}

#[test]
fn a_violation_fails_the_connection_with_its_code() {
    for (bytes, code) in [
        (frame(Opcode::Text, b"unmasked", None), 1002_u16),
        (masked(Opcode::Text, b"\xff"), 1007),
        (masked(Opcode::Binary, &[0; 1_001]), 1009),
    ] {
        let mut server = server();
        let mut rest = &bytes[..];
        let event = server.poll_event(&mut rest, || 0);
        assert!(
            matches!(event, Some(Event::Failed(violation)) if violation.close_code() == code),
            "{event:?}"
        );
        assert!(!server.is_reading());
        let (sent, actions) = drain(&mut server, 0);
        assert_eq!((sent[0], &sent[2..4]), (0x88, &code.to_be_bytes()[..]));
        assert_eq!(actions, [Action::ShutdownWrite]);
    }
}

#[test]
fn a_violation_in_answer_to_our_close_ends_the_wait() {
    let mut server = server();
    server.close(1000, "", 0);
    drain(&mut server, 0);
    let mut rubbish = &[0xff; 16][..];
    assert!(matches!(server.poll_event(&mut rubbish, || 1), Some(Event::Failed(_))));
    assert_eq!(drain(&mut server, 1), (vec![], vec![Action::ShutdownWrite]), "a second close is not sent");
}

#[test]
fn a_fin_behind_unread_bytes_waits_for_them() {
    let mut server = server();
    server.keep(&masked(Opcode::Text, b"unread"));
    server.handle_end_of_stream(false, 0);
    assert!(server.is_open());
    let pending = server.take_pending();
    assert_eq!(read(&mut server, &pending, 0), [Event::Text("unread".into())]);
    server.handle_end_of_stream(true, 0);
    assert!(server.is_open(), "the caller holds it back");
    server.handle_end_of_stream(false, 0);
    assert!(!server.is_open());
    assert_eq!(drain(&mut server, 0).1, [Action::Close(CloseMode::Graceful)]);
}

#[test]
fn an_eviction_drops_what_was_not_read_but_for_the_frame_half_sent() {
    let mut server = server();
    for _ in 0..3 {
        server.push(Bytes::from_static(b"0123456789")).expect("room");
    }
    let Ok(Some(Action::Send(batch))) = server.poll_action(&mut Vec::new()) else {
        panic!("nothing to send")
    };
    server.evict(None, 1013, "slow", 0);
    server.handle_sent(batch, 14, 0);
    let (sent, _) = drain(&mut server, 0);
    assert_eq!(sent, [&b"456789"[..], &frame(Opcode::Close, b"\x03\xf5slow", None)].concat());
}

#[test]
fn a_peer_that_reads_and_does_not_answer_is_closed_gracefully_and_one_that_does_not_read_is_cut_off() {
    let mut reading = server();
    reading.close(1000, "", 0);
    drain(&mut reading, 0);
    assert_eq!(reading.next_due_ms(&KEEP_ALIVE), TIMES.answer_ms);
    assert_eq!(reading.handle_timeout(&KEEP_ALIVE, TIMES.answer_ms - 1), Due::Nothing);
    assert!(!reading.has_ended());
    assert_eq!(reading.handle_timeout(&KEEP_ALIVE, TIMES.answer_ms), Due::Nothing);
    assert_eq!(drain(&mut reading, TIMES.answer_ms).1, [Action::Close(CloseMode::Graceful)]);

    let mut stalled = server();
    stalled.close(1000, "", 0);
    let Ok(Some(Action::Send(_))) = stalled.poll_action(&mut Vec::new()) else { panic!("nothing to send") };
    assert_eq!(stalled.next_due_ms(&KEEP_ALIVE), TIMES.stall_ms);
    let _ = stalled.handle_timeout(&KEEP_ALIVE, TIMES.stall_ms);
    assert_eq!(drain(&mut stalled, TIMES.stall_ms).1, [Action::Close(CloseMode::Abort)]);
}

#[test]
fn a_peer_that_reads_a_byte_now_and_then_is_cut_off_in_the_end() {
    let mut server = server();
    server.push(Bytes::from(vec![0; 5_000])).expect("room");
    server.close(1000, "", 0);
    let mut now_ms = 0;
    while !server.has_ended() {
        now_ms += TIMES.stall_ms - 1;
        assert!(now_ms < 2 * TIMES.total_ms, "it stays for ever");
        if let Ok(Some(Action::Send(batch))) = server.poll_action(&mut Vec::new()) {
            server.handle_sent(batch, 1, now_ms);
        }
        let _ = server.handle_timeout(&KEEP_ALIVE, now_ms);
    }
    assert_eq!(server.poll_action(&mut Vec::new()).expect("no TLS"), Some(Action::Close(CloseMode::Abort)));
}

#[test]
fn a_silent_peer_is_pinged_and_is_idle_only_without_an_answer() {
    let mut server = server();
    assert_eq!(server.next_due_ms(&KEEP_ALIVE), 1_000);
    assert_eq!(server.handle_timeout(&KEEP_ALIVE, 999), Due::Nothing);
    assert_eq!(server.handle_timeout(&KEEP_ALIVE, 1_500), Due::Ping);
    assert_eq!(server.next_due_ms(&KEEP_ALIVE), 3_500, "the answer has its whole time");
    server.note_alive(2_000);
    assert_eq!(server.handle_timeout(&KEEP_ALIVE, 3_500), Due::Ping);
    assert_eq!(server.handle_timeout(&KEEP_ALIVE, 5_499), Due::Nothing);
    assert_eq!(server.handle_timeout(&KEEP_ALIVE, 5_500), Due::Idle);
}

#[test]
fn receiving_pauses_while_much_is_unread() {
    let mut server = server();
    server.keep(&[0; PENDING_BYTES_MAX]);
    assert_eq!(drain(&mut server, 0).1, []);
    server.keep(&[0]);
    assert_eq!(drain(&mut server, 0).1, [Action::PauseReceive]);
    let pending = server.take_pending();
    server.put_back(pending, PENDING_BYTES_MAX / 2);
    assert_eq!(drain(&mut server, 0).1, [], "not at the first byte that is read");
    let pending = server.take_pending();
    server.put_back(pending, 1);
    assert_eq!(drain(&mut server, 0).1, [Action::ResumeReceive]);
}

/// What may happen to a connection.
#[derive(Clone, Debug)]
enum Step {
    Receive(Vec<u8>),
    EndOfStream,
    Push(usize),
    PushMessage(usize),
    PushControl,
    Close,
    Leave,
    Finish,
    Evict,
    /// So many bytes leave.
    Send(usize),
    SendFails,
    Abort,
    Wait(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let payload = proptest::collection::vec(any::<u8>(), 0..120);
    let received = prop_oneof![
        payload.clone().prop_map(|payload| masked(Opcode::Ping, &payload)),
        payload.clone().prop_map(|payload| masked(Opcode::Binary, &payload)),
        Just(masked(Opcode::Close, &[3, 232])),
        payload,
    ];
    let step = prop_oneof![
        4 => received.prop_map(Step::Receive),
        1 => Just(Step::EndOfStream),
        3 => (0..4_000_usize).prop_map(Step::Push),
        2 => (0..4_000_usize).prop_map(Step::PushMessage),
        1 => Just(Step::PushControl),
        1 => Just(Step::Close),
        1 => Just(Step::Leave),
        1 => Just(Step::Finish),
        1 => Just(Step::Evict),
        4 => (0..4_000_usize).prop_map(Step::Send),
        1 => Just(Step::SendFails),
        1 => Just(Step::Abort),
        3 => (0..4_000_u64).prop_map(Step::Wait),
    ];
    proptest::collection::vec(step, 0..60)
}

proptest! {
    /// Whatever happens, in whatever order: one batch is under way at a time, the close of the socket comes once and is
    /// the last action, our FIN comes once at most, and every connection that has left `is_open` ends in time.
    #[test]
    fn every_connection_ends_once_and_in_time(
        steps in steps(), is_client in any::<bool>(), is_ahead in any::<bool>(),
    ) {
        let control = if is_ahead { ControlOrder::Ahead { pong_bytes_max: 100 } } else { ControlOrder::Queued };
        let mut tested = endpoint(is_client.then_some(|| MASK), QueueLimits { control, ..LIMITS });
        let (mut now_ms, mut under_way) = (0, None);
        // What may exceed the limit: a pong, a close, and a message that begins below it; pongs have a limit of their own.
        let mut excess_bytes = 2 * 131 + if is_ahead { 100 + 131 } else { 0 };
        let (mut fins, mut closes, mut left_at_ms) = (0, 0, None);
        let rest = std::iter::repeat_n(Step::Wait(1_000), 40);
        for step in steps.into_iter().chain([Step::Close]).chain(rest) {
            match step {
                Step::Receive(bytes) if tested.is_reading() => {
                    let mut input = &bytes[..];
                    while tested.is_reading() && tested.poll_event(&mut input, || now_ms).is_some() {}
                }
                Step::Receive(_) => {}
                Step::EndOfStream => tested.handle_end_of_stream(false, now_ms),
                Step::Push(bytes) => drop(tested.push(Bytes::from(vec![b'x'; bytes]))),
                Step::PushMessage(bytes) => {
                    excess_bytes = excess_bytes.max(2 * 131 + 231 + 14 + bytes);
                    let _ = tested.push_message(MessageKind::Text, &vec![b'x'; bytes]);
                }
                Step::PushControl if tested.has_room() => tested.push_control(Opcode::Ping, b""),
                Step::PushControl => {}
                Step::Leave => tested.leave(1000, "", now_ms),
                Step::Finish => tested.finish(now_ms),
                Step::Close => tested.close(1000, "", now_ms),
                Step::Evict => tested.evict(None, 1013, "slow", now_ms),
                Step::Send(bytes) => {
                    if let Some(batch) = under_way.take() {
                        let batch: Batch<Bytes> = batch;
                        let sent_bytes = bytes.min(batch.remaining_bytes());
                        tested.handle_sent(batch, sent_bytes, now_ms);
                    }
                }
                Step::SendFails => {
                    if under_way.take().is_some() {
                        tested.handle_send_failed();
                    }
                }
                Step::Abort => tested.abort(),
                Step::Wait(ms) => {
                    now_ms += ms;
                    let _ = tested.handle_timeout(&KEEP_ALIVE, now_ms);
                }
            }
            prop_assert!(tested.queued_bytes() <= LIMITS.charged_bytes_max + excess_bytes);
            while let Some(action) = tested.poll_action(&mut Vec::new()).expect("no TLS") {
                prop_assert_eq!(closes, 0, "an action behind the close: {:?}", action);
                match action {
                    Action::Send(batch) => prop_assert!(under_way.replace(batch).is_none()),
                    Action::ShutdownWrite => fins += 1,
                    Action::Close(_) => closes += 1,
                    Action::PauseReceive | Action::ResumeReceive => {}
                }
            }
            if !tested.is_open() {
                let left_at_ms = *left_at_ms.get_or_insert(now_ms);
                prop_assert!(tested.has_ended() || now_ms < left_at_ms + TIMES.total_ms + 4_000);
            }
        }
        prop_assert_eq!((closes, tested.has_ended()), (1, true));
        prop_assert!(fins <= 1);
    }

    /// Two endpoints understand each other, whatever they say and however it is cut.
    #[test]
    fn what_a_client_says_is_what_a_server_reads(
        messages in proptest::collection::vec((any::<bool>(), "\\PC{0,100}"), 0..20),
        pieces in proptest::collection::vec(1..200_usize, 1..20),
    ) {
        let (mut client, mut server) = (client(), server());
        let expected: Vec<_> = messages
            .iter()
            .map(|(is_text, text)| match is_text {
                true => Event::Text(text.clone().into()),
                false => Event::Binary(text.clone().into_bytes().into()),
            })
            .chain([Event::Closed(close_of(1000))])
            .collect();
        let mut events = Vec::new();
        let mut pieces = pieces.iter().cycle();
        let mut carry = |server: &mut Endpoint, sent: Vec<u8>| {
            let mut sent = &sent[..];
            while !sent.is_empty() {
                let (piece, rest) = sent.split_at(sent.len().min(*pieces.next().expect("a cycle")));
                events.extend(read(server, piece, 0));
                sent = rest;
            }
        };
        for (is_text, text) in &messages {
            let kind = if *is_text { MessageKind::Text } else { MessageKind::Binary };
            let mut encoded = Vec::new();
            append_message(&mut encoded, kind, text.as_bytes(), || Some(MASK));
            client.push(encoded.into()).expect("room");
            carry(&mut server, drain(&mut client, 0).0);
        }
        client.close(1000, "", 0);
        carry(&mut server, drain(&mut client, 0).0);
        prop_assert_eq!(events, expected);
        let (answer, _) = drain(&mut server, 0);
        prop_assert_eq!(read(&mut client, &answer, 0), [Event::Closed(close_of(1000))]);
    }
}

#[test]
fn a_client_that_leaves_waits_for_the_servers_fin_and_for_no_answer() {
    let mut client = client();
    client.leave(1000, "", 0);
    assert!(!client.is_reading());
    assert_eq!(drain(&mut client, 10), (masked(Opcode::Close, &[3, 232]), vec![]));
    assert_eq!(client.next_due_ms(&KeepAlive::OFF), 10 + TIMES.fin_ms);
    assert_eq!(client.handle_timeout(&KeepAlive::OFF, 10 + TIMES.fin_ms), Due::Nothing);
    assert_eq!(drain(&mut client, 10 + TIMES.fin_ms).1, [Action::Close(CloseMode::Graceful)]);
    let mut server = server();
    server.leave(1000, "", 0);
    assert_eq!(drain(&mut server, 0).1, [Action::ShutdownWrite], "a server ends TCP itself");
}

#[test]
fn a_connection_that_stays_with_http_ends_behind_what_is_queued() {
    let mut server = server();
    server.push_http(b"HTTP/1.1 404 Not Found\r\n\r\n");
    server.finish(0);
    server.push_http(b"too late");
    let (sent, actions) = drain(&mut server, 0);
    assert_eq!((&sent[..], actions), (&b"HTTP/1.1 404 Not Found\r\n\r\n"[..], vec![Action::ShutdownWrite]));
    server.handle_end_of_stream(false, 1);
    assert_eq!(drain(&mut server, 1).1, [Action::Close(CloseMode::Graceful)]);
}

#[test]
fn what_had_arrived_of_a_broken_message_can_be_had() {
    let mut client = client();
    assert_eq!(read(&mut client, b"\x01\x02ab", 0), []);
    let mut rest = &b"\x00\x01\xff"[..];
    assert!(matches!(client.poll_event(&mut rest, || 0), Some(Event::Failed(Violation::InvalidUtf8))));
    assert_eq!(client.take_unfinished().map(|unfinished| unfinished.kind), Some(MessageKind::Text));
    assert_eq!(client.take_unfinished(), None);
}

#[test]
fn a_connection_that_began_with_http_reads_messages_within_its_new_limits() {
    let mut server =
        endpoint(None, QueueLimits { control: ControlOrder::Ahead { pong_bytes_max: 10 }, ..LIMITS });
    server.push_http(b"101");
    server.set_config(&Arc::new(Config { message_bytes_max: 2, ..*server.config() }));
    let mut long = &masked(Opcode::Text, b"abc")[..];
    assert!(matches!(server.poll_event(&mut long, || 0), Some(Event::Failed(Violation::TooLong(2)))));
    assert_eq!(
        drain(&mut server, 0).0,
        [&b"101"[..], &frame(Opcode::Close, b"\x03\xf1message too big", None)].concat()
    );
}

#[test]
fn an_idle_connection_is_small() {
    let bytes = size_of::<Connection<std::rc::Rc<u8>>>();
    assert!(bytes <= 152, "{bytes}");
}
