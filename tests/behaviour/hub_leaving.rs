//! Leaving the hub: told once, whatever ended the connection.

use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use crate::harness::{
    CLOSE, Chat, Header, Hub, Launch, PING, PONG, TEXT, Wire, frame, from_system, hub_beside, line,
    on_one_server, on_two_nodes,
};

on_one_server! {
    a_logout_is_told_to_the_others_and_closes_with_1000,
    a_logout_before_login_closes_with_1000_and_tells_nobody,
    words_behind_a_logout_are_not_heard,
    every_end_is_told_once,
    the_end_of_who_never_logged_in_is_not_told,
    whoever_says_nothing_is_told_so_and_closed_with_1008,
    pongs_do_not_stand_for_words,
    whoever_has_not_logged_in_is_sent_away_too,
    whoever_speaks_stays,
}

on_two_nodes! {
    a_logout_is_told_to_the_others_and_closes_with_1000,
    a_logout_before_login_closes_with_1000_and_tells_nobody,
    words_behind_a_logout_are_not_heard,
    every_end_is_told_once,
    the_end_of_who_never_logged_in_is_not_told,
    whoever_says_nothing_is_told_so_and_closed_with_1008,
    pongs_do_not_stand_for_words,
    whoever_has_not_logged_in_is_sent_away_too,
}

async fn a_logout_is_told_to_the_others_and_closes_with_1000(launch: Launch) {
    let server = launch.start();
    let mut ann = Hub::enter(&server, "Ann").await;
    let mut bea = Hub::enter(&server, "Bea").await;
    assert_eq!(ann.next().await["type"], "login");
    bea.say("logout", "").await;
    assert_eq!(bea.closed().await.0, 1000, "and nothing before it");
    assert_eq!(ann.next().await, line("logout", "Bea", "Bea", &["Ann"]));
    assert_silence(&mut ann).await;
}

async fn a_logout_before_login_closes_with_1000_and_tells_nobody(launch: Launch) {
    let server = launch.start();
    let mut ann = Hub::enter(&server, "Ann").await;
    let mut visitor = Hub::visit(&server).await;
    visitor.say("logout", "").await;
    assert_eq!(visitor.closed().await.0, 1000);
    assert_silence(&mut ann).await;
}

async fn words_behind_a_logout_are_not_heard(launch: Launch) {
    let server = launch.start();
    let mut ann = Hub::enter(&server, "Ann").await;
    let mut bea = Hub::enter(&server, "Bea").await;
    assert_eq!(ann.next().await["type"], "login");
    let messages = [("logout", ""), ("user", "one more thing"), ("login", "Bea")];
    let messages =
        messages.map(|(kind, content)| json!({"type": kind, "content": content}).to_string().into());
    bea.socket().send_all(messages).await;
    assert_eq!(bea.closed().await.0, 1000);
    assert_eq!(ann.next().await["type"], "logout");
    assert_silence(&mut ann).await;
}

async fn every_end_is_told_once(launch: Launch) {
    let server = launch.start();
    let mut ann = Hub::enter(&server, "Ann").await;
    for end in 0..5 {
        let mut wire = Wire::upgrade(&server, "/ws").await;
        assert_eq!(wire.json().await["type"], "handshake");
        wire.send(frame(TEXT, r#"{"type":"login","content":"Bea"}"#)).await;
        assert_eq!(wire.json().await["type"], "login");
        assert_eq!(ann.next().await["type"], "login");
        match end {
            0 => wire.send(frame(CLOSE, 1000_u16.to_be_bytes())).await,
            1 => wire.half_close().await,
            2 => {
                let unmasked = Header { is_masked: false, ..Header::of(TEXT) };
                wire.send(unmasked.with(b"hello")).await;
            }
            3 => {
                wire.send(frame(TEXT, r#"{"type":"logout"}"#)).await;
                wire.reset();
                assert_eq!(ann.next().await, line("logout", "Bea", "Bea", &["Ann"]), "end {end}");
                continue;
            }
            _ => {
                wire.reset();
                assert_eq!(ann.next().await, line("logout", "Bea", "Bea", &["Ann"]), "end {end}");
                continue;
            }
        }
        assert_eq!(ann.next().await, line("logout", "Bea", "Bea", &["Ann"]), "end {end}");
    }
    assert_silence(&mut ann).await;
}

async fn the_end_of_who_never_logged_in_is_not_told(launch: Launch) {
    let server = launch.start();
    let mut ann = Hub::enter(&server, "Ann").await;
    Hub::visit(&server).await.leave().await;
    assert_silence(&mut ann).await;
}

async fn whoever_says_nothing_is_told_so_and_closed_with_1008(launch: Launch) {
    let server = hurried(launch).start();
    let mut chat = Chat::enter(&server).await;
    let start = Instant::now();
    let (mut ann, id) = hub_beside(&server, "Ann", &mut chat).await;
    let name = chat.name.clone();
    let hears_why = async {
        assert_eq!(ann.next().await, line("system", "", "idle timeout", &["Ann", &name]));
        ann.closed().await.0
    };
    // Who only answers pings stays in chat.
    let (code, leave) = tokio::join!(hears_why, chat.next());
    assert_eq!(code, 1008);
    let content = json!({"user_id": id, "user_name": "Ann", "users_online": 1, "room": "general"});
    assert_eq!(leave, from_system("leave", content));
    let elapsed = start.elapsed();
    assert!(elapsed >= Duration::from_millis(590), "sent away after {elapsed:?}");
}

async fn pongs_do_not_stand_for_words(launch: Launch) {
    let server = hurried(launch).start();
    let mut wire = Wire::upgrade(&server, "/ws").await;
    assert_eq!(wire.json().await["type"], "handshake");
    wire.send(frame(TEXT, r#"{"type":"login","content":"Ann"}"#)).await;
    assert_eq!(wire.json().await["type"], "login");
    let mut pings = 0;
    let told = loop {
        let next = wire.frame().await.expect("a word before the end");
        if next.opcode != PING {
            break next;
        }
        pings += 1;
        // Three fit into the time that it has.
        assert!(pings < 10, "it stays");
        wire.send(frame(PONG, next.payload)).await;
    };
    assert!(pings >= 1, "it was asked whether it is there");
    assert!(String::from_utf8(told.payload).unwrap().contains(r#""content":"idle timeout""#));
    assert_eq!(wire.close().await.0, 1008);
}

async fn whoever_speaks_stays(launch: Launch) {
    let server = hurried(launch).start();
    let mut ann = Hub::enter(&server, "Ann").await;
    let start = Instant::now();
    // Whatever it says counts, refused or not. Asking without a pause takes longer than the timeout.
    while start.elapsed() < Duration::from_millis(1_300) {
        ann.send("nonsense").await;
        assert!(!ann.system().await.is_empty());
    }
    ann.say("user", "still here").await;
    assert_eq!(ann.next().await["content"], "still here");
}

async fn whoever_has_not_logged_in_is_sent_away_too(launch: Launch) {
    let server = hurried(launch).start();
    let mut visitor = Hub::visit(&server).await;
    assert_eq!(visitor.system().await, "idle timeout");
    assert_eq!(visitor.closed().await.0, 1008);
}

fn hurried(launch: Launch) -> Launch {
    launch.flag("--ping-interval", "200ms").flag("--idle-timeout", "600ms").without_rate_limit()
}

/// Nothing is on its way to a member: the next it hears is its own word.
async fn assert_silence(member: &mut Hub) {
    member.say("user", "silence?").await;
    assert_eq!(member.next().await["content"], "silence?");
}
