//! Signing in: where it is required, where it is possible, and what becomes of wrong attempts.

use serde_json::{Value, json};

use crate::harness::{
    AccountFile, Chat, Launch, Server, Wire, direct, error, from, on_one_and_four_shards_only, password_of,
    request, run, upgrade_request,
};

on_one_and_four_shards_only! {
    who_signs_in_where_it_is_required_then_hears_what_a_newcomer_hears,
    before_signing_in_everything_else_is_refused,
    strangers_are_in_no_room_and_are_no_users,
    who_does_not_sign_in_in_time_is_closed,
    a_wrong_pair_is_closed,
    where_it_is_not_required_the_room_hears_of_the_new_name,
    without_accounts_every_pair_is_wrong,
    what_is_sent_behind_auth_takes_effect_behind_it,
    several_sessions_may_share_one_account,
    one_may_not_sign_in_again_as_somebody_else,
    a_change_of_an_account_counts_at_once,
    a_bad_auth_message_is_a_wrong_format,
    dialects_without_a_way_to_sign_in_are_forbidden,
    nobody_waits_for_anothers_hash,
    wrong_passwords_by_the_thousand_disturb_nobody,
    a_shutdown_waits_for_no_hash,
}

const FAILED: &str = "Authentication failed";
const REQUIRED: &str = "Authentication required";

/// Passes of a hash that takes half a second where nothing else is done. An account's own has 2.
const PASSES: usize = 50;

async fn who_signs_in_where_it_is_required_then_hears_what_a_newcomer_hears(launch: Launch) {
    let accounts = AccountFile::of(&["Ann"], &["Bo ss"]).await;
    let server = requiring(launch, &accounts).start();
    let mut boss = Chat::connect(&server).await;
    boss.say(auth("Bo ss")).await;
    let content = json!({"user_name": "Bo ss", "is_admin": true});
    assert_eq!(boss.next().await, direct("auth_success", content));
    let welcome = boss.read_welcome().await;
    assert_eq!(welcome["content"]["user_name"], "Bo ss");
    assert_eq!(welcome["content"]["room"], "general");
    assert_eq!(welcome["content"]["server_stats"]["users_online"], 1);
    assert_eq!(boss.next().await["type"], "users");
    assert_eq!(boss.next().await["type"], "history");

    let mut ann = Chat::connect(&server).await;
    ann.say(auth("Ann")).await;
    let content = json!({"user_name": "Ann", "is_admin": false});
    assert_eq!(ann.next().await, direct("auth_success", content));
    ann.read_welcome().await;
    let users = ann.next().await;
    let names: Vec<&Value> = users["content"].as_array().unwrap().iter().map(|user| &user["name"]).collect();
    assert!(names.contains(&&json!("Ann")) && names.contains(&&json!("Bo ss")), "{users}");
    let content = json!({
        "user_id": ann.id, "user_name": "Ann", "users_online": 2, "room": "general", "account": "Ann",
        "is_admin": false,
    });
    assert_eq!(boss.next().await, from(&ann, "join", content));
}

async fn before_signing_in_everything_else_is_refused(launch: Launch) {
    let accounts = AccountFile::of(&["Ann"], &[]).await;
    let server = requiring(launch, &accounts).start();
    let mut ann = Chat::connect(&server).await;
    for message in [
        json!({"type": "message", "content": "hello?"}),
        json!({"type": "message", "content": ""}),
        json!({"type": "set_name", "name": "Boss"}),
        json!({"type": "set_name", "name": ""}),
        json!({"type": "private_message", "to_id": 1, "content": "hello?"}),
        json!({"type": "get_users"}),
        json!({"type": "get_stats"}),
        json!({"type": "get_rooms"}),
        json!({"type": "join_room", "room": "random"}),
        json!({"type": "resume", "room": "general", "after": 0}),
        json!({"type": "image", "url": "https://example.com/a.png"}),
        json!({"type": "typing", "is_typing": true}),
        json!({"type": "read", "message_id": 1}),
        json!({"type": "kick", "target_id": 1}),
        json!({"type": "mute", "target_id": 1, "seconds": 1}),
        json!({"type": "unmute", "target_id": 1}),
        json!({"type": "dance"}),
        json!({}),
    ] {
        ann.say(message.clone()).await;
        assert_eq!(ann.next().await, error(REQUIRED), "{message}");
    }
    for text in ["", "no JSON", "[]"] {
        ann.send(text).await;
        assert_eq!(ann.next().await, error(REQUIRED), "{text}");
    }
    ann.send(vec![1_u8, 2, 3]).await;
    assert_eq!(ann.next().await, error(REQUIRED));
    // None of it has hurt.
    sign_in(&mut ann, "Ann").await;
}

