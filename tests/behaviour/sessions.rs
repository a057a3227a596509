//! Sessions: who comes back is the same user, in the same room, and only who may.

use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use crate::harness::{
    Chat, Hub, Launch, Server, TokenKey, Wire, direct, error, from, from_system, on_one_server, on_two_nodes,
    request, upgrade_request,
};
use crate::metrics::scrape;

on_one_server! {
    a_session_is_a_short_token_that_fits_into_a_url,
    an_earlier_connection_that_is_still_there_is_closed,
    a_session_goes_on_however_often_it_is_used,
    of_many_at_once_one_stays_as_the_user,
    a_name_in_the_query_yields_to_the_session,
    a_session_that_is_wrong_is_ignored,
    what_is_asked_about_a_user_reaches_its_new_connection,
    messages_of_the_time_between_are_in_the_history,
    a_guest_who_comes_back_with_a_token_stays_the_same_user,
    a_session_of_another_server_is_ignored,
    a_session_that_is_too_old_is_ignored,
    a_token_of_the_same_account_keeps_its_name_and_one_of_another_is_a_new_user,
    other_dialects_ignore_it,
    who_comes_back_is_the_same_user_in_the_same_room,
    sessions_can_be_switched_off,
    where_signing_in_is_required_a_session_counts_at_auth_success,
    who_is_signed_in_signs_in_again,
}

on_two_nodes! {
    a_session_is_a_short_token_that_fits_into_a_url,
    an_earlier_connection_that_is_still_there_is_closed,
    a_session_goes_on_however_often_it_is_used,
    of_many_at_once_one_stays_as_the_user,
    a_name_in_the_query_yields_to_the_session,
    a_session_that_is_wrong_is_ignored,
    what_is_asked_about_a_user_reaches_its_new_connection,
    messages_of_the_time_between_are_in_the_history,
    a_guest_who_comes_back_with_a_token_stays_the_same_user,
}

pub(crate) const RESUMED_ELSEWHERE: (u16, &str) = (1008, "session resumed elsewhere");

/// Connects with a session, and reads what a newcomer is told.
pub(crate) async fn come_back(server: &Server, session: &str) -> (Chat, Value) {
    enter_at(server, &format!("/chat?session={session}")).await
}

pub(crate) async fn enter_at(server: &Server, path: &str) -> (Chat, Value) {
    let mut chat = Chat::connect_at(server, path).await;
    let welcome = chat.read_welcome().await;
    assert_eq!(chat.next().await["type"], "users");
    let history = chat.next().await;
    assert_eq!(history["type"], "history");
    (chat, welcome["content"].clone())
}

fn left(chat: &Chat, online: usize, room: &str) -> Value {
    let content = json!({"user_id": chat.id, "user_name": chat.name, "users_online": online, "room": room});
    from_system("leave", content)
}

fn joined(chat: &Chat, online: usize, room: &str) -> Value {
    let content = json!({"user_id": chat.id, "user_name": chat.name, "users_online": online, "room": room});
    from(chat, "join", content)
}

async fn a_session_is_a_short_token_that_fits_into_a_url(launch: Launch) {
    let server = launch.start();
    let [alice, bob] = Chat::members(&server).await;
    for session in [&alice.session, &bob.session] {
        assert!((20..200).contains(&session.len()), "{session}");
        assert!(
            session.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)),
            "{session}"
        );
    }
    assert_ne!(alice.session, bob.session);
}

async fn who_comes_back_is_the_same_user_in_the_same_room(launch: Launch) {
    let server = launch.start();
    let mut watcher = Chat::enter(&server).await;
    watcher.move_to("random").await;
    let mut alice = Chat::enter(&server).await;
    alice.say(json!({"type": "set_name", "name": "Alice"})).await;
    assert_eq!(alice.next().await["type"], "name_changed");
    alice.name = "Alice".to_owned();
    alice.move_to("random").await;
    assert_eq!(watcher.next().await, joined(&alice, 2, "random"));
    let earlier = (alice.id, alice.session.clone());
    let gone = left(&alice, 1, "random");
    // However it ends.
    for way in 0..3 {
        match way {
            0 => alice.leave().await,
            1 => drop(alice),
            _ => alice.send("x".repeat(100_000)).await,
        }
        assert_eq!(watcher.next().await, gone);
        let (back, welcome) = come_back(&server, &earlier.1).await;
        assert_eq!((back.id, &*back.name, &welcome["room"]), (earlier.0, "Alice", &json!("random")));
        assert_eq!(welcome["server_stats"]["users_online"], 2);
        assert_eq!(watcher.next().await, joined(&back, 2, "random"));
        alice = back;
    }
    alice.message("here I am").await;
    assert_eq!(watcher.next().await["from_id"], alice.id);
    // It has taken no id.
    assert_eq!(Chat::enter(&server).await.id, alice.id + 1);
    let resumed = "uproar_sessions_resumed_total 3";
    assert!(scrape(&server).await.lines().any(|line| line == resumed));
}

