//! Whom a mute is of: an account with all its connections; else a session, and who comes later from its address.

use serde_json::{Value, json};

use crate::harness::{
    Chat, Guest, Hub, Launch, Server, TEXT, TokenKey, admitted_from, direct, error, eventually, frame,
    on_one_and_four_shards_only,
};

on_one_and_four_shards_only! {
    an_account_is_muted_on_all_its_connections_and_later_ones,
    an_account_is_unmuted_on_all_its_connections,
    a_hub_member_of_a_muted_account_is_told_when_it_logs_in,
    guests_are_muted_with_their_address_but_nobody_else_is,
    a_session_that_is_resumed_elsewhere_stays_muted,
    the_session_of_a_muted_account_stays_muted_without_it,
    a_session_is_muted_and_unmuted_with_its_account,
    a_mute_holds_on_every_shard_before_the_admins_next_message,
    an_unmute_follows_a_guest_to_another_address,
    a_muted_guest_chooses_no_name,
    whoever_was_muted_with_an_address_is_unmuted_with_it,
    a_guest_behind_a_silent_proxy_is_muted_alone,
    a_mute_by_address_ends_by_itself,
}

const MUTED: &str = "You are muted";

/// A server behind a proxy on this machine, with tokens.
pub(crate) fn serve(launch: Launch) -> (Server, TokenKey) {
    let key = TokenKey::new();
    let launch = launch.without_rate_limit().flag("--trusted-proxy", "127.0.0.1");
    (launch.flag("--token-key", key.path().display()).start(), key)
}

/// A chat member with a token, who has read the first messages.
pub(crate) async fn member(server: &Server, key: &TokenKey, sub: &str, flags: &[&str]) -> Chat {
    let mut chat = Chat::with_token(server, &key.token(sub, flags).await).await;
    chat.read_welcome().await;
    assert_eq!(chat.next().await["type"], "users");
    assert_eq!(chat.next().await["type"], "history");
    chat
}

pub(crate) async fn admin(server: &Server, key: &TokenKey) -> Chat {
    member(server, key, "boss", &["--admin"]).await
}

fn mute(target: u64, seconds: u64) -> Value {
    json!({"type": "mute", "target_id": target, "seconds": seconds})
}

fn unmute(target: u64) -> Value {
    json!({"type": "unmute", "target_id": target})
}

async fn is_heard(chat: &mut Chat) -> bool {
    chat.say(json!({"type": "message", "content": "hm"})).await;
    loop {
        let answer = chat.next().await;
        if answer["type"] == "message_sent" {
            return true;
        }
        if answer["type"] == "error" {
            assert_eq!(answer, error(MUTED));
            return false;
        }
    }
}

async fn an_account_is_muted_on_all_its_connections_and_later_ones(launch: Launch) {
    let (server, key) = serve(launch);
    let mut boss = admin(&server, &key).await;
    let mut connections = Vec::new();
    for _ in 0..6 {
        connections.push(member(&server, &key, "troll", &[]).await);
    }
    let mut guest = Guest::enter(&server, "192.0.2.1").await;
    boss.say(mute(connections[0].id, 3_600)).await;
    for troll in &mut connections {
        assert_eq!(troll.until("muted").await["content"], json!({"seconds": 3_600}));
        assert!(!is_heard(troll).await);
    }
    let mut later = member(&server, &key, "troll", &[]).await;
    let left = later.next().await["content"]["seconds"].as_u64().unwrap();
    assert!((3_500..=3_600).contains(&left), "{left}");
    assert!(!is_heard(&mut later).await);
    assert!(guest.is_heard().await && is_heard(&mut boss).await);
    // Who signs in with it later is told behind that.
    let token = key.token("troll", &[]).await;
    guest.say(json!({"type": "auth", "token": token})).await;
    let told = guest.until(&["auth_success"]).await;
    assert_eq!(told["content"]["user_name"], "troll");
    assert_eq!(guest.next().await["type"], "muted");
    assert!(!guest.is_heard().await);
}

