//! The time and the names of tokens.

use std::sync::Arc;

use uproar::accounts::{Identity, Rights, SignInResult};
use uproar::clock::Now;
use uproar::handshake::route::Endpoint;
use uproar::mail::Delivery;
use uproar::rooms::{ClientRef, ShardIndex};

use crate::alone::{Alone, message, text};

/// An identity whose token ends then, in Unix seconds; the shard's clock begins at 0.
fn expiring(expires_at: u64) -> Identity {
    let rights = Rights { expires_at: Some(expires_at), ..Rights::default() };
    Identity { account: "ann".into(), name: "ann".into(), is_admin: false, rights: Arc::new(rights) }
}

/// What is sent in a turn at this time, as text.
fn sent_at(alone: &mut Alone, now_ms: u64) -> String {
    alone.now_ms = now_ms;
    alone.turn();
    let batches = alone.ring.sends.iter().map(|(_, batch)| batch);
    let bytes = batches.flat_map(|batch| (0..batch.frame_count()).flat_map(|i| batch.slice(i).to_vec()));
    let sent = String::from_utf8_lossy(&bytes.collect::<Vec<u8>>()).into_owned();
    alone.complete_sends();
    alone.turn();
    sent
}

#[test]
fn a_connection_ends_half_a_minute_after_its_token_and_chat_is_told() {
    for endpoint in [Endpoint::Chat, Endpoint::Hub, Endpoint::Raw { topic: "t".to_owned() }, Endpoint::Echo] {
        let mut alone = Alone::new();
        alone.connect_as(endpoint.clone(), expiring(10));
        assert_eq!(sent_at(&mut alone, 10_000), "");
        let told = sent_at(&mut alone, 10_001);
        if endpoint == Endpoint::Chat {
            assert!(told.contains(r#""grace_seconds":30"#) && told.contains("token_expired"), "{told}");
        } else {
            assert_eq!(told, "", "{endpoint:?}");
        }
        assert!(!sent_at(&mut alone, 40_000).contains("expired"), "a ping");
        assert!(sent_at(&mut alone, 40_001).contains("token expired"), "{endpoint:?}");
    }
}

#[test]
fn another_token_keeps_the_connection_until_its_own_end() {
    let mut alone = Alone::new();
    let id = alone.connect_as(Endpoint::Chat, expiring(10));
    assert!(sent_at(&mut alone, 10_001).contains("token_expired"));
    let to = ClientRef { shard: ShardIndex(0), connection: id };
    let result = SignInResult::Granted(expiring(70));
    let now = Now { monotonic_ms: 20_000, uptime_ms: 20_000, unix_seconds: 20 };
    alone.shard.handle_delivery(Delivery::PasswordChecked { to, result }, now);
    assert!(sent_at(&mut alone, 20_000).contains("auth_success"));
    assert!(!sent_at(&mut alone, 69_999).contains("expired"));
    assert!(sent_at(&mut alone, 70_000).contains("token_expired"));
    assert!(!sent_at(&mut alone, 99_999).contains("expired"));
    assert!(sent_at(&mut alone, 100_000).contains("token expired"));
}

#[test]
fn an_attempt_with_a_password_does_not_keep_a_token_alive() {
    for is_answered in [false, true] {
        let mut alone = Alone::new();
        let id = alone.connect_as(Endpoint::Chat, expiring(10));
        assert!(sent_at(&mut alone, 10_001).contains("token_expired"));
        alone.receives(id, &text(br#"{"type":"auth","username":"ann","password":"secret"}"#));
        sent_at(&mut alone, 20_000);
        if is_answered {
            let to = ClientRef { shard: ShardIndex(0), connection: id };
            let now = Now { monotonic_ms: 20_000, uptime_ms: 20_000, unix_seconds: 0 };
            let result = SignInResult::Unavailable;
            alone.shard.handle_delivery(Delivery::PasswordChecked { to, result }, now);
        }
        assert!(!sent_at(&mut alone, 40_000).contains("expired"));
        assert!(sent_at(&mut alone, 40_001).contains("token expired"), "{is_answered}");
    }
}

#[test]
fn a_token_ends_while_the_clock_of_the_shard_stands_still() {
    let mut alone = Alone::new();
    let echo = alone.connect_as(Endpoint::Echo, expiring(1_000));
    let chat = alone.connect_as(Endpoint::Chat, expiring(1_000));
    alone.unix_seconds = 999;
    alone.receives(echo, &message(b"in time"));
    assert!(sent_at(&mut alone, 2).contains("in time"));
    alone.unix_seconds = 1_000;
    alone.receives(chat, &text(br#"{"type":"get_stats"}"#));
    let told = sent_at(&mut alone, 3);
    assert!(told.contains("token_expired") && told.contains("server_time"), "{told}");
    alone.unix_seconds = 1_030;
    alone.receives(echo, &message(b"too late"));
    let told = sent_at(&mut alone, 4);
    assert!(told.contains("token expired") && !told.contains("too late"), "{told}");
    // Without a message, the next look at the connection finds out.
    let told = sent_at(&mut alone, 40_000);
    assert!(told.contains("token expired"), "{told}");
}

#[test]
fn the_name_of_a_token_is_nobody_elses() {
    let mut alone = Alone::new();
    let mut connect = |account: &str, name: &str| {
        let rights = Rights { may_rename: true, ..Rights::default() };
        let rights = Arc::new(rights);
        let identity = Identity { account: account.into(), name: name.into(), is_admin: false, rights };
        let id = alone.connect_as(Endpoint::Chat, identity);
        alone.complete_sends();
        alone.turn();
        alone.receives(id, &text(br#"{"type":"get_users"}"#));
        let now_ms = alone.now_ms;
        sent_at(&mut alone, now_ms)
    };
    let first = connect("4711", "Ann Lee");
    assert!(first.contains(r#""name":"Ann Lee""#), "{first}");
    assert!(connect("4711", "Ann L.").contains(r#""name":"Ann L.""#));
    // Each connection's name is reserved.
    for (account, name) in [
        ("a", "ann lee"),
        ("b", "Ann L."),
        ("c", "System"),
        ("d", "4711"),
        ("twenty-one characters", "ANN LEE"),
    ] {
        let users = connect(account, name);
        let cut = &account[..account.len().min(20)];
        assert!(users.contains(&format!(r#""name":"{cut}""#)), "{users}");
        assert!(!users.contains(&format!(r#""account":"{account}","name":"{name}""#)), "{users}");
    }
    // What is cut off is no way to the name of another one.
    for account in ["System              x", "4711                x"] {
        let users = connect(account, "Ann L.");
        assert!(users.contains(r#""name":"User""#), "{users}");
        assert_eq!(users.matches(r#""name":"4711""#).count(), 0, "{users}");
        assert_eq!(users.matches(r#""name":"System""#).count(), 0, "{users}");
    }
    assert!(connect("4711", "Ann L.").matches(r#""name":"Ann L.""#).count() == 2);
}

#[test]
fn input_that_waits_does_not_keep_a_token_alive() {
    let mut alone = Alone::new();
    let id = alone.connect_as(Endpoint::Echo, expiring(10));
    alone.shard.stop_reading();
    alone.receives(id, &message(b"flood").repeat(1_000));
    alone.turn();
    assert!(!sent_at(&mut alone, 40_000).contains("expired"));
    assert!(sent_at(&mut alone, 40_001).contains("token expired"));
}
