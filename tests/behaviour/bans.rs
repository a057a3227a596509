//! Bans: who is closed by one, who is refused, and until when.

use serde_json::{Value, json};

use crate::harness::{
    AccountFile, Chat, Guest, Hub, Launch, Response, Server, Socket, Wire, admitted_from, direct, error,
    eventually, on_one_and_four_shards_only, password_of, refused_from, upgrade_from,
};
use crate::mutes::{admin, member, serve};

on_one_and_four_shards_only! {
    a_banned_account_is_closed_and_refused_in_every_dialect,
    a_banned_account_cannot_sign_in_with_its_password,
    a_banned_guest_is_refused_by_its_address,
    an_address_is_banned_with_everyone_there_who_has_no_account,
    accounts_are_banned_whether_or_not_they_are_there,
    a_ban_ends_by_itself,
    a_ban_takes_effect_before_the_next_message,
    the_refusal_has_its_place_among_the_others,
    an_admin_may_ban_itself,
    the_session_of_a_banned_account_is_not_resumed,
}

const BANNED: (u16, &str) = (403, "banned");
const PATHS: [&str; 4] = ["/chat", "/ws", "/broadcast/news", "/echo"];

pub(crate) fn ban(key: &str, value: impl Into<Value>, seconds: u64, reason: &str) -> Value {
    let mut ban = json!({"type": "ban", "seconds": seconds, "reason": reason});
    ban[key] = value.into();
    ban
}

pub(crate) fn unban(key: &str, value: &str) -> Value {
    let mut unban = json!({"type": "unban"});
    unban[key] = value.into();
    unban
}

/// The bans, once all earlier orders of this admin were carried out.
pub(crate) async fn bans(boss: &mut Chat) -> Vec<Value> {
    boss.say(json!({"type": "get_bans"})).await;
    boss.until("bans").await["content"].as_array().unwrap().clone()
}

pub(crate) async fn is_refused(server: &Server, address: &str, path: &str) {
    let (status, body) = refused_from(server, address, path).await;
    assert_eq!((status, body.as_str()), BANNED, "{address} {path}");
}

async fn a_banned_account_is_closed_and_refused_in_every_dialect(launch: Launch) {
    let (server, key) = serve(launch);
    let mut boss = admin(&server, &key).await;
    let token = key.token("troll", &["--topic", "*"]).await;
    let mut chats = [member(&server, &key, "troll", &[]).await, member(&server, &key, "troll", &[]).await];
    let mut hub = Hub::with_token(&server, &token).await;
    hub.login("troll").await;
    let mut visitor = Hub::with_token(&server, &token).await;
    let mut raw = Socket::with_token(&server, "/broadcast/news", &token).await;
    let mut echo = Socket::with_token(&server, "/echo", &token).await;
    let ann = key.token("ann", &[]).await;
    let mut other = Socket::with_token(&server, "/echo", &ann).await;
    let mut guest = Chat::enter(&server).await;
    boss.say(ban("target_id", chats[1].id, 0, "spam")).await;
    for chat in &mut chats {
        assert_eq!(chat.until("kicked").await, direct("kicked", json!({"reason": "spam"})));
        assert_eq!(chat.closed_in_the_end().await, (1008, "banned".to_owned()));
    }
    loop {
        let told = hub.next().await;
        if told["type"] == "system" {
            assert_eq!(told["content"], "spam");
            break;
        }
    }
    assert_eq!(hub.closed().await, (1008, "banned".to_owned()));
    for socket in [visitor.socket(), &mut raw, &mut echo] {
        assert_eq!(socket.closed().await, (1008, "banned".to_owned()));
    }
    for path in PATHS {
        is_refused(&server, "192.0.2.1", &format!("{path}?token={token}")).await;
    }
    // In chat it can come without a token, and not sign in.
    let mut troll = Guest::enter(&server, "192.0.2.1").await;
    troll.say(json!({"type": "auth", "token": token})).await;
    assert_eq!(troll.closed().await, (1008, "banned".to_owned()));
    // Nobody else is touched.
    other.send("still here").await;
    assert_eq!(other.text().await, "still here");
    guest.say(json!({"type": "get_stats"})).await;
    guest.until("stats").await;
    boss.say(unban("account", "troll")).await;
    assert_eq!(bans(&mut boss).await, [Value::Null; 0]);
    for path in PATHS {
        admitted_from(&server, "192.0.2.1", &format!("{path}?token={token}")).await;
    }
}

