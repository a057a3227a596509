//! What `/metrics` counts: each number grows by what was done, and by nothing else.

use std::collections::BTreeMap;

use futures_util::future::join_all;
use serde_json::json;
use tokio::time::{Duration, Instant, sleep};
use tokio_tungstenite::tungstenite::Message;

use crate::harness::{
    BINARY, CLOSE, Chat, Header, Launch, PATIENCE, PING, PONG, Server, Socket, TEXT, Wire, frame,
    on_one_server, request, upgrade_request,
};
use crate::http_paths::answer;
use crate::metrics::scrape;
use crate::slow_receivers::{narrow, slow_member, talk_until_leave};

on_one_server! {
    refusals_are_counted_by_their_reason,
    a_full_server_counts_whom_it_turns_away,
    ends_are_counted_by_their_reason,
    an_eviction_is_counted_and_nothing_stays_queued,
    chat_messages_are_counted_once_for_each_receiver,
    raw_messages_are_counted_once_for_each_receiver,
    fan_outs_are_timed_one_by_one_or_where_they_are_many_by_a_sample,
    only_text_and_binary_messages_are_counted_as_delivered,
    bytes_are_counted_with_their_framing,
    those_who_are_here_are_counted,
}

async fn refusals_are_counted_by_their_reason(launch: Launch) {
    let server = launch.flag("--handshake-timeout", "500ms").start();
    let before = numbers(&server).await;
    let foreign = upgrade_request("/chat").replace("\r\n\r\n", "\r\nOrigin: http://far.example\r\n\r\n");
    let requests = [
        (1, 403, foreign),
        (2, 400, "nonsense\r\n\r\n".to_owned()),
        (3, 404, request(&server, "GET", "/nothing", "")),
        (4, 405, request(&server, "POST", "/", "")),
        (3, 426, request(&server, "GET", "/echo", "")),
        (2, 426, upgrade_request("/echo").replace("Version: 13", "Version: 12")),
        (6, 431, request(&server, "GET", "/", &format!("X: {}\r\n", "x".repeat(17_000)))),
        (7, 408, "GET".to_owned()),
    ];
    for (times, status, request) in requests {
        for response in join_all((0..times).map(|_| answer(&server, &request))).await {
            assert_eq!(response.status, status, "{request}");
        }
    }
    let counts = [
        (r#"uproar_refused_total{reason="origin"}"#, 1),
        (r#"uproar_refused_total{reason="bad_request"}"#, 2),
        (r#"uproar_refused_total{reason="not_found"}"#, 3),
        (r#"uproar_refused_total{reason="method_not_allowed"}"#, 4),
        (r#"uproar_refused_total{reason="upgrade_required"}"#, 5),
        (r#"uproar_refused_total{reason="head_too_large"}"#, 6),
        (r#"uproar_refused_total{reason="handshake_timeout"}"#, 7),
        (r#"uproar_refused_total{reason="full"}"#, 0),
        (r#"uproar_refused_total{reason="draining"}"#, 0),
        ("uproar_upgrades_total", 0),
    ];
    assert_grown(&server, &before, &counts).await;
    let accepted = grown(&before, &numbers(&server).await, "uproar_connections_accepted_total");
    assert!(accepted >= 28.0, "{accepted} accepted");
}

async fn a_full_server_counts_whom_it_turns_away(launch: Launch) {
    let server = launch.flag("--max-clients", 1).start();
    let _inside = Chat::enter(&server).await;
    let before = numbers(&server).await;
    for path in ["/chat", "/broadcast", "/echo"] {
        let mut socket = Socket::connect(&server, path).await;
        assert_eq!(socket.text().await, "Server is full");
        socket.closed().await;
    }
    let counts = [(r#"uproar_refused_total{reason="full"}"#, 3), ("uproar_upgrades_total", 0)];
    assert_grown(&server, &before, &counts).await;
    let now = numbers(&server).await;
    assert_eq!((now["uproar_clients"], now["uproar_clients_max"]), (1.0, 1.0));
}

async fn ends_are_counted_by_their_reason(launch: Launch) {
    let server = launch.flag("--ping-interval", "500ms").flag("--idle-timeout", "1s").start();
    let before = numbers(&server).await;
    let ends = [
        (1, Some(1000), frame(CLOSE, 1000_u16.to_be_bytes())),
        (2, Some(1002), frame(0x3, "")),
        (6, Some(1002), frame(CLOSE, 999_u16.to_be_bytes())),
        (3, Some(1009), Header::of(TEXT).announcing(65_537)),
        (4, Some(1007), frame(TEXT, b"\xff")),
        (5, None, frame(PONG, "")),
    ];
    for (times, code, last) in ends {
        for _ in 0..times {
            let mut wire = Wire::upgrade(&server, "/echo").await;
            wire.send(&last).await;
            match code {
                Some(code) => assert_eq!(wire.close().await.0, code),
                None => wire.reset(),
            }
        }
    }
    let mut idle = Wire::upgrade(&server, "/echo").await;
    assert_eq!(idle.close().await.0, 1001);
    let counts = [
        (r#"uproar_connections_ended_total{reason="closed"}"#, 1),
        (r#"uproar_connections_ended_total{reason="protocol_error"}"#, 8),
        (r#"uproar_connections_ended_total{reason="too_big"}"#, 3),
        (r#"uproar_connections_ended_total{reason="invalid_utf8"}"#, 4),
        (r#"uproar_connections_ended_total{reason="lost"}"#, 5),
        (r#"uproar_connections_ended_total{reason="idle"}"#, 1),
        (r#"uproar_connections_ended_total{reason="slow_consumer"}"#, 0),
        (r#"uproar_connections_ended_total{reason="shutdown"}"#, 0),
        ("uproar_upgrades_total", 22),
    ];
    assert_grown(&server, &before, &counts).await;
}

async fn an_eviction_is_counted_and_nothing_stays_queued(launch: Launch) {
    let server = narrow(launch).start();
    let [mut alice, mut bob] = Chat::members(&server).await;
    let before = numbers(&server).await;
    let slow = slow_member(&server, &mut [&mut alice, &mut bob]).await;
    talk_until_leave(&mut alice, &mut bob).await;
    let counts = [
        (r#"uproar_connections_ended_total{reason="slow_consumer"}"#, 1),
        (r#"uproar_connections_ended_total{reason="lost"}"#, 0),
    ];
    assert_grown(&server, &before, &counts).await;
    drop(slow);
    let back = [
        (r#"uproar_connections{dialect="chat"}"#, 0),
        ("uproar_clients", 0),
        ("uproar_users_online", 0),
        (r#"uproar_connections_ended_total{reason="slow_consumer"}"#, 1),
        (r#"uproar_connections_ended_total{reason="lost"}"#, 0),
    ];
    assert_grown(&server, &before, &back).await;
    alice.until("leave").await;
    assert_settles(&server, "nothing is queued", |now| now["uproar_queued_bytes"] == 0.0).await;
}

async fn chat_messages_are_counted_once_for_each_receiver(launch: Launch) {
    let server = launch.start();
    let mut members = Chat::crowd(&server, 3).await;
    let before = numbers(&server).await;
    // Three are told of the newcomer, who is told three things.
    members.push(Chat::enter(&server).await);
    for member in &mut members[..3] {
        assert_eq!(member.next().await["type"], "join");
    }
    for word in ["one", "two"] {
        members[0].message(word).await;
        for member in &mut members[1..] {
            assert_eq!(member.next().await["content"], word);
        }
    }
    // A refused one is received, and its refusal delivered.
    members[3].say(json!({"type": "nothing known"})).await;
    assert_eq!(members[3].next().await["type"], "error");
    let counts = [
        (r#"uproar_messages_received_total{dialect="chat"}"#, 3),
        (r#"uproar_messages_received_total{dialect="raw"}"#, 0),
        (r#"uproar_messages_received_total{dialect="echo"}"#, 0),
        ("uproar_messages_delivered_total", 3 + 3 + 2 * 4 + 1),
        ("uproar_users_online", 1),
    ];
    assert_grown(&server, &before, &counts).await;
    let now = numbers(&server).await;
    // Three events, on one shard at least.
    for family in ["uproar_broadcasts_total", "uproar_frames_encoded_total"] {
        assert!(grown(&before, &now, family) >= 3.0, "{family}");
    }
    for family in
        ["uproar_ring_turns_total", "uproar_ring_submissions_total", "uproar_ring_completions_total"]
    {
        assert!(grown(&before, &now, family) >= 1.0, "{family}");
    }
    // What is timed are the messages, until the last of their receivers has been sent them.
    assert_grown(&server, &before, &[(r#"uproar_fan_out_seconds_count{room_size="1-10"}"#, 2)]).await;
    let now = numbers(&server).await;
    let sum_seconds = grown(&before, &now, r#"uproar_fan_out_seconds_sum{room_size="1-10"}"#);
    assert!(0.0 < sum_seconds && sum_seconds < 10.0, "{sum_seconds} s for two messages");
}

async fn raw_messages_are_counted_once_for_each_receiver(launch: Launch) {
    let server = launch.start();
    let mut listeners = Socket::listeners(&server, "/broadcast/news", 4).await;
    let before = numbers(&server).await;
    for message in [Message::text("one"), Message::binary(vec![2]), Message::text("")] {
        listeners[0].send(message.clone()).await;
        for listener in &mut listeners {
            assert_eq!(listener.next().await, Some(message.clone()));
        }
    }
    let counts = [
        (r#"uproar_messages_received_total{dialect="raw"}"#, 3),
        (r#"uproar_messages_received_total{dialect="chat"}"#, 0),
        ("uproar_messages_delivered_total", 12),
    ];
    assert_grown(&server, &before, &counts).await;
}

async fn fan_outs_are_timed_one_by_one_or_where_they_are_many_by_a_sample(launch: Launch) {
    const COUNT: usize = 1_000;
    const TIMED: &str = r#"uproar_fan_out_seconds_count{room_size="1-10"}"#;
    let server = launch.without_rate_limit().start();
    // Each has said one message.
    let mut listeners = Socket::listeners(&server, "/broadcast/news", 3).await;
    for n in 3..20 {
        listeners[0].send(format!("one {n}")).await;
        for listener in &mut listeners {
            assert_eq!(listener.text().await, format!("one {n}"));
        }
    }
    assert_settles(&server, "each of 20 is timed", |numbers| numbers[TIMED] == 20.0).await;
    let (before, begun) = (numbers(&server).await, Instant::now());
    listeners[0].send_all((0..COUNT).map(|n| format!("many {n}").into())).await;
    for listener in &mut listeners {
        for n in 0..COUNT {
            assert_eq!(listener.text().await, format!("many {n}"));
        }
    }
    let timed = grown(&before, &numbers(&server).await, TIMED);
    let most = 101.0 + 50.0 * begun.elapsed().as_secs_f64();
    assert!((50.0..=most).contains(&timed), "{timed} were timed, and {most} may be");
}

/// The answer to the upgrade, pings, pongs and closes are none.
async fn only_text_and_binary_messages_are_counted_as_delivered(launch: Launch) {
    let server = launch.flag("--ping-interval", "100ms").start();
    let before = numbers(&server).await;
    for code in [1000_u16, 999] {
        let mut wire = Wire::upgrade(&server, "/echo").await;
        assert_eq!(wire.frame().await.unwrap().opcode, PING);
        for _ in 0..5 {
            wire.send(frame(PING, "?")).await;
        }
        let mut pongs = 0;
        while pongs < 5 {
            pongs += usize::from(wire.frame().await.unwrap().opcode == PONG);
        }
        wire.send(frame(CLOSE, code.to_be_bytes())).await;
        wire.close().await;
    }
    let none = [
        (r#"uproar_messages_received_total{dialect="echo"}"#, 0),
        ("uproar_messages_delivered_total", 0),
        ("uproar_upgrades_total", 2),
    ];
    assert_grown(&server, &before, &none).await;
    let mut wire = Wire::upgrade(&server, "/echo").await;
    let words = [frame(TEXT, "one"), frame(BINARY, "two"), frame(PING, "?"), frame(TEXT, "three")];
    wire.send(words.concat()).await;
    let mut heard = 0;
    while heard < 3 {
        heard += usize::from([TEXT, BINARY].contains(&wire.frame().await.unwrap().opcode));
    }
    let three =
        [(r#"uproar_messages_received_total{dialect="echo"}"#, 3), ("uproar_messages_delivered_total", 3)];
    assert_grown(&server, &before, &three).await;
}

async fn bytes_are_counted_with_their_framing(launch: Launch) {
    let server = launch.start();
    // The upgrade and the close cost both connections the same, and the difference is that of the words.
    let few = bytes_of_echoes(&server, 1).await;
    let many = bytes_of_echoes(&server, 11).await;
    // A length of two bytes makes a header of four, and a client's has a mask of four. A record of TLS 1.3
    // has a header of five, a tag of sixteen, and says within of what kind it is (RFC 8446, section 5.2).
    let tls = if server.certificate().is_some() { 5 + 1 + 16 } else { 0 };
    let received = 10 * (tls + 4 + 4 + 1000);
    let sent = 10 * (tls + 4 + 1000);
    assert_eq!((many.0 - few.0, many.1 - few.1), (received, sent));
}

/// What a connection that hears as many echoes, one by one, receives and sends in its whole life.
///
/// The last of a send is counted after the client has read it, but before the connection is gone.
async fn bytes_of_echoes(server: &Server, words: usize) -> (i64, i64) {
    let before = numbers(server).await;
    let mut wire = Wire::upgrade(server, "/echo").await;
    for _ in 0..words {
        wire.send(frame(TEXT, "x".repeat(1000))).await;
        wire.text().await;
    }
    wire.send(frame(CLOSE, 1000_u16.to_be_bytes())).await;
    wire.close().await;
    wire.end().await;
    drop(wire);
    let gone = [("uproar_upgrades_total", 1), (r#"uproar_connections{dialect="echo"}"#, 0)];
    assert_grown(server, &before, &gone).await;
    // What was counted before that is in what is read behind it.
    let after = numbers(server).await;
    let bytes = |series| grown(&before, &after, series) as i64;
    (bytes("uproar_received_bytes_total"), bytes("uproar_sent_bytes_total"))
}

async fn those_who_are_here_are_counted(launch: Launch) {
    let server = launch.flag("--max-clients", 77).flag("--rooms", "general,tea").start();
    let before = numbers(&server).await;
    assert_eq!(before["uproar_clients_max"], 77.0);
    assert_eq!(before["uproar_draining"], 0.0);
    let mut members = Chat::crowd(&server, 3).await;
    members[0].move_to("tea").await;
    let listeners = Socket::listeners(&server, "/broadcast", 2).await;
    let echo = Socket::connect(&server, "/echo").await;
    let silent = Wire::connect(&server).await;
    let here = [
        (r#"uproar_connections{dialect="chat"}"#, 3),
        (r#"uproar_connections{dialect="raw"}"#, 2),
        (r#"uproar_connections{dialect="echo"}"#, 1),
        ("uproar_clients", 6),
        ("uproar_users_online", 3),
        ("uproar_pending_connections", 1),
        ("uproar_upgrades_total", 6),
    ];
    assert_grown(&server, &before, &here).await;
    let rooms = "two rooms and a topic";
    assert_settles(&server, rooms, |now| now["uproar_rooms"] == 3.0).await;
    drop((members, listeners, echo, silent));
    let gone = [
        (r#"uproar_connections{dialect="chat"}"#, 0),
        (r#"uproar_connections{dialect="raw"}"#, 0),
        (r#"uproar_connections{dialect="echo"}"#, 0),
        ("uproar_clients", 0),
        ("uproar_users_online", 0),
        ("uproar_pending_connections", 0),
        ("uproar_upgrades_total", 6),
    ];
    assert_grown(&server, &before, &gone).await;
    assert_settles(&server, "two rooms alone", |now| now["uproar_rooms"] == 2.0).await;
    assert!(grown(&before, &numbers(&server).await, "uproar_uptime_seconds") > 0.0);
}

type Numbers = BTreeMap<String, f64>;

/// Every series with its labels, and its value.
pub(crate) async fn numbers(server: &Server) -> Numbers {
    let text = scrape(server).await;
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let samples = lines.filter_map(|line| line.rsplit_once(' '));
    samples.map(|(series, value)| (series.to_owned(), value.parse().expect(series))).collect()
}

fn grown(before: &Numbers, now: &Numbers, series: &str) -> f64 {
    let value = |numbers: &Numbers| *numbers.get(series).unwrap_or_else(|| panic!("no {series}"));
    value(now) - value(before)
}

/// Waits until all have grown by exactly that much. What a scrape itself causes is not among them.
async fn assert_grown(server: &Server, before: &Numbers, expected: &[(&str, i64)]) {
    let deadline = Instant::now() + 2 * PATIENCE;
    loop {
        let now = numbers(server).await;
        let wrong: Vec<String> = expected
            .iter()
            .filter_map(|(series, count)| {
                let grown = grown(before, &now, series);
                (grown != *count as f64).then(|| format!("{series} by {grown} instead of {count}"))
            })
            .collect();
        if wrong.is_empty() {
            return;
        }
        assert!(Instant::now() < deadline, "grown: {wrong:#?}");
        sleep(Duration::from_millis(20)).await;
    }
}

async fn assert_settles(server: &Server, name: &str, mut fact: impl FnMut(&Numbers) -> bool) {
    crate::harness::eventually(name, async || fact(&numbers(server).await)).await;
}