async fn strangers_are_in_no_room_and_are_no_users(launch: Launch) {
    let accounts = AccountFile::of(&["Ann", "Ben"], &[]).await;
    let server = requiring(launch, &accounts).start();
    let mut stranger = Chat::connect(&server).await;
    stranger.say(json!({"type": "get_stats"})).await;
    assert_eq!(stranger.next().await, error(REQUIRED));
    let mut ann = enter(&server, "Ann").await;
    ann.say(json!({"type": "get_stats"})).await;
    assert_eq!(ann.next().await["content"]["users_online"], 1);
    let own = ann.id;
    for id in (1..=8).filter(|id| *id != own) {
        ann.say(json!({"type": "private_message", "to_id": id, "content": "anybody?"})).await;
        assert_eq!(ann.next().await, error("User not found or offline"));
    }
    ann.message("nobody hears it").await;
    stranger.leave().await;
    // Had the stranger been announced, that would come first.
    let ben = enter(&server, "Ben").await;
    assert_eq!(ann.next().await["from_id"], ben.id);
}

async fn who_does_not_sign_in_in_time_is_closed(launch: Launch) {
    let accounts = AccountFile::of(&["Ann"], &[]).await;
    // A hash takes its time on a busy machine.
    let server = requiring(launch, &accounts).flag("--handshake-timeout", "2s").start();
    let mut silent = Chat::connect(&server).await;
    let mut talking = Chat::connect(&server).await;
    talking.say(json!({"type": "get_rooms"})).await;
    assert_eq!(talking.next().await, error(REQUIRED));
    assert_eq!(talking.closed().await.0, 1008);
    assert_eq!(silent.closed().await.0, 1008);
    // Who has signed in stays: here beyond the time in which another one is closed.
    let mut ann = enter(&server, "Ann").await;
    let mut late = Chat::connect(&server).await;
    assert_eq!(late.closed().await.0, 1008);
    ann.message("still here").await;
}

async fn a_wrong_pair_is_closed(launch: Launch) {
    let accounts = AccountFile::of(&["Ann"], &[]).await;
    let server = requiring(launch, &accounts).start();
    for (username, password) in [
        ("Ann", "guess"),
        ("Ann", ""),
        ("Ann", "Secret of Ann"),
        ("ann", "secret of Ann"),
        ("Ben", "secret of Ann"),
        ("", "secret of Ann"),
        ("Ann\0", "secret of Ann"),
        ("' OR 1=1 --", "x"),
        ("\u{202e}nnA", "secret of Ann"),
        ("A\u{200b}nn", "secret of Ann"),
        (&"A".repeat(5_000), &"x".repeat(5_000)),
    ] {
        let mut guesser = Chat::connect(&server).await;
        guesser.say(json!({"type": "auth", "username": username, "password": password})).await;
        assert_eq!(guesser.closed().await, (1008, FAILED.to_owned()), "{username:?}");
    }
    enter(&server, "Ann").await;
    let log = server.output();
    // No password, and nothing that would turn the line around.
    assert!(!log.contains("guess") && !log.contains("ecret of") && !log.contains('\u{202e}'), "{log}");
}

async fn where_it_is_not_required_the_room_hears_of_the_new_name(launch: Launch) {
    let accounts = AccountFile::of(&["Ann"], &[]).await;
    let server = launch.flag("--data", accounts.path().display()).start();
    let [mut ann, mut bob] = Chat::members(&server).await;
    let old_name = ann.name.clone();
    sign_in(&mut ann, "Ann").await;
    ann.name = "Ann".to_owned();
    let content = json!({"user_id": ann.id, "old_name": old_name, "new_name": "Ann"});
    assert_eq!(bob.next().await, from(&ann, "user_renamed", content));
    ann.message("it is me").await;
    assert_eq!(bob.next().await["from_name"], "Ann");
    // A wrong pair ends the connection here, too, and the room hears of it once.
    ann.say(json!({"type": "auth", "username": "Ann", "password": "guess"})).await;
    assert_eq!(ann.closed().await, (1008, FAILED.to_owned()));
    assert_eq!(bob.next().await["type"], "leave");
    bob.message("gone").await;
}