async fn an_account_is_unmuted_on_all_its_connections(launch: Launch) {
    let (server, key) = serve(launch);
    let mut boss = admin(&server, &key).await;
    let mut connections = Vec::new();
    for _ in 0..4 {
        connections.push(member(&server, &key, "troll", &[]).await);
    }
    boss.say(mute(connections[0].id, 3_600)).await;
    for troll in &mut connections {
        troll.until("muted").await;
    }
    boss.say(unmute(connections[3].id)).await;
    for troll in &mut connections {
        assert_eq!(troll.until("unmuted").await, direct("unmuted", json!({})));
        assert!(is_heard(troll).await);
    }
    assert!(is_heard(&mut member(&server, &key, "troll", &[]).await).await);
}

async fn a_hub_member_of_a_muted_account_is_told_when_it_logs_in(launch: Launch) {
    let (server, key) = serve(launch);
    let mut boss = admin(&server, &key).await;
    let mut troll = member(&server, &key, "troll", &[]).await;
    boss.say(mute(troll.id, 3_600)).await;
    troll.until("muted").await;
    let mut hub = Hub::with_token(&server, &key.token("troll", &[]).await).await;
    hub.login("troll").await;
    assert!(hub.system().await.starts_with("You are muted for "));
    hub.say("user", "hm").await;
    assert_eq!(hub.system().await, MUTED);
    boss.say(unmute(troll.id)).await;
    assert_eq!(hub.system().await, "You are no longer muted");
    hub.say("user", "hello").await;
    assert_eq!(hub.next().await["content"], "hello");
}

async fn guests_are_muted_with_their_address_but_nobody_else_is(launch: Launch) {
    let (server, key) = serve(launch);
    let mut boss = admin(&server, &key).await;
    let mut troll = Guest::enter(&server, "2001:db8:0:1::1").await;
    let mut neighbour = Guest::enter(&server, "2001:db8:0:1::2").await;
    boss.say(mute(troll.id, 3_600)).await;
    assert_eq!(troll.until(&["muted"]).await, direct("muted", json!({"seconds": 3_600})));
    assert!(!troll.is_heard().await);
    assert!(neighbour.is_heard().await, "who is there already may go on");
    for (address, is_muted) in [
        ("2001:db8:0:1::3", true),
        ("2001:db8:0:1::1", true),
        ("2001:db8:0:2::1", false),
        ("192.0.2.1", false),
    ] {
        let mut guest = Guest::enter(&server, address).await;
        if is_muted {
            assert_eq!(guest.next().await["type"], "muted", "{address}");
        }
        assert_eq!(guest.is_heard().await, !is_muted, "{address}");
    }
    let token = key.token("ann", &[]).await;
    let mut ann = Guest::enter_at(&server, "2001:db8:0:1::4", &format!("/chat?token={token}")).await;
    assert!(ann.is_heard().await);
}

async fn a_session_that_is_resumed_elsewhere_stays_muted(launch: Launch) {
    let (server, key) = serve(launch);
    let mut boss = admin(&server, &key).await;
    let mut troll = Guest::enter(&server, "192.0.2.1").await;
    boss.say(mute(troll.id, 3_600)).await;
    troll.until(&["muted"]).await;
    let path = format!("/chat?session={}", troll.session);
    let mut back = Guest::enter_at(&server, "192.0.2.99", &path).await;
    assert_eq!(back.id, troll.id);
    assert_eq!(back.next().await["type"], "muted");
    assert!(!back.is_heard().await);
    boss.say(unmute(back.id)).await;
    assert_eq!(back.until(&["unmuted"]).await, direct("unmuted", json!({})));
    assert!(back.is_heard().await);
}

