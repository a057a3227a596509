//! Users who come back to a room that clients have created: it may be there still, have to be opened again, or be closed
//! to them. Then they come back in `general`.

use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use crate::durability::{NOT_STORED, contents, say_until_stored};
use crate::harness::{
    Chat, Launch, TokenKey, error, eventually, on_one_and_four_shards, on_one_and_four_shards_with_data,
};
use crate::rooms_on_demand::{created, forgotten, list, short_lived, teams};
use crate::sessions::{RESUMED_ELSEWHERE, come_back, enter_at};

on_one_and_four_shards! {
    who_comes_back_to_a_forgotten_room_creates_it,
    who_comes_back_when_there_are_too_many_rooms_is_in_general,
    who_comes_back_with_rights_that_do_not_allow_the_room_is_in_general,
    of_two_who_come_back_at_once_while_the_room_opens_one_is_the_user,
    who_goes_while_the_room_opens_leaves_no_room_behind,
}

mod durable {
    use super::*;

    on_one_and_four_shards_with_data! {
        who_comes_back_to_a_room_that_the_disk_does_not_give_back_is_in_general,
    }
}

fn room_of(welcome: &Value) -> &str {
    welcome["room"].as_str().unwrap()
}

async fn who_comes_back_to_a_forgotten_room_creates_it(launch: Launch) {
    let server = short_lived(launch).start();
    let [mut alice, mut bob] = Chat::members(&server).await;
    alice.move_to("team-a").await;
    let (id, session) = (alice.id, alice.session.clone());
    alice.leave().await;
    forgotten(&mut bob, "team-a").await;
    let (mut back, welcome) = come_back(&server, &session).await;
    assert_eq!((back.id, room_of(&welcome)), (id, "team-a"));
    back.message("here again").await;
    assert_eq!(created(&mut bob).await, [("team-a".to_owned(), 1)]);
}

async fn who_comes_back_when_there_are_too_many_rooms_is_in_general(launch: Launch) {
    let server = teams(launch).flag("--rooms-max", 1).start();
    let [mut alice, mut bob] = Chat::members(&server).await;
    alice.move_to("team-a").await;
    bob.until("leave").await;
    let (id, session) = (alice.id, alice.session.clone());
    alice.leave().await;
    // It takes the place, as soon as nobody is in the other one.
    eventually("the room is empty", async || created(&mut bob).await == [("team-a".to_owned(), 0)]).await;
    bob.move_to("team-b").await;
    let (mut back, welcome) = come_back(&server, &session).await;
    assert_eq!((back.id, room_of(&welcome)), (id, "general"));
    back.message("in general").await;
    let rooms = list(&mut back, json!({"prefix": "general"})).await;
    assert_eq!(rooms["content"][0]["users_online"], 1);
}

async fn who_comes_back_with_rights_that_do_not_allow_the_room_is_in_general(launch: Launch) {
    let key = TokenKey::new();
    let server = short_lived(launch).flag("--token-key", key.path().display()).start();
    let mut bob = Chat::enter(&server).await;
    let token = key.token("ann", &["--room", "*"]).await;
    let (mut ann, _) = enter_at(&server, &format!("/chat?token={token}")).await;
    ann.move_to("team-a").await;
    let (id, session) = (ann.id, ann.session.clone());
    ann.leave().await;
    let token = key.token("ann", &["--room", "general", "--room", "team-b"]).await;
    let (mut back, welcome) = enter_at(&server, &format!("/chat?token={token}&session={session}")).await;
    assert_eq!((back.id, room_of(&welcome)), (id, "general"));
    back.message("in general").await;
    forgotten(&mut bob, "team-a").await;
}

async fn of_two_who_come_back_at_once_while_the_room_opens_one_is_the_user(launch: Launch) {
    let server = short_lived(launch).start();
    let [mut alice, mut bob] = Chat::members(&server).await;
    alice.move_to("team-a").await;
    let (id, session) = (alice.id, alice.session.clone());
    alice.leave().await;
    for _ in 0..10 {
        forgotten(&mut bob, "team-a").await;
        let path = format!("/chat?session={session}");
        let (mut first, mut second) =
            tokio::join!(Chat::connect_at(&server, &path), Chat::connect_at(&server, &path));
        let (first_id, second_id) = tokio::join!(welcomed_as(&mut first), welcomed_as(&mut second));
        assert!([first_id, second_id].contains(&Some(id)), "{first_id:?} {second_id:?}");
        // The other one is closed, or a new user in general.
        eventually("one is there", async || created(&mut bob).await == [("team-a".to_owned(), 1)]).await;
    }
    forgotten(&mut bob, "team-a").await;
}

/// Who a newcomer is; `None` for one that is closed before it is anybody.
async fn welcomed_as(chat: &mut Chat) -> Option<u64> {
    match chat.socket().next().await {
        Some(Message::Text(text)) => {
            let welcome: Value = serde_json::from_str(&text).unwrap();
            assert_eq!(welcome["type"], "welcome");
            welcome["content"]["user_id"].as_u64()
        }
        Some(Message::Close(Some(close))) => {
            assert_eq!((close.code.into(), &*close.reason), RESUMED_ELSEWHERE);
            None
        }
        other => panic!("{other:?}"),
    }
}

async fn who_goes_while_the_room_opens_leaves_no_room_behind(launch: Launch) {
    let server = short_lived(launch).start();
    let mut bob = Chat::enter(&server).await;
    let mut alice = Chat::enter(&server).await;
    alice.move_to("team-a").await;
    let session = alice.session.clone();
    alice.leave().await;
    for _ in 0..10 {
        forgotten(&mut bob, "team-a").await;
        // Nothing is read, so the room may be opening, or open, when the connection goes.
        let gone = Chat::connect_at(&server, &format!("/chat?session={session}")).await;
        drop(gone);
    }
    forgotten(&mut bob, "team-a").await;
}

async fn who_comes_back_to_a_room_that_the_disk_does_not_give_back_is_in_general(launch: Launch) {
    let server = short_lived(launch).with_small_files().start();
    let [mut alice, mut bob] = Chat::members(&server).await;
    alice.move_to("team-a").await;
    alice.message("said").await;
    let (id, session) = (alice.id, alice.session.clone());
    alice.leave().await;
    forgotten(&mut bob, "team-a").await;
    server.refuse_writes();
    bob.say(json!({"type": "message", "content": "lost"})).await;
    assert_eq!(bob.until("error").await, error(NOT_STORED));
    let (mut back, welcome) = come_back(&server, &session).await;
    assert_eq!((back.id, room_of(&welcome)), (id, "general"));
    server.lift_limit_of_files();
    say_until_stored(&mut back, "again").await;
    back.say(json!({"type": "join_room", "room": "team-a"})).await;
    assert_eq!(contents(&back.until("history").await["content"]), ["said"]);
}