async fn without_accounts_every_pair_is_wrong(launch: Launch) {
    let server = launch.start();
    let mut alice = Chat::enter(&server).await;
    alice.say(auth("Ann")).await;
    assert_eq!(alice.closed().await, (1008, FAILED.to_owned()));
}

async fn what_is_sent_behind_auth_takes_effect_behind_it(launch: Launch) {
    let accounts = AccountFile::of(&["Ann"], &[]).await;
    let server = requiring(launch, &accounts).start();
    let mut ann = Chat::connect(&server).await;
    ann.burst([
        json!({"type": "get_rooms"}),
        auth("Ann"),
        json!({"type": "message", "content": "first"}),
        json!({"type": "join_room", "room": "random"}),
        json!({"type": "message", "content": "second"}),
    ])
    .await;
    let mut kinds = Vec::new();
    for _ in 0..10 {
        kinds.push(ann.next().await["type"].as_str().unwrap().to_owned());
    }
    let wanted = [
        "error",
        "auth_success",
        "welcome",
        "users",
        "history",
        "message_sent",
        "room_joined",
        "users",
        "history",
        "message_sent",
    ];
    assert_eq!(kinds, wanted);
}

async fn several_sessions_may_share_one_account(launch: Launch) {
    let accounts = AccountFile::of(&["Ann"], &[]).await;
    let server = requiring(launch, &accounts).start();
    let mut first = enter(&server, "Ann").await;
    let mut second = enter(&server, "Ann").await;
    assert_ne!(first.id, second.id);
    assert_eq!(first.next().await["from_id"], second.id);
    second.message("to myself").await;
    let heard = first.next().await;
    assert_eq!((&heard["from_id"], &heard["from_name"]), (&json!(second.id), &json!("Ann")));
}

async fn one_may_not_sign_in_again_as_somebody_else(launch: Launch) {
    let accounts = AccountFile::of(&["Ann"], &["boss"]).await;
    let server = requiring(launch, &accounts).start();
    let mut ann = enter(&server, "Ann").await;
    ann.say(auth("Ann")).await;
    assert_eq!(ann.next().await["type"], "auth_success");
    ann.say(auth("boss")).await;
    assert_eq!(ann.closed_in_the_end().await, (1008, FAILED.to_owned()));
}

async fn a_change_of_an_account_counts_at_once(launch: Launch) {
    let accounts = AccountFile::of(&["Ann"], &[]).await;
    let server = requiring(launch, &accounts).start();
    let mut ann = enter(&server, "Ann").await;
    accounts.change(&["passwd", "Ann"], "new").await;
    accounts.change(&["add", "Ben"], &password_of("Ben")).await;
    let mut old = Chat::connect(&server).await;
    old.say(auth("Ann")).await;
    assert_eq!(old.closed().await, (1008, FAILED.to_owned()));
    let mut new = Chat::connect(&server).await;
    new.say(json!({"type": "auth", "username": "Ann", "password": "new"})).await;
    assert_eq!(new.next().await["type"], "auth_success");
    enter(&server, "Ben").await;
    accounts.change(&["remove", "Ann"], "").await;
    let mut removed = Chat::connect(&server).await;
    removed.say(json!({"type": "auth", "username": "Ann", "password": "new"})).await;
    assert_eq!(removed.closed().await, (1008, FAILED.to_owned()));
    assert_eq!(ann.closed_in_the_end().await, (1008, "password changed".to_owned()));
}