async fn a_banned_account_cannot_sign_in_with_its_password(launch: Launch) {
    let accounts = AccountFile::of(&["Ann"], &["boss"]).await;
    for name in ["Ann", "boss"] {
        accounts.hash_cheaply(name);
    }
    let server = launch.flag("--data", accounts.path().display()).flag("--auth", "required").start();
    let auth = |name: &str| json!({"type": "auth", "username": name, "password": password_of(name)});
    let sign_in = async |name: &str| {
        let mut chat = Chat::connect(&server).await;
        chat.say(auth(name)).await;
        chat
    };
    let (mut boss, mut ann) = (sign_in("boss").await, sign_in("Ann").await);
    boss.until("history").await;
    ann.until("history").await;
    boss.say(ban("account", "Ann", 0, "")).await;
    assert_eq!(ann.until("kicked").await["content"], json!({"reason": "Kicked by admin"}));
    assert_eq!(ann.closed_in_the_end().await, (1008, "banned".to_owned()));
    assert_eq!(sign_in("Ann").await.closed().await, (1008, "banned".to_owned()));
    boss.say(unban("account", "Ann")).await;
    assert_eq!(bans(&mut boss).await, [Value::Null; 0]);
    sign_in("Ann").await.until("history").await;
}

async fn a_banned_guest_is_refused_by_its_address(launch: Launch) {
    let (server, key) = serve(launch);
    let mut boss = admin(&server, &key).await;
    let mut troll = Guest::enter(&server, "2001:db8:0:1::1").await;
    let mut neighbour = Guest::enter(&server, "2001:db8:0:1::2").await;
    boss.say(ban("target_id", troll.id.to_string(), 60, "spam")).await;
    assert_eq!(troll.until(&["kicked"]).await, direct("kicked", json!({"reason": "spam"})));
    assert_eq!(troll.closed().await, (1008, "banned".to_owned()));
    let token = key.token("ann", &[]).await;
    for path in PATHS {
        for address in ["2001:db8:0:1::1", "2001:db8:0:1:ffff::9", "[2001:db8:0:1::1]:4711"] {
            is_refused(&server, address, path).await;
        }
        for address in ["2001:db8:0:2::1", "192.0.2.1"] {
            admitted_from(&server, address, path).await;
        }
        admitted_from(&server, "2001:db8:0:1::1", &format!("{path}?token={token}")).await;
    }
    // Others may share the address.
    assert!(neighbour.is_heard().await);
    assert_eq!(bans(&mut boss).await[0]["address"], "2001:db8:0:1::");
    boss.say(unban("address", "2001:db8:0:1::77")).await;
    assert_eq!(bans(&mut boss).await, [Value::Null; 0]);
    Guest::enter(&server, "2001:db8:0:1::1").await;
}

async fn an_address_is_banned_with_everyone_there_who_has_no_account(launch: Launch) {
    let (server, key) = serve(launch);
    let mut boss = admin(&server, &key).await;
    let token = key.token("ann", &[]).await;
    let mut ann = Guest::enter_at(&server, "192.0.2.1", &format!("/chat?token={token}")).await;
    let mut ann_echoes = admitted_from(&server, "192.0.2.1", &format!("/echo?token={token}")).await;
    let mut guests = Vec::new();
    for _ in 0..5 {
        guests.push(Guest::enter(&server, "192.0.2.1").await);
    }
    let mut silent = Vec::new();
    for path in ["/ws", "/broadcast/news", "/echo"] {
        silent.push(admitted_from(&server, "192.0.2.1", path).await);
    }
    let mut elsewhere = Guest::enter(&server, "192.0.2.2").await;
    boss.say(ban("address", "::ffff:192.0.2.1", 60, "")).await;
    for guest in &mut guests {
        assert_eq!(guest.until(&["kicked"]).await["content"], json!({"reason": "Kicked by admin"}));
        assert_eq!(guest.closed().await, (1008, "banned".to_owned()));
    }
    for wire in &mut silent {
        assert_eq!(wire.close().await, (1008, "banned".to_owned()));
    }
    for path in PATHS {
        is_refused(&server, "192.0.2.1", path).await;
    }
    assert!(ann.is_heard().await && elsewhere.is_heard().await);
    ann_echoes.send(crate::harness::frame(crate::harness::TEXT, "still here")).await;
    assert_eq!(ann_echoes.text().await, "still here");
}

async fn accounts_are_banned_whether_or_not_they_are_there(launch: Launch) {
    let (server, key) = serve(launch);
    let mut boss = admin(&server, &key).await;
    let longest = "é".repeat(128);
    for sub in ["nobody yet", "Zoë\u{202e}", "👨\u{200d}👩\u{200d}👧", &longest] {
        boss.say(ban("account", sub, 60, "")).await;
        assert_eq!(bans(&mut boss).await[0]["account"], sub);
        let token = key.token(sub, &["--name", "Odd"]).await;
        is_refused(&server, "192.0.2.1", &format!("/echo?token={token}")).await;
        boss.say(unban("account", sub)).await;
        assert_eq!(bans(&mut boss).await, [Value::Null; 0], "{sub}");
        admitted_from(&server, "192.0.2.1", &format!("/echo?token={token}")).await;
    }
    for (key, value) in
        [("account", "nobody yet"), ("address", "192.0.2.1"), ("address", "nowhere"), ("account", "")]
    {
        boss.say(unban(key, value)).await;
        assert_eq!(boss.until("error").await, error("Unknown ban"), "{key} {value}");
    }
}

