//! A client driven without a socket.

use super::*;
use crate::clients::batch::to_ring;
use crate::dialect::payload::Stamp;
use crate::measure::openings::Openings;
use crate::measure::presence::Presence;
use crate::plan::tests::plan;
use crate::timings::Timings;

const SECOND: u64 = 1_000_000_000;

fn server_text(text: &str) -> Vec<u8> {
    assert!(text.len() < 126 || text.len() < 65_536);
    let mut frame = vec![0x81];
    match text.len() {
        length @ 0..126 => frame.push(length as u8),
        length => {
            frame.push(126);
            frame.extend((length as u16).to_be_bytes());
        }
    }
    frame.extend(text.as_bytes());
    frame
}

/// What is sent at `now_ns`, if anything.
fn sends(client: &mut Client, context: &mut Context, now_ns: u64) -> Option<SendBatch> {
    match client.poll_action(context, now_ns).expect("encrypts nothing") {
        Some(Action::Send(batch)) => Some(to_ring(batch)),
        None => None,
        Some(other) => panic!("{other:?}"),
    }
}

/// Has a batch leave entirely.
fn handle_sent(client: &mut Client, context: &mut Context, batch: SendBatch, now_ns: u64) {
    let bytes = batch.remaining_bytes();
    assert!(client.handle_sent(context, batch, bytes, now_ns).is_none());
}

/// The response that accepts a request.
fn accepting(request: &SendBatch) -> Vec<u8> {
    let request = String::from_utf8(request.slice(0).to_vec()).expect("ASCII");
    let key = request.split("Sec-WebSocket-Key: ").nth(1).and_then(|rest| rest.lines().next());
    let accept = tungstenite::handshake::derive_accept_key(key.expect("a key").as_bytes());
    let response = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\n\r\n"
    );
    response.into_bytes()
}

fn upgraded(context: &mut Context) -> Client {
    let mut client = Client::new(1);
    upgrade(&mut client, context);
    client
}

fn upgrade(client: &mut Client, context: &mut Context) {
    client.handle_connecting(context, SECOND).expect("without TLS");
    let request = sends(client, context, SECOND).expect("a request");
    assert!(sends(client, context, SECOND).is_none());
    let response = accepting(&request);
    let (head, tail) = response.split_at(40);
    client.handle_received(context, 2 * SECOND, head).expect("valid");
    assert_eq!(client.phase, Phase::Upgrading);
    client.handle_received(context, 3 * SECOND, tail).expect("valid");
    handle_sent(client, context, request, 3 * SECOND);
}

const WELCOME: &str =
    r#"{"type":"welcome","content":{"user_id":1,"user_name":"a","server_stats":{}},"timestamp":1}"#;
const USERS: &str = r#"{"type":"users","content":[],"timestamp":1}"#;
const HISTORY: &str = r#"{"type":"history","content":[],"timestamp":1}"#;

#[test]
fn a_chat_client_is_ready_when_the_history_has_come() {
    let mut context = Context::new(plan(&[]), 0);
    let mut client = upgraded(&mut context);
    for (text, now) in [(WELCOME, 4), (USERS, 5)] {
        client.handle_received(&mut context, now * SECOND, &server_text(text)).expect("valid");
        assert!(matches!(client.phase, Phase::Joining(_)));
    }
    let join = r#"{"type":"join","content":{},"timestamp":1}"#;
    client.handle_received(&mut context, 6 * SECOND, &server_text(join)).expect("skipped");
    client.handle_received(&mut context, 6 * SECOND, &server_text(HISTORY)).expect("valid");
    assert_eq!(client.phase, Phase::Ready);
    let Openings { tcp, upgrade, join, .. } = &context.openings;
    let seconds = |timings: &Timings| (timings.histogram.mean() / 1e9).round();
    assert_eq!((seconds(tcp), seconds(upgrade), seconds(join)), (1.0, 2.0, 5.0));
}

#[test]
fn another_room_is_joined_after_the_first_history() {
    let mut context = Context::new(plan(&["--room", "gaming"]), 0);
    let mut client = upgraded(&mut context);
    for text in [WELCOME, USERS, HISTORY] {
        client.handle_received(&mut context, 4 * SECOND, &server_text(text)).expect("valid");
    }
    assert_eq!(client.phase, Phase::Joining(JoinStep::RoomJoined));
    assert!(sends(&mut client, &mut context, 4 * SECOND).is_some());
    let joined = r#"{"type":"room_joined","content":{"room":"gaming"},"timestamp":1}"#;
    for text in [joined, USERS, HISTORY] {
        client.handle_received(&mut context, 5 * SECOND, &server_text(text)).expect("valid");
    }
    assert_eq!(client.phase, Phase::Ready);
}

#[test]
fn a_join_out_of_order_fails() {
    let mut context = Context::new(plan(&[]), 0);
    let mut client = upgraded(&mut context);
    let failure = client.handle_received(&mut context, 4 * SECOND, &server_text(USERS));
    assert_eq!(failure.expect_err("fails").to_string(), "join: Users while awaiting Welcome");
    let failure = client.handle_received(&mut context, 4 * SECOND, &server_text("Server is full"));
    assert!(failure.expect_err("fails").to_string().contains("Server is full"));
}