async fn the_session_of_a_muted_account_stays_muted_without_it(launch: Launch) {
    let (server, key) = serve(launch);
    let mut boss = admin(&server, &key).await;
    let token = key.token("troll", &[]).await;
    let mut troll = Guest::enter_at(&server, "192.0.2.1", &format!("/chat?token={token}")).await;
    boss.say(mute(troll.id, 3_600)).await;
    troll.until(&["muted"]).await;
    let mut session = troll.session.clone();
    // Not even after it has come back twice.
    for _ in 0..2 {
        let mut back = Guest::enter_at(&server, "192.0.2.99", &format!("/chat?session={session}")).await;
        assert_eq!(back.id, troll.id);
        assert_eq!(back.next().await["type"], "muted");
        assert!(!back.is_heard().await);
        session.clone_from(&back.session);
    }
}

async fn a_session_is_muted_and_unmuted_with_its_account(launch: Launch) {
    let (server, key) = serve(launch);
    let mut boss = admin(&server, &key).await;
    let token = key.token("troll", &[]).await;
    let signed_in = Guest::enter_at(&server, "192.0.2.1", &format!("/chat?token={token}")).await;
    let path = format!("/chat?session={}", signed_in.session);
    let mut other = member(&server, &key, "troll", &[]).await;
    boss.say(mute(other.id, 3_600)).await;
    other.until("muted").await;
    let mut back = Guest::enter_at(&server, "192.0.2.99", &path).await;
    assert_eq!(back.id, signed_in.id);
    assert_eq!(back.next().await["type"], "muted");
    // Through the other connection.
    boss.say(unmute(other.id)).await;
    assert_eq!(back.until(&["unmuted"]).await, direct("unmuted", json!({})));
    assert!(back.is_heard().await);
    boss.say(mute(other.id, 60)).await;
    assert_eq!(back.until(&["muted"]).await, direct("muted", json!({"seconds": 60})));
    assert!(!back.is_heard().await);
    // Through the session, also when it has signed in again.
    boss.say(unmute(back.id)).await;
    back.until(&["unmuted"]).await;
    other.until("unmuted").await;
    boss.say(mute(other.id, 3_600)).await;
    back.until(&["muted"]).await;
    back.say(json!({"type": "auth", "token": token})).await;
    back.until(&["auth_success"]).await;
    assert!(!back.is_heard().await);
    boss.say(unmute(other.id)).await;
    back.until(&["unmuted"]).await;
    assert!(back.is_heard().await);
}

async fn a_mute_holds_on_every_shard_before_the_admins_next_message(launch: Launch) {
    let (server, key) = serve(launch);
    let mut boss = admin(&server, &key).await;
    let mut trolls = Vec::new();
    for _ in 0..8 {
        trolls.push(member(&server, &key, "troll", &[]).await);
    }
    for round in 0..20 {
        let target = trolls[round % trolls.len()].id;
        let said = json!({"type": "message", "content": "quiet now"});
        boss.burst([mute(target, 3_600), said]).await;
        for troll in &mut trolls {
            let first = loop {
                let message = troll.next().await;
                if message["type"] == "muted" || message["type"] == "message" {
                    break message;
                }
            };
            assert_eq!(first["type"], "muted", "{round}");
            troll.until("message").await;
        }
        boss.say(unmute(target)).await;
        for troll in &mut trolls {
            troll.until("unmuted").await;
        }
    }
}

async fn an_unmute_follows_a_guest_to_another_address(launch: Launch) {
    let (server, key) = serve(launch);
    let mut boss = admin(&server, &key).await;
    let mut troll = Guest::enter(&server, "192.0.2.1").await;
    boss.say(mute(troll.id, 3_600)).await;
    troll.until(&["muted"]).await;
    // A shorter mute of a neighbour does not shorten it.
    let mut neighbour = Guest::enter(&server, "192.0.2.1").await;
    assert_eq!(neighbour.next().await["type"], "muted");
    boss.say(mute(neighbour.id, 1)).await;
    assert_eq!(neighbour.until(&["muted"]).await["content"], json!({"seconds": 1}));
    let mut later = Guest::enter(&server, "192.0.2.1").await;
    let left = later.next().await["content"]["seconds"].as_u64().unwrap();
    assert!(left > 3_000, "{left}");
    let path = format!("/chat?session={}", troll.session);
    let mut back = Guest::enter_at(&server, "192.0.2.99", &path).await;
    boss.say(unmute(back.id)).await;
    back.until(&["unmuted"]).await;
    later.until(&["unmuted"]).await;
    assert!(later.is_heard().await);
    assert!(Guest::enter(&server, "192.0.2.1").await.is_heard().await);
}