async fn a_bad_auth_message_is_a_wrong_format(launch: Launch) {
    let accounts = AccountFile::of(&["Ann"], &[]).await;
    let second = AccountFile::of(&["Ann"], &[]).await;
    let required = requiring(launch.clone(), &accounts).start();
    let optional = launch.flag("--data", second.path().display()).start();
    let mut stranger = Chat::connect(&required).await;
    let mut guest = Chat::enter(&optional).await;
    for message in [
        json!({"type": "auth"}),
        json!({"type": "auth", "username": "Ann"}),
        json!({"type": "auth", "password": "secret of Ann"}),
        json!({"type": "auth", "username": null, "password": "x"}),
        json!({"type": "auth", "username": 7, "password": "x"}),
        json!({"type": "auth", "username": "Ann", "password": 7}),
        json!({"type": "auth", "username": ["Ann"], "password": {"x": "y"}}),
    ] {
        for client in [&mut stranger, &mut guest] {
            client.say(message.clone()).await;
            assert_eq!(client.next().await, error("Invalid message format"), "{message}");
        }
    }
    sign_in(&mut stranger, "Ann").await;
    sign_in(&mut guest, "Ann").await;
}

async fn dialects_without_a_way_to_sign_in_are_forbidden(launch: Launch) {
    let accounts = AccountFile::of(&["Ann"], &[]).await;
    let server = requiring(launch, &accounts).start();
    for path in ["/ws", "/broadcast", "/broadcast/news", "/echo"] {
        let mut wire = Wire::connect(&server).await;
        wire.send(upgrade_request(path)).await;
        let refusal = wire.response().await;
        assert_eq!(refusal.status, 403, "{path}");
        assert!(refusal.body.contains("only the chat dialect (/chat)"), "{path}: {}", refusal.body);
    }
    for path in ["/", "/chat", "/healthz", "/metrics"] {
        let mut wire = Wire::connect(&server).await;
        wire.send(request(&server, "GET", path, "")).await;
        assert_eq!(wire.response().await.status, 200, "{path}");
    }
    let metrics = metrics(&server).await;
    assert!(metrics.contains("uproar_refused_total{reason=\"sign_in_required\"} 4"), "{metrics}");
}

/// The hash takes twenty-five times as long as any other, so all that the others say is over before it: the
/// order tells, not the time.
async fn nobody_waits_for_anothers_hash(launch: Launch) {
    let accounts = AccountFile::of(&["Ann", "slow"], &[]).await;
    make_slow(&accounts, "slow", PASSES);
    let server = launch.flag("--data", accounts.path().display()).without_rate_limit().start();
    let [mut ann, mut bob, mut slow] = Chat::members(&server).await;
    slow.burst([auth("slow"), json!({"type": "get_rooms"})]).await;
    for number in 0..25 {
        let text = number.to_string();
        ann.message(&text).await;
        assert_eq!(bob.next().await["content"], text);
        bob.message(&text).await;
        assert_eq!(ann.next().await["content"], text);
    }
    // Nothing has ended the attempt, or answered what was sent behind it: all of that comes only now.
    for _ in 0..25 {
        assert_eq!(slow.next().await["type"], "message");
        assert_eq!(slow.next().await["type"], "message");
    }
    assert_eq!(slow.closed().await, (1008, FAILED.to_owned()));
    for chat in [&mut ann, &mut bob] {
        let leave = chat.next().await;
        assert_eq!((&leave["type"], &leave["content"]["user_id"]), (&json!("leave"), &json!(slow.id)));
    }
}

async fn wrong_passwords_by_the_thousand_disturb_nobody(launch: Launch) {
    let accounts = AccountFile::of(&["Ann", "Ben"], &[]).await;
    // A thousand true hashes take 20 s of a core that the verifier gets only when nobody else wants it.
    accounts.hash_cheaply("Ann");
    let server = requiring(launch, &accounts).start();
    let [mut ann, mut also_ann] = [enter(&server, "Ann").await, enter(&server, "Ann").await];
    assert_eq!(ann.next().await["type"], "join");
    for round in 0..40 {
        let mut guessers = Vec::new();
        // Fewer than an address may have under way.
        for guess in 0..25 {
            let mut guesser = Chat::connect(&server).await;
            let password = format!("guess {round} {guess}");
            guesser.say(json!({"type": "auth", "username": "Ann", "password": password})).await;
            guessers.push(guesser);
        }
        ann.message("calm").await;
        assert_eq!(also_ann.next().await["content"], "calm");
        for guesser in &mut guessers {
            assert_eq!(guesser.closed().await, (1008, FAILED.to_owned()));
        }
    }
    // This address has used up its attempts at the account: even the right pair is not looked at for a while.
    let mut late = Chat::connect(&server).await;
    late.say(auth("Ann")).await;
    assert_eq!(late.closed().await, (1008, FAILED.to_owned()));
    // Others may sign in from there.
    enter(&server, "Ben").await;
    let metrics = metrics(&server).await;
    assert!(metrics.contains("uproar_sign_ins_total{outcome=\"denied\"} 1001"), "{metrics}");
    assert!(metrics.contains("uproar_sign_ins_total{outcome=\"granted\"} 3"), "{metrics}");
}