async fn an_earlier_connection_that_is_still_there_is_closed(launch: Launch) {
    let server = launch.start();
    let [mut watcher, mut alice] = Chat::members(&server).await;
    // Often, so that the two are on the same shard and on different ones.
    for number in 0..10 {
        if number % 3 == 2 {
            // A change of rooms is under way.
            alice.say(json!({"type": "join_room", "room": "general"})).await;
        }
        let (mut back, welcome) = come_back(&server, &alice.session).await;
        assert_eq!((back.id, &back.name, &welcome["room"]), (alice.id, &alice.name, &json!("general")));
        assert_eq!(welcome["server_stats"]["users_online"], 2);
        assert_eq!(watcher.next().await, left(&alice, 1, "general"));
        assert_eq!(watcher.next().await, joined(&back, 2, "general"));
        let (code, reason) = alice.closed_in_the_end().await;
        assert_eq!((code, &*reason), RESUMED_ELSEWHERE);
        back.message("still here").await;
        assert_eq!(watcher.next().await["content"], "still here");
        alice = back;
    }
}

async fn a_session_goes_on_however_often_it_is_used(launch: Launch) {
    let server = launch.start();
    let first = Chat::enter(&server).await;
    let session = first.session.clone();
    let mut before = first;
    for _ in 0..5 {
        let (back, _) = come_back(&server, &session).await;
        assert_eq!((back.id, &back.session), (before.id, &session));
        before.leave().await;
        before = back;
    }
}

async fn of_many_at_once_one_stays_as_the_user(launch: Launch) {
    let server = launch.start();
    let alice = Chat::enter(&server).await;
    let coming = (0..8).map(|_| come_in_a_crowd(&server, &alice.session));
    let crowd = futures_util::future::join_all(coming).await;
    // Some have been the user and were closed for the next one, perhaps before they were welcomed. Those who came too late
    // are users of their own.
    let mut ids: Vec<u64> = crowd.iter().map(|chat| chat.id).filter(|id| *id > 0).collect();
    ids.sort_unstable();
    assert_eq!(ids[0], alice.id, "nobody is the user");
    ids.dedup();
    let mut last = Chat::connect(&server).await;
    last.read_welcome().await;
    let users = last.next().await;
    let listed: Vec<u64> =
        users["content"].as_array().unwrap().iter().map(|user| user["id"].as_u64().unwrap()).collect();
    ids.push(last.id);
    assert_eq!(listed, ids);
}

/// As [`come_back`], or until the next one takes the session.
async fn come_in_a_crowd(server: &Server, session: &str) -> Chat {
    let mut chat = Chat::connect_at(server, &format!("/chat?session={session}")).await;
    loop {
        match chat.socket().next().await {
            Some(Message::Text(text)) => {
                let message: Value = serde_json::from_str(&text).expect(&text);
                match message["type"].as_str() {
                    Some("welcome") => chat.id = message["content"]["user_id"].as_u64().expect("a user_id"),
                    Some("history") => return chat,
                    _ => {}
                }
            }
            Some(Message::Close(Some(close))) => {
                assert_eq!((close.code.into(), &*close.reason), RESUMED_ELSEWHERE);
                return chat;
            }
            other => panic!("{other:?}"),
        }
    }
}