async fn a_muted_guest_chooses_no_name(launch: Launch) {
    let (server, key) = serve(launch);
    let mut boss = admin(&server, &key).await;
    let mut troll = Guest::enter(&server, "192.0.2.1").await;
    boss.say(mute(troll.id, 3_600)).await;
    troll.until(&["muted"]).await;
    boss.say(json!({"type": "get_stats"})).await;
    boss.until("stats").await;
    let mut back = Guest::enter_at(&server, "192.0.2.1", "/chat?name=Insult").await;
    assert_eq!(back.next().await["type"], "muted");
    let joined = boss.until("join").await;
    assert_eq!(joined["content"]["user_name"], format!("User{}", back.id));
    let mut hub = admitted_from(&server, "192.0.2.1", "/ws").await;
    hub.json().await;
    hub.send(frame(TEXT, json!({"type": "login", "content": "Insult"}).to_string())).await;
    let joined = boss.until("join").await;
    assert_eq!(joined["content"]["user_name"], format!("User{}", back.id + 1));
    let mut elsewhere = Guest::enter_at(&server, "192.0.2.2", "/chat?name=Ann").await;
    assert_eq!(boss.until("join").await["content"]["user_name"], "Ann");
    assert!(elsewhere.is_heard().await);
}

async fn whoever_was_muted_with_an_address_is_unmuted_with_it(launch: Launch) {
    let (server, key) = serve(launch);
    let mut boss = admin(&server, &key).await;
    let mut troll = Guest::enter(&server, "192.0.2.1").await;
    boss.say(mute(troll.id, 3_600)).await;
    troll.until(&["muted"]).await;
    let mut later = Vec::new();
    for _ in 0..4 {
        let mut guest = Guest::enter(&server, "192.0.2.1").await;
        assert_eq!(guest.next().await["type"], "muted");
        later.push(guest);
    }
    // One of them is muted for itself, too.
    boss.say(mute(later[0].id, 3_600)).await;
    assert_eq!(later[0].until(&["muted"]).await["content"], json!({"seconds": 3_600}));
    boss.say(unmute(troll.id)).await;
    for guest in [&mut troll].into_iter().chain(&mut later[1..]) {
        assert_eq!(guest.until(&["unmuted"]).await, direct("unmuted", json!({})));
        assert!(guest.is_heard().await);
    }
    assert!(!later[0].is_heard().await);
    assert!(Guest::enter(&server, "192.0.2.1").await.is_heard().await);
}

async fn a_guest_behind_a_silent_proxy_is_muted_alone(launch: Launch) {
    let (server, key) = serve(launch);
    let mut boss = admin(&server, &key).await;
    let mut troll = Chat::enter(&server).await;
    boss.say(mute(troll.id, 3_600)).await;
    troll.until("muted").await;
    assert!(!is_heard(&mut troll).await);
    assert!(is_heard(&mut Chat::enter(&server).await).await);
}

async fn a_mute_by_address_ends_by_itself(launch: Launch) {
    let (server, key) = serve(launch);
    let mut boss = admin(&server, &key).await;
    let mut troll = Guest::enter(&server, "192.0.2.1").await;
    boss.say(mute(troll.id, 1)).await;
    troll.until(&["muted"]).await;
    eventually("the mute is over", async || troll.is_heard().await).await;
    eventually("that of its address, too", async || {
        Guest::enter(&server, "192.0.2.1").await.is_heard().await
    })
    .await;
}