/// A hash of a minute, which nobody sees the end of.
async fn a_shutdown_waits_for_no_hash(launch: Launch) {
    let accounts = AccountFile::of(&["slow"], &[]).await;
    make_slow(&accounts, "slow", 100 * PASSES);
    let mut server = requiring(launch, &accounts).start();
    let mut slow: Vec<Chat> = Vec::new();
    for _ in 0..5 {
        let mut chat = Chat::connect(&server).await;
        chat.burst([json!({"type": "get_rooms"}), auth("slow")]).await;
        assert_eq!(chat.next().await, error(REQUIRED));
        slow.push(chat);
    }
    server.signal(rustix::process::Signal::TERM);
    for chat in &mut slow {
        assert_eq!(chat.closed().await, (1001, "server shutting down".to_owned()));
    }
    assert!(server.exit().await.success());
}

#[tokio::test]
async fn requiring_it_without_accounts_is_refused_with_the_command_to_run() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().to_str().unwrap();
    let refused = run(&["--listen=127.0.0.1:0", "--shards=1", "--auth=required", "--data", data], &[]).await;
    assert_eq!(refused.code, Some(1), "{}", refused.stdout);
    let command = format!("uproar user add NAME --admin --data {data}");
    assert!(refused.stderr.contains(&command), "{}", refused.stderr);

    let refused = run(&["--auth=required"], &[]).await;
    assert_eq!(refused.code, Some(2), "{}", refused.stdout);
    assert!(refused.stderr.contains("--data"), "{}", refused.stderr);
    let refused = run(&["--auth=maybe"], &[]).await;
    assert_eq!(refused.code, Some(2), "{}", refused.stdout);
    assert!(refused.stderr.contains("off or required"), "{}", refused.stderr);
}

#[tokio::test]
async fn a_damaged_account_file_stops_the_start() {
    let accounts = AccountFile::of(&["Ann"], &[]).await;
    let file = accounts.path().join("accounts.db");
    std::fs::write(&file, "this is no database, although it is long enough ".repeat(50)).unwrap();
    let data = accounts.path().to_str().unwrap();
    let refused = run(&["--listen=127.0.0.1:0", "--shards=1", "--data", data], &[]).await;
    assert_eq!(refused.code, Some(1), "{}", refused.stdout);
    assert!(refused.stderr.contains(&format!("{} is damaged", file.display())), "{}", refused.stderr);
    assert!(refused.stderr.contains("restore it from a backup"), "{}", refused.stderr);
}

fn requiring(launch: Launch, accounts: &AccountFile) -> Launch {
    launch.flag("--auth", "required").flag("--data", accounts.path().display())
}

fn auth(name: &str) -> Value {
    json!({"type": "auth", "username": name, "password": password_of(name)})
}

async fn sign_in(chat: &mut Chat, name: &str) {
    chat.say(auth(name)).await;
    let content = json!({"user_name": name, "is_admin": false});
    assert_eq!(chat.next().await, direct("auth_success", content));
}

/// Signs in where that is required, and reads all that a newcomer is told.
async fn enter(server: &Server, name: &str) -> Chat {
    let mut chat = Chat::connect(server).await;
    sign_in(&mut chat, name).await;
    chat.read_welcome().await;
    assert_eq!(chat.next().await["type"], "users");
    assert_eq!(chat.next().await["type"], "history");
    chat
}

/// Gives an account a hash that takes so many passes to compare with, and is that of no password.
fn make_slow(accounts: &AccountFile, name: &str, passes: usize) {
    let rest = "p=1$c29tZXNhbHRzb21lc2FsdA$MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE";
    accounts.set_hash(name, &format!("$argon2id$v=19$m=19456,t={passes},{rest}"));
}

async fn metrics(server: &Server) -> String {
    let mut wire = Wire::connect(server).await;
    wire.send(request(server, "GET", "/metrics", "")).await;
    wire.response().await.body
}