async fn a_ban_ends_by_itself(launch: Launch) {
    let (server, key) = serve(launch);
    let mut boss = admin(&server, &key).await;
    boss.say(ban("address", "192.0.2.1", 1, "")).await;
    assert_eq!(bans(&mut boss).await.len(), 1);
    eventually("the ban is over", async || {
        let mut wire = Wire::connect(&server).await;
        wire.send(upgrade_from("192.0.2.1", "/echo")).await;
        wire.head().await.status == 101
    })
    .await;
    assert_eq!(bans(&mut boss).await, [Value::Null; 0]);
    boss.say(unban("address", "192.0.2.1")).await;
    assert_eq!(boss.next().await, error("Unknown ban"));
}

/// Goal: messages of an admin take effect in their order, wherever their targets are.
async fn a_ban_takes_effect_before_the_next_message(launch: Launch) {
    let (server, key) = serve(launch);
    let mut boss = admin(&server, &key).await;
    for round in 0..20 {
        let account = format!("troll{round}");
        let troll = member(&server, &key, &account, &[]).await;
        let orders = [
            ban("target_id", troll.id, 60, ""),
            unban("account", &account),
            json!({"type": "get_bans"}),
            json!({"type": "kick", "target_id": 4_000}),
        ];
        boss.burst(orders).await;
        assert_eq!(boss.until("bans").await["content"], json!([]), "{round}");
        assert_eq!(boss.until("error").await, error("User not found or offline"));
    }
}

async fn the_refusal_has_its_place_among_the_others(launch: Launch) {
    let launch = launch.flag("--max-clients", 2).flag("--max-clients-per-address", 1);
    let (server, key) = serve(launch);
    let mut boss = admin(&server, &key).await;
    let token = key.token("ann", &[]).await;
    let mut ann = Guest::enter_at(&server, "192.0.2.1", &format!("/chat?token={token}")).await;
    for order in [ban("address", "192.0.2.1", 60, ""), ban("address", "192.0.2.2", 60, "")] {
        boss.say(order).await;
    }
    assert_eq!(bans(&mut boss).await.len(), 2);
    let answer = async |address: &str, path: &str, fields: &str| -> Response {
        let mut wire = Wire::connect(&server).await;
        wire.send(upgrade_from(address, path).replace("\r\n\r\n", &format!("\r\n{fields}\r\n"))).await;
        wire.response().await
    };
    assert_eq!(answer("192.0.2.1", "/nowhere", "").await.status, 404);
    let forbidden = answer("192.0.2.2", "/chat", "Origin: http://elsewhere\r\n").await;
    assert_eq!((forbidden.status, forbidden.body.as_str()), (403, "Forbidden origin"));
    assert_eq!(answer("192.0.2.1", "/chat", "").await.status, 429);
    assert_eq!(answer("192.0.2.2", "/chat?token=bad", "").await.status, 401);
    // The server is full, too.
    let banned = answer("192.0.2.2", "/chat", "").await;
    assert_eq!((banned.status, banned.body.as_str()), BANNED);
    assert_eq!(banned.header("connection"), Some("close"));
    assert!(ann.is_heard().await);
    // A page cannot read these answers, and asks.
    for (address, origin, told) in [
        ("192.0.2.2", "http://localhost", "banned"),
        ("192.0.2.2", "http://elsewhere", "other-origin"),
        ("192.0.2.3", "http://localhost", "allowed"),
    ] {
        let mut wire = Wire::connect(&server).await;
        let fields = format!("Host: localhost\r\nX-Forwarded-For: {address}\r\nUproar-Origin: {origin}");
        wire.send(format!("HEAD /chat HTTP/1.1\r\n{fields}\r\n\r\n")).await;
        assert_eq!(wire.response().await.header("uproar-origin"), Some(told), "{address} {origin}");
    }
}

async fn an_admin_may_ban_itself(launch: Launch) {
    let (server, key) = serve(launch);
    let mut boss = admin(&server, &key).await;
    boss.say(ban("target_id", boss.id, 60, "tired")).await;
    assert_eq!(boss.next().await, direct("kicked", json!({"reason": "tired"})));
    assert_eq!(boss.closed().await, (1008, "banned".to_owned()));
    let token = key.token("boss", &["--admin"]).await;
    is_refused(&server, "192.0.2.1", &format!("/chat?token={token}")).await;
    // Another one can undo it.
    let mut chief = member(&server, &key, "chief", &["--admin"]).await;
    chief.say(unban("account", "boss")).await;
    assert_eq!(bans(&mut chief).await, [Value::Null; 0]);
    admin(&server, &key).await;
}

async fn the_session_of_a_banned_account_is_not_resumed(launch: Launch) {
    let (server, key) = serve(launch);
    let mut boss = admin(&server, &key).await;
    let token = key.token("troll", &[]).await;
    let mut troll = Guest::enter_at(&server, "192.0.2.1", &format!("/chat?token={token}")).await;
    boss.say(ban("target_id", troll.id, 60, "")).await;
    assert_eq!(troll.closed().await.0, 1008);
    let path = format!("/chat?session={}", troll.session);
    assert_ne!(Guest::enter_at(&server, "192.0.2.1", &path).await.id, troll.id);
}
