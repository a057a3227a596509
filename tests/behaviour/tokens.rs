//! Tokens: how they come, which are refused, and what happens when they expire.

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::harness::{
    Chat, Hub, Launch, Server, Socket, TokenKey, Wire, direct, error, eventually, from,
    on_one_and_four_shards_only, request, run, upgrade_request, upgrade_with,
};

on_one_and_four_shards_only! {
    a_token_gives_a_name_and_needs_no_account,
    the_field_counts_before_the_query,
    a_bad_token_opens_no_connection,
    without_keys_tokens_are_not_looked_at,
    where_signing_in_is_required_a_token_opens_every_dialect,
    refusals_have_an_order,
    a_token_signs_in_within_chat,
    a_bad_token_in_chat_ends_the_connection,
    keys_are_read_again_on_a_hangup,
    a_token_that_expires_can_be_renewed,
}

const FAILED: (u16, &str) = (1008, "Authentication failed");

/// Every dialect's path.
const PATHS: [&str; 5] = ["/chat", "/ws", "/broadcast", "/broadcast/news", "/echo"];

async fn a_token_gives_a_name_and_needs_no_account(launch: Launch) {
    let key = TokenKey::new();
    let server = with_key(launch, &key).start();
    let mut bob = Chat::enter(&server).await;
    let token = key.token("ann", &["--name", "Ann Lee", "--admin"]).await;
    let mut ann = Chat::with_token(&server, &token).await;
    let welcome = ann.read_welcome().await;
    assert_eq!(welcome["content"]["user_name"], "Ann Lee");
    assert_eq!(welcome["content"]["room"], "general");
    assert_eq!(ann.next().await["type"], "users");
    assert_eq!(ann.next().await["type"], "history");
    let content = json!({
        "user_id": ann.id, "user_name": "Ann Lee", "users_online": 2, "room": "general", "account": "ann",
        "is_admin": true,
    });
    assert_eq!(bob.next().await, from(&ann, "join", content));
    ann.message("hello").await;
    assert_eq!(bob.next().await["from_name"], "Ann Lee");
    // The claim admin moderates, and nobody else does.
    bob.say(json!({"type": "kick", "target_id": ann.id})).await;
    assert_eq!(bob.next().await, error("Permission denied"));
    ann.say(json!({"type": "kick", "target_id": bob.id})).await;
    assert_eq!(bob.next().await["type"], "kicked");

    let long = "ann".repeat(42);
    let mut long_named = Chat::with_token(&server, &key.token(&long, &[]).await).await;
    assert_eq!(long_named.read_welcome().await["content"]["user_name"], long[..20]);
    assert_no_token(&server, &token);
}

async fn the_field_counts_before_the_query(launch: Launch) {
    let key = TokenKey::new();
    let server = with_key(launch, &key).start();
    let token = key.token("ann", &[]).await;
    for (path, field, status) in [
        (format!("/echo?token={token}"), String::new(), 101),
        (format!("/echo?token={token}"), "Authorization: Basic YTpi\r\n".to_owned(), 101),
        (format!("/echo?token={token}"), "Authorization: Bearer bad\r\n".to_owned(), 401),
        ("/echo?token=bad".to_owned(), format!("Authorization: Bearer {token}\r\n"), 101),
        ("/echo?token=bad".to_owned(), format!("authorization: bearer   {token}\r\n"), 101),
        (format!("/echo?token=bad&token={token}"), String::new(), 401),
        ("/echo?token=".to_owned(), String::new(), 401),
        ("/echo".to_owned(), "Authorization: Bearer\r\n".to_owned(), 401),
    ] {
        let mut wire = Wire::connect(&server).await;
        wire.send(upgrade_request(&path).replacen("\r\n", &format!("\r\n{field}"), 1)).await;
        assert_eq!(wire.head().await.status, status, "{path} {field}");
    }
    assert_no_token(&server, &token);
}