async fn a_name_in_the_query_yields_to_the_session(launch: Launch) {
    let server = launch.start();
    let (alice, _) = enter_at(&server, "/chat?name=Alice").await;
    let (session, id) = (alice.session.clone(), alice.id);
    alice.leave().await;
    let (back, _) = enter_at(&server, &format!("/?name=Eve&session={session}")).await;
    assert_eq!((back.id, &*back.name), (id, "Alice"));
    // Of one that is wrong it does not.
    let (other, _) = enter_at(&server, &format!("/?name=Eve&session={session}A")).await;
    assert_eq!((other.id, &*other.name), (id + 1, "Eve"));
}

async fn a_session_that_is_wrong_is_ignored(launch: Launch) {
    let server = launch.flag("--max-head", "128KiB").start();
    let [alice, mut watcher] = Chat::members(&server).await;
    let session = alice.session.clone();
    let mut wrong: Vec<String> = (0..session.len())
        .map(|place| {
            let mut forged = session.clone().into_bytes();
            forged[place] = if forged[place] == b'A' { b'B' } else { b'A' };
            String::from_utf8(forged).unwrap()
        })
        .collect();
    let cut = [0, 1, 10, session.len() - 1].map(|length| session[..length].to_owned());
    wrong.extend(cut);
    wrong.extend([format!("{session}="), "A".repeat(60 << 10), "%00%ff".to_owned(), format!("%20{session}")]);
    for wrong in &wrong {
        let (newcomer, welcome) = come_back(&server, wrong).await;
        assert!(newcomer.id > watcher.id && welcome["room"] == "general", "{wrong:.60}");
        assert_eq!(newcomer.name, format!("User{}", newcomer.id));
        assert_eq!(watcher.next().await["type"], "join");
        newcomer.leave().await;
        assert_eq!(watcher.next().await["type"], "leave");
    }
    assert!(!server.output().contains(&session) && !server.output().contains(&wrong[0]));
    // Alice was not disturbed.
    let (_, mut alice) = (watcher.message("hello").await, alice);
    assert_eq!(alice.until("message").await["content"], "hello");
}

async fn a_session_that_is_too_old_is_ignored(launch: Launch) {
    let server = launch.flag("--session-timeout", "1ms").start();
    let mut before = Chat::enter(&server).await;
    for _ in 0..3 {
        let (session, id) = (before.session.clone(), before.id);
        // Its close is answered, and another connection made, in more than a millisecond.
        before.leave().await;
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        before = come_back(&server, &session).await.0;
        assert_eq!(before.id, id + 1);
    }
}

async fn a_session_of_another_server_is_ignored(launch: Launch) {
    let one = Launch::with_shards(1).start();
    let session = Chat::enter(&one).await.session.clone();
    let server = launch.start();
    let mut alice = Chat::enter(&server).await;
    let (other, _) = come_back(&server, &session).await;
    assert_eq!((alice.id, other.id), (1, 2));
    assert_eq!(alice.next().await["type"], "join");
}

async fn sessions_can_be_switched_off(launch: Launch) {
    let server = launch.flag("--session-timeout", "0s").start();
    let mut alice = Chat::connect(&server).await;
    let welcome = alice.read_welcome().await;
    assert_eq!(welcome["content"].get("session"), None);
    alice.leave().await;
    let (other, _) = come_back(&server, "").await;
    assert_eq!(other.id, 2);
}

async fn other_dialects_ignore_it(launch: Launch) {
    let server = launch.start();
    let mut alice = Chat::enter(&server).await;
    for path in ["/ws", "/broadcast", "/broadcast/news", "/echo"] {
        let mut wire = Wire::connect(&server).await;
        wire.send(upgrade_request(&format!("{path}?session={}", alice.session))).await;
        assert_eq!(wire.head().await.status, 101, "{path}");
    }
    let hub = Hub::enter(&server, "Hal").await;
    assert_eq!(alice.next().await["content"]["user_id"], alice.id + 1);
    alice.message("undisturbed").await;
    drop(hub);
    // A request that is no upgrade has none either.
    let mut wire = Wire::connect(&server).await;
    wire.send(request(&server, "GET", &format!("/?session={}", alice.session), "")).await;
    assert_eq!(wire.response().await.status, 200);
}

