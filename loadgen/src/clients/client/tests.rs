//! A client driven without a socket.

use super::*;
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

fn upgraded(context: &mut Context) -> Client {
    let mut client = Client::new(1);
    client.handle_connecting(context, SECOND);
    let batch = client.poll_batch(context, SECOND).expect("a request");
    let request = String::from_utf8(batch.slice(0).to_vec()).expect("ASCII");
    assert!(client.poll_batch(context, SECOND).is_none());
    let key = request.split("Sec-WebSocket-Key: ").nth(1).and_then(|rest| rest.lines().next());
    let accept = tungstenite::handshake::derive_accept_key(key.expect("a key").as_bytes());
    let response = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\n\r\n"
    );
    let (head, tail) = response.as_bytes().split_at(40);
    client.handle_received(context, 2 * SECOND, head).expect("valid");
    assert_eq!(client.phase, Phase::Upgrading);
    client.handle_received(context, 3 * SECOND, tail).expect("valid");
    client.handle_sent(context, 3 * SECOND);
    client
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
    assert!(client.poll_batch(&mut context, 4 * SECOND).is_some());
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
    let batch = client.poll_batch(&mut context, SECOND).expect("answers");
    assert_eq!(batch.frame_count(), 2);
    assert_eq!((batch.slice(0)[0], batch.slice(1)[0]), (0x8a, 0x88));
}

#[test]
fn what_is_due_while_a_send_is_under_way_leaves_in_one_batch_after_it() {
    let mut context = Context::new(plan(&["--dialect", "raw", "--warmup", "0s"]), 0);
    let mut client = upgraded(&mut context);
    client.handle_due(0, 10);
    assert_eq!(client.poll_batch(&mut context, 15).expect("the first").frame_count(), 1);
    client.handle_due(1, 20);
    client.handle_due(2, 30);
    assert!(client.poll_batch(&mut context, 35).is_none());
    client.handle_sent(&mut context, 40);
    assert_eq!(client.poll_batch(&mut context, 50).expect("the others").frame_count(), 2);
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
    client.phase = Phase::Ready;
    client.receiver.presence = Presence::since(300);
    context.recorder.rejoined(1, 5);
    deliver(&mut client, &mut context, 4, 299);
    deliver(&mut client, &mut context, 5, 300);
    let counts = context.recorder.counts;
    assert_eq!((counts.received, counts.outside_presence, counts.disorder), (3, 2, 0));
    assert_eq!(client.receiver.presence.heard_count, 1);
}