async fn a_bad_token_opens_no_connection(launch: Launch) {
    let (key, other) = (TokenKey::new(), TokenKey::new());
    other.write("another secret, which has thirty-two bytes, too");
    let launch = with_key(launch, &key).flag("--token-issuer", "backend").flag("--token-audience", "chat");
    let server = launch.start();
    let issuer = ["--token-issuer", "backend"];
    let (all, bad_audience) = (["--token-audience", "chat"], ["--token-audience", "mail"]);
    let good = key.token("ann", &[issuer, all].concat()).await;
    let unsigned = format!("eyJhbGciOiJub25lIn0.{}.", good.split('.').nth(1).unwrap());
    for (token, said) in [
        ("rubbish".to_owned(), "it is no JWT"),
        (unsigned, "it is no JWT with a supported algorithm"),
        (other.token("ann", &[issuer, all].concat()).await, "the signature is wrong"),
        (key.token("ann", &all).await, "the claim iss is missing"),
        (key.token("ann", &[issuer, bad_audience].concat()).await, "it is for another audience (aud)"),
        ("x".repeat(10_000), "it is no JWT"),
    ] {
        for path in PATHS {
            let refused = upgrade_with(&server, path, &format!("Authorization: Bearer {token}\r\n")).await;
            assert_eq!(refused.status, 401, "{path}");
            assert_eq!(refused.header("www-authenticate"), Some("Bearer error=\"invalid_token\""));
            assert_eq!(refused.header("connection"), Some("close"));
            assert!(
                refused.body.starts_with("Bad token: ") && refused.body.contains(said),
                "{}",
                refused.body
            );
        }
    }
    // One that is longer than a head may be never gets so far.
    let refused =
        upgrade_with(&server, "/chat", &format!("Authorization: Bearer {}\r\n", "x".repeat(64 << 10))).await;
    assert_eq!(refused.status, 431);
    let mut ann = Chat::with_token(&server, &good).await;
    ann.read_welcome().await;
    // Plain requests have no token to look at.
    let mut wire = Wire::connect(&server).await;
    wire.send(request(&server, "GET", "/metrics", "Authorization: Bearer rubbish\r\n")).await;
    let metrics = wire.response().await.body;
    assert!(metrics.contains("uproar_refused_total{reason=\"bad_token\"} 30"), "{metrics}");
}

async fn without_keys_tokens_are_not_looked_at(launch: Launch) {
    let server = launch.start();
    let mut ann = Chat::with_token(&server, "rubbish").await;
    ann.read_welcome().await;
    assert!(ann.name.starts_with("User"));
    let mut echo = Socket::with_token(&server, "/echo", "").await;
    echo.send("hello").await;
    assert_eq!(echo.text().await, "hello");
    assert_eq!(ann.next().await["type"], "users");
    assert_eq!(ann.next().await["type"], "history");
    ann.say(json!({"type": "auth", "token": "rubbish"})).await;
    assert_eq!(ann.closed().await, (FAILED.0, FAILED.1.to_owned()));
}

async fn where_signing_in_is_required_a_token_opens_every_dialect(launch: Launch) {
    let key = TokenKey::new();
    let server = with_key(launch, &key).flag("--auth", "required").start();
    let publish = ["--publish", "*", "--publish", "topic:news"];
    let token = key.token("ann", &publish).await;
    for path in &PATHS[1..] {
        let mut wire = Wire::connect(&server).await;
        wire.send(upgrade_request(path)).await;
        let refusal = wire.response().await;
        let hint = "Sign-in is required here: bring a token, or sign in at /chat";
        assert_eq!((refusal.status, refusal.body.as_str()), (403, hint), "{path}");
    }
    let mut chat = Chat::with_token(&server, &token).await;
    chat.read_welcome().await;
    assert_eq!(chat.next().await["type"], "users");
    assert_eq!(chat.next().await["type"], "history");
    let mut hub = Hub::with_token(&server, &token).await;
    hub.say("login", "somebody else").await;
    let login = hub.next().await;
    assert_eq!((&login["type"], &login["user"]), (&json!("login"), &json!("ann")));
    assert_eq!(chat.next().await["content"]["user_name"], "ann");
    let mut raw = Socket::with_token(&server, "/broadcast/news", &token).await;
    raw.send("hello").await;
    assert_eq!(raw.text().await, "hello");
    let mut echo = Socket::with_token(&server, "/echo", &token).await;
    echo.send("hello").await;
    assert_eq!(echo.text().await, "hello");
    // Without one, chat still asks.
    let mut bob = Chat::connect(&server).await;
    bob.say(json!({"type": "get_stats"})).await;
    assert_eq!(bob.next().await, error("Authentication required"));
    bob.say(json!({"type": "auth", "token": key.token("bob", &[]).await})).await;
    let content = json!({"user_name": "bob", "is_admin": false});
    assert_eq!(bob.next().await, direct("auth_success", content));
    assert_eq!(bob.read_welcome().await["content"]["user_name"], "bob");
}