#[test]
fn pings_and_closes_are_answered() {
    let mut context = Context::new(plan(&["--dialect", "raw"]), 0);
    let mut client = upgraded(&mut context);
    assert_eq!(client.phase, Phase::Ready);
    client.handle_received(&mut context, SECOND, b"\x89\x02hi\x88\x02\x03\xf5").expect("valid");
    assert_eq!((client.phase, client.close_code), (Phase::Closing, Some(1013)));
    let batch = sends(&mut client, &mut context, SECOND).expect("answers");
    assert_eq!(batch.frame_count(), 2);
    assert_eq!((batch.slice(0)[0], batch.slice(1)[0]), (0x8a, 0x88));
}

#[test]
fn what_is_due_while_a_send_is_under_way_leaves_in_one_batch_after_it() {
    let mut context = Context::new(plan(&["--dialect", "raw", "--warmup", "0s"]), 0);
    let mut client = upgraded(&mut context);
    client.handle_due(0, 10);
    let first = sends(&mut client, &mut context, 15).expect("the first");
    assert_eq!(first.frame_count(), 1);
    client.handle_due(1, 20);
    client.handle_due(2, 30);
    assert!(sends(&mut client, &mut context, 35).is_none());
    handle_sent(&mut client, &mut context, first, 40);
    assert_eq!(sends(&mut client, &mut context, 50).expect("the others").frame_count(), 2);
    let lag = &context.recorder.send_lag.histogram;
    assert_eq!((context.recorder.counts.sent, lag.min(), lag.max()), (3, 5, 30));
}

#[test]
fn what_is_due_while_a_client_is_away_does_not_count_even_when_it_arrives() {
    let mut context = Context::new(plan(&["--dialect", "raw", "--warmup", "0s"]), 0);
    let mut client = upgraded(&mut context);
    let deliver = |client: &mut Client, context: &mut Context, sequence: u64, intended_ns: u64| {
        let mut frame = vec![0x82, 64];
        let stamp = Stamp { sequence, intended_ns, sent_ns: intended_ns };
        context.plan.template.put_binary(stamp, &mut frame);
        client.handle_received(context, 9 * SECOND, &frame).expect("valid");
    };
    deliver(&mut client, &mut context, 0, 100);
    client.receiver.presence.end(200);
    deliver(&mut client, &mut context, 1, 200);
    deliver(&mut client, &mut context, 2, 199);
    assert_eq!((context.recorder.counts.received, client.receiver.presence.heard_count), (2, 2));
    client.renew();
    assert_eq!((client.phase, client.generation, client.id()), (Phase::Waiting, 1, 1));
    upgrade(&mut client, &mut context);
    assert_eq!(client.phase, Phase::Ready);
    client.receiver.presence = Presence::since(300);
    context.recorder.rejoined(1, 5);
    deliver(&mut client, &mut context, 4, 299);
    deliver(&mut client, &mut context, 5, 300);
    let counts = context.recorder.counts;
    assert_eq!((counts.received, counts.outside_presence, counts.disorder), (3, 2, 0));
    assert_eq!(client.receiver.presence.heard_count, 1);
}

#[test]
fn a_broadcast_whose_send_was_short_is_sent_whole_before_the_next_is_dated() {
    let mut context = Context::new(plan(&["--dialect", "raw", "--warmup", "0s"]), 0);
    let mut client = upgraded(&mut context);
    client.handle_due(0, 10);
    let first = sends(&mut client, &mut context, 15).expect("the first");
    client.handle_due(1, 20);
    let bytes = first.remaining_bytes();
    assert!(client.handle_sent(&mut context, first, 5, 25).is_none());
    let rest = sends(&mut client, &mut context, 30).expect("the rest");
    assert_eq!((rest.frame_count(), rest.remaining_bytes()), (1, bytes - 5));
    assert_eq!(context.recorder.counts.sent, 1);
    handle_sent(&mut client, &mut context, rest, 40);
    assert!(sends(&mut client, &mut context, 50).is_some());
    assert_eq!((context.recorder.counts.sent, context.recorder.send_lag.histogram.max()), (2, 30));
}

#[test]
fn a_request_whose_send_was_short_goes_on() {
    let mut context = Context::new(plan(&[]), 0);
    let mut client = Client::new(1);
    client.handle_connecting(&mut context, SECOND).expect("without TLS");
    let request = sends(&mut client, &mut context, SECOND).expect("a request");
    let bytes = request.remaining_bytes();
    let rest = client.handle_sent(&mut context, request, 7, SECOND).expect("the rest");
    assert_eq!(rest.remaining_bytes(), bytes - 7);
    assert!(sends(&mut client, &mut context, SECOND).is_none(), "it is to be sent at once");
    handle_sent(&mut client, &mut context, rest, SECOND);
}

#[test]
fn the_server_ends_tcp_first() {
    let mut context = Context::new(plan(&["--dialect", "raw"]), 0);
    let mut client = upgraded(&mut context);
    client.handle_stop(SECOND);
    client.handle_stop(SECOND);
    let close = sends(&mut client, &mut context, SECOND).expect("a close");
    assert_eq!((close.frame_count(), close.slice(0)[0]), (1, 0x88));
    handle_sent(&mut client, &mut context, close, SECOND);
    client.handle_received(&mut context, SECOND, b"\x88\x02\x03\xe8").expect("valid");
    assert_eq!(client.close_code, Some(1000));
    assert!(sends(&mut client, &mut context, SECOND).is_none(), "neither a frame nor a FIN");
    assert!(client.handle_end_of_stream(SECOND));
    let end = client.poll_action(&mut context, SECOND).expect("encrypts nothing");
    assert!(matches!(end, Some(Action::Close(_))), "{end:?}");
}