async fn what_is_asked_about_a_user_reaches_its_new_connection(launch: Launch) {
    let server = launch.start();
    let [mut bob, alice] = Chat::members(&server).await;
    let (id, session) = (alice.id, alice.session.clone());
    alice.leave().await;
    assert_eq!(bob.next().await["type"], "leave");
    let private = json!({"type": "private_message", "to_id": id, "content": "psst"});
    bob.say(private.clone()).await;
    assert_eq!(bob.next().await, error("User not found or offline"));
    let (mut alice, _) = come_back(&server, &session).await;
    assert_eq!(bob.next().await["type"], "join");
    bob.say(private).await;
    assert_eq!(bob.next().await["type"], "private_message_sent");
    assert_eq!(alice.next().await["content"], "psst");
    let message = bob.message("read this").await;
    assert_eq!(alice.next().await["content"], "read this");
    alice.say(json!({"type": "read", "message_id": message})).await;
    assert_eq!(bob.next().await["content"]["read_by"], id);
    // Its own messages are its own.
    let said = alice.message("mine").await;
    assert_eq!(bob.next().await["content"], "mine");
    let (mut alice, _) = come_back(&server, &session).await;
    alice.say(json!({"type": "delete_message", "message_id": said})).await;
    assert_eq!(alice.next().await["content"], json!({"message_id": said, "deleted_by": id}));
}

async fn messages_of_the_time_between_are_in_the_history(launch: Launch) {
    let server = launch.start();
    let [mut bob, mut alice] = Chat::members(&server).await;
    let last = alice.message("one").await;
    alice.socket().send(Message::Close(None)).await;
    bob.until("leave").await;
    bob.message("two").await;
    let mut back = Chat::connect_at(&server, &format!("/chat?session={}", alice.session)).await;
    back.read_welcome().await;
    back.until("history").await;
    back.say(json!({"type": "resume", "room": "general", "after": last})).await;
    let history = back.until("history").await;
    assert_eq!(
        (history["content"][0]["content"].as_str(), &history["complete"]),
        (Some("two"), &json!(true))
    );
}

fn with_key(launch: Launch) -> (Launch, TokenKey) {
    let key = TokenKey::new();
    (launch.flag("--token-key", key.path().display()), key)
}

async fn who_is_signed_in_signs_in_again(launch: Launch) {
    let (launch, key) = with_key(launch);
    let server = launch.start();
    let mut bob = Chat::enter(&server).await;
    let token = key.token("ann", &["--name", "Ann", "--admin"]).await;
    let mut ann = Chat::with_token(&server, &token).await;
    ann.read_welcome().await;
    assert_eq!(bob.next().await["type"], "join");
    let (id, session) = (ann.id, ann.session.clone());
    ann.until("history").await;
    ann.leave().await;
    assert_eq!(bob.next().await["type"], "leave");
    let (mut back, _) = come_back(&server, &session).await;
    assert_eq!((back.id, &back.name), (id, &format!("User{id}")));
    let join = bob.next().await;
    assert_eq!(join["content"].get("account"), None, "{join}");
    // It gives no rights.
    back.say(json!({"type": "kick", "target_id": bob.id})).await;
    assert_eq!(back.next().await, error("Permission denied"));
    back.say(json!({"type": "auth", "token": token})).await;
    assert_eq!(back.next().await, direct("auth_success", json!({"user_name": "Ann", "is_admin": true})));
    let content = json!({"user_id": id, "old_name": format!("User{id}"), "new_name": "Ann"});
    assert_eq!(bob.next().await["content"], content);
    // Also where the earlier connection is still there.
    let (again, _) = come_back(&server, &session).await;
    assert_eq!((again.id, &again.name), (id, &format!("User{id}")));
    let (code, reason) = back.closed_in_the_end().await;
    assert_eq!((code, &*reason), RESUMED_ELSEWHERE);
    // To another account it is refused, also after a guest has had it.
    let other = key.token("eve", &[]).await;
    let (eve, _) = enter_at(&server, &format!("/chat?token={other}&session={session}")).await;
    assert!(eve.id > bob.id.max(id));
    eve.leave().await;
    // A kicked user may come back.
    bob.say(json!({"type": "auth", "token": token})).await;
    bob.until("auth_success").await;
    bob.say(json!({"type": "kick", "target_id": id})).await;
    let mut again = again;
    assert_eq!(again.until("kicked").await["type"], "kicked");
    assert_eq!(again.closed_in_the_end().await.0, 1008);
    assert_eq!(come_back(&server, &session).await.0.id, id);
}