async fn refusals_have_an_order(launch: Launch) {
    let key = TokenKey::new();
    let launch =
        with_key(launch, &key).flag("--no-limit-for", "192.0.2.1").flag("--max-clients-per-address", 1);
    let server = launch.start();
    let status = async |path: &str, fields: &str| upgrade_with(&server, path, fields).await.status;
    let bad = "Authorization: Bearer bad\r\n";
    let foreign = "Origin: https://elsewhere.example\r\n";
    assert_eq!(status("/nowhere", bad).await, 404);
    assert_eq!(status("/chat", &format!("{bad}{foreign}")).await, 403);
    assert_eq!(status("/chat", bad).await, 401);
    let token = key.token("ann", &["--topic", "news"]).await;
    assert_eq!(status(&format!("/broadcast/prices?token={token}"), "").await, 403);
    // An address that may not connect at all does not get to the check.
    let mut inside = Chat::enter(&server).await;
    assert_eq!(status("/chat", bad).await, 429);
    assert_eq!(status(&format!("/broadcast/prices?token={token}"), "").await, 429);
    inside.message("still here").await;
}

async fn a_token_signs_in_within_chat(launch: Launch) {
    let key = TokenKey::new();
    let server = with_key(launch, &key).start();
    let [mut ann, mut bob] = Chat::members(&server).await;
    let old_name = ann.name.clone();
    ann.say(json!({"type": "auth", "token": key.token("ann", &["--name", "Ann"]).await})).await;
    let content = json!({"user_name": "Ann", "is_admin": false});
    assert_eq!(ann.next().await, direct("auth_success", content));
    ann.name = "Ann".to_owned();
    let content = json!({"user_id": ann.id, "old_name": old_name, "new_name": "Ann"});
    assert_eq!(bob.next().await, from(&ann, "user_renamed", content));
    // A new token of the same account renews the rights, and is no news for the room.
    ann.say(json!({"type": "auth", "token": key.token("ann", &["--name", "Ann", "--admin"]).await})).await;
    let content = json!({"user_name": "Ann", "is_admin": true});
    assert_eq!(ann.next().await, direct("auth_success", content));
    ann.message("again").await;
    assert_eq!(bob.next().await["content"], "again");
    // One of another account is wrong.
    ann.say(json!({"type": "auth", "token": key.token("boss", &[]).await})).await;
    assert_eq!(ann.closed().await, (FAILED.0, FAILED.1.to_owned()));
    assert_eq!(bob.next().await["type"], "leave");
}

async fn a_bad_token_in_chat_ends_the_connection(launch: Launch) {
    let (key, other) = (TokenKey::new(), TokenKey::new());
    other.write("another secret, which has thirty-two bytes, too");
    let server = with_key(launch, &key).start();
    let foreign = other.token("ann", &[]).await;
    for token in ["", "rubbish", &foreign, &"x".repeat(9_000)] {
        let mut ann = Chat::enter(&server).await;
        ann.say(json!({"type": "auth", "token": token})).await;
        assert_eq!(ann.closed().await, (FAILED.0, FAILED.1.to_owned()), "{token}");
    }
    let mut ann = Chat::enter(&server).await;
    for token in [json!(1), Value::Null, json!(["a"])] {
        ann.say(json!({"type": "auth", "token": token})).await;
        assert_eq!(ann.next().await, error("Invalid message format"));
    }
    eventually("the failure is logged", async || server.output().contains("sign-in with a token failed"))
        .await;
    assert_no_token(&server, &foreign);
}

async fn keys_are_read_again_on_a_hangup(launch: Launch) {
    let key = TokenKey::new();
    let server = with_key(launch, &key).start();
    let old = key.token("ann", &[]).await;
    let mut ann = Chat::with_token(&server, &old).await;
    ann.read_welcome().await;
    let hang_up = async |line: &str| {
        let before = server.output().matches(line).count();
        server.signal(Signal::HUP);
        eventually(line, async || server.output().matches(line).count() > before).await;
    };
    let opens = async |token: &str| {
        let mut wire = Wire::connect(&server).await;
        wire.send(upgrade_request(&format!("/echo?token={token}"))).await;
        wire.head().await.status == 101
    };
    key.write("too short");
    hang_up("the keys for tokens stay as they are").await;
    assert!(opens(&old).await);
    key.write("the next secret, which also has thirty-two bytes");
    let new = key.token("ann", &[]).await;
    assert!(opens(&old).await && !opens(&new).await);
    hang_up("new tokens are checked with the keys").await;
    assert!(!opens(&old).await && opens(&new).await);
    // Shards have the new keys, too, and who is in stays in.
    assert_eq!(ann.next().await["type"], "users");
    assert_eq!(ann.next().await["type"], "history");
    ann.say(json!({"type": "auth", "token": new})).await;
    assert_eq!(ann.next().await["type"], "auth_success");
    ann.say(json!({"type": "auth", "token": old})).await;
    assert_eq!(ann.closed().await, (FAILED.0, FAILED.1.to_owned()));
}

async fn a_token_that_expires_can_be_renewed(launch: Launch) {
    let key = TokenKey::new();
    let server = with_key(launch, &key).start();
    let mut ann = Chat::enter(&server).await;
    // It may have expired on a busy machine before it arrives.
    ann.say(json!({"type": "auth", "token": key.token("ann", &["--expires", "4s"]).await})).await;
    assert_eq!(ann.next().await["type"], "auth_success");
    assert_eq!(ann.next().await, direct("token_expired", json!({"grace_seconds": 30})));
    ann.message("meanwhile").await;
    ann.say(json!({"type": "auth", "token": key.token("ann", &[]).await})).await;
    assert_eq!(ann.next().await["type"], "auth_success");
    ann.message("renewed").await;
}

#[tokio::test]
async fn unusable_keys_are_found_at_the_start() {
    let key = TokenKey::new();
    key.write("too short");
    let path = key.path();
    let arguments = ["--token-key", path.to_str().unwrap(), "--listen", "127.0.0.1:0", "--shards", "1"];
    let started = run(&arguments, &[]).await;
    assert_eq!(started.code, Some(2), "{}", started.output());
    assert!(started.output().contains("the secret is shorter than 32 bytes"), "{}", started.output());
    let checked = run(&[&["check"], &arguments[..]].concat(), &[]).await;
    assert_eq!(checked.code, Some(2));
    assert!(
        checked.stdout.contains("token keys") && checked.stdout.contains("shorter"),
        "{}",
        checked.stdout
    );
    let required = run(&["--auth", "required"], &[]).await;
    assert!(required.output().contains("--token-key or --token-jwks for tokens"), "{}", required.output());
}

fn with_key(launch: Launch, key: &TokenKey) -> Launch {
    launch.flag("--token-key", key.path().display())
}

/// Nothing of a token is in the log, not even its signature.
fn assert_no_token(server: &Server, token: &str) {
    let log = server.output();
    assert!(token.split('.').all(|part| !log.contains(part)), "{log}");
}