async fn a_token_of_the_same_account_keeps_its_name_and_one_of_another_is_a_new_user(launch: Launch) {
    let (launch, key) = with_key(launch);
    let server = launch.start();
    let token = key.token("ann", &["--name", "Ann", "--rename"]).await;
    let mut ann = Chat::with_token(&server, &token).await;
    ann.read_welcome().await;
    ann.until("history").await;
    ann.say(json!({"type": "set_name", "name": "Annie"})).await;
    ann.until("name_changed").await;
    let (id, session) = (ann.id, ann.session.clone());
    let other = key.token("eve", &["--name", "Eve"]).await;
    // Whether it is still there or not, another account's does not disturb it.
    let (eve, _) = enter_at(&server, &format!("/chat?token={other}&session={session}")).await;
    assert_eq!((eve.id, &*eve.name), (id + 1, "Eve"));
    assert_eq!(ann.next().await["type"], "join");
    ann.message("undisturbed").await;
    ann.leave().await;
    let (eve, _) = enter_at(&server, &format!("/chat?token={other}&session={session}")).await;
    assert_eq!((eve.id, &*eve.name), (id + 2, "Eve"));
    let (ann, _) = enter_at(&server, &format!("/chat?token={token}&session={session}")).await;
    assert_eq!((ann.id, &*ann.name), (id, "Annie"));
    // Without the right to rename, the name is the account's.
    let token = key.token("ann", &["--name", "Ann"]).await;
    let (ann, _) = enter_at(&server, &format!("/chat?token={token}&session={session}")).await;
    assert_eq!((ann.id, &*ann.name), (id, "Ann"));
    // And the room is one that it may join.
    let mut ann = ann;
    ann.move_to("random").await;
    let token = key.token("ann", &["--name", "Ann", "--room", "general"]).await;
    let (_, welcome) = enter_at(&server, &format!("/chat?token={token}&session={session}")).await;
    assert_eq!((&welcome["user_id"], &welcome["room"]), (&json!(id), &json!("general")));
}

async fn a_guest_who_comes_back_with_a_token_stays_the_same_user(launch: Launch) {
    let (launch, key) = with_key(launch);
    let server = launch.start();
    let (guest, _) = enter_at(&server, "/chat?name=Guest").await;
    let token = key.token("ann", &["--name", "Ann"]).await;
    let (ann, _) = enter_at(&server, &format!("/chat?token={token}&session={}", guest.session)).await;
    assert_eq!((ann.id, &*ann.name), (guest.id, "Ann"));
    // From now on the session is the account's.
    let eve = key.token("eve", &[]).await;
    let (eve, _) = enter_at(&server, &format!("/chat?token={eve}&session={}", guest.session)).await;
    assert_eq!(eve.id, guest.id + 1);
}

async fn where_signing_in_is_required_a_session_counts_at_auth_success(launch: Launch) {
    let (launch, key) = with_key(launch);
    let server = launch.flag("--auth", "required").start();
    let token = key.token("ann", &["--name", "Ann"]).await;
    let (mut ann, _) = enter_at(&server, &format!("/chat?token={token}")).await;
    ann.move_to("random").await;
    let path = format!("/chat?session={}", ann.session);
    let sign_in = async |token: &str| {
        let mut chat = Chat::connect_at(&server, &path).await;
        chat.say(json!({"type": "message", "content": "hello"})).await;
        assert_eq!(chat.next().await, error("Authentication required"));
        chat.say(json!({"type": "auth", "token": token})).await;
        assert_eq!(chat.next().await["type"], "auth_success");
        let room = chat.read_welcome().await["content"]["room"].clone();
        chat.until("history").await;
        (chat, room)
    };
    // Nothing happens before that, and nothing to another account.
    let (eve, room) = sign_in(&key.token("eve", &[]).await).await;
    assert_eq!((eve.id, room), (ann.id + 1, json!("general")));
    ann.message("undisturbed").await;
    let (back, room) = sign_in(&token).await;
    assert_eq!((back.id, &*back.name, room), (ann.id, "Ann", json!("random")));
    let (code, reason) = ann.closed_in_the_end().await;
    assert_eq!((code, &*reason), RESUMED_ELSEWHERE);
    back.leave().await;
    let (back, room) = sign_in(&token).await;
    assert_eq!((back.id, room), (ann.id, json!("random")));
}
