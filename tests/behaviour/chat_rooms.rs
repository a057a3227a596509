//! Moving between rooms.

use serde_json::{Value, json};

use crate::harness::{
    Chat, Launch, direct, error, from, from_system, on_one_and_four_shards, take_epoch, take_timestamp,
};

on_one_and_four_shards! {
    a_mover_is_told_of_the_new_room_and_both_rooms_of_the_mover,
    messages_stay_in_their_room,
    each_room_keeps_its_own_history,
    joining_ones_own_room_answers_and_announces_nothing,
    unknown_rooms_are_named_in_the_refusal,
    rooms_that_are_no_text_are_refused,
    a_mover_between_busy_rooms_hears_one_room_at_a_time,
}

async fn a_mover_is_told_of_the_new_room_and_both_rooms_of_the_mover(launch: Launch) {
    let server = launch.start();
    let [mut alice, mut bob, mut carol] = Chat::members(&server).await;
    carol.move_to("random").await;
    assert_eq!(alice.next().await["type"], "leave");
    assert_eq!(bob.next().await["type"], "leave");

    bob.say(json!({"type": "join_room", "room": "random"})).await;
    assert_eq!(bob.next().await, direct("room_joined", json!({"room": "random"})));
    let mut users = bob.next().await;
    for user in users["content"].as_array_mut().unwrap() {
        take_timestamp(user, "connected_at");
    }
    let mut content = [&bob, &carol].map(|user| (user.id, user.name.as_str()));
    content.sort();
    let content = content.map(|(id, name)| json!({"id": id, "name": name}));
    assert_eq!(users, direct("users", json!(content)));
    let mut history = bob.next().await;
    take_epoch(&mut history);
    assert_eq!(history, direct("history", json!([])));

    let moved =
        |room, count| json!({"user_id": bob.id, "user_name": bob.name, "users_online": count, "room": room});
    assert_eq!(alice.next().await, from_system("leave", moved("general", 1)));
    assert_eq!(carol.next().await, from(&bob, "join", moved("random", 2)));

    // The one who joined is not told of itself.
    carol.message("hi, bob").await;
    assert_eq!(bob.next().await["content"], "hi, bob");
}

async fn messages_stay_in_their_room(launch: Launch) {
    let server = launch.start();
    let [mut alice, mut bob, mut carol] = Chat::members(&server).await;
    carol.move_to("gaming").await;
    assert_eq!(alice.next().await["type"], "leave");
    assert_eq!(bob.next().await["type"], "leave");
    carol.say(json!({"type": "message", "content": "in gaming"})).await;
    let sent = carol.next().await;
    assert_eq!(sent["content"]["room"], "gaming");
    alice.message("in general").await;
    assert_eq!(bob.next().await["content"], "in general");
    bob.move_to("gaming").await;
    assert_eq!(carol.next().await["from_id"], bob.id);
}

async fn each_room_keeps_its_own_history(launch: Launch) {
    let server = launch.start();
    let mut alice = Chat::enter(&server).await;
    alice.message("one").await;
    alice.say(json!({"type": "join_room", "room": "random"})).await;
    assert_eq!(alice.until("history").await["content"], json!([]));
    alice.message("two").await;
    alice.say(json!({"type": "join_room", "room": "general"})).await;
    assert_eq!(contents(&alice.until("history").await), ["one"]);
    alice.say(json!({"type": "join_room", "room": "random"})).await;
    assert_eq!(contents(&alice.until("history").await), ["two"]);
}

async fn joining_ones_own_room_answers_and_announces_nothing(launch: Launch) {
    let server = launch.start();
    let [mut alice, mut bob] = Chat::members(&server).await;
    alice.message("before").await;
    assert_eq!(bob.next().await["content"], "before");
    alice.say(json!({"type": "join_room", "room": "general"})).await;
    assert_eq!(alice.next().await, direct("room_joined", json!({"room": "general"})));
    let users = alice.next().await;
    assert_eq!(users["type"], "users");
    assert_eq!(users["content"].as_array().unwrap().len(), 2);
    assert_eq!(contents(&alice.next().await), ["before"]);
    alice.message("after").await;
    assert_eq!(bob.next().await["content"], "after");
}

async fn unknown_rooms_are_named_in_the_refusal(launch: Launch) {
    let server = launch.start();
    let [mut alice, mut bob] = Chat::members(&server).await;
    for room in ["nowhere", "", "General", "general ", "日本", "a\"b\\\n", "../general"] {
        alice.say(json!({"type": "join_room", "room": room})).await;
        assert_eq!(alice.next().await, error(&format!("Unknown room: {room}")));
    }
    // Alice is still where she was.
    bob.message("still here?").await;
    assert_eq!(alice.next().await["content"], "still here?");
}

async fn rooms_that_are_no_text_are_refused(launch: Launch) {
    let server = launch.start();
    let mut alice = Chat::enter(&server).await;
    for room in [json!(5), json!(["general"]), json!({}), json!(false)] {
        alice.say(json!({"type": "join_room", "room": room})).await;
        assert_eq!(alice.next().await, error("Invalid message format"), "{room}");
    }
}

/// After `room_joined` nothing of the old room follows, and nothing of the new one comes before
/// `history`, however busy both are; and the new room's messages follow its history without gap.
async fn a_mover_between_busy_rooms_hears_one_room_at_a_time(launch: Launch) {
    let server = launch.without_rate_limit().start();
    let [mut one, mut other, mut mover] = Chat::members(&server).await;
    other.move_to("random").await;
    let mut here = "general";
    for turn in 0..30 {
        let there = if here == "general" { "random" } else { "general" };
        let talk = |room: &str| {
            let message = json!({"type": "message", "content": room});
            std::iter::repeat_n(message, 20)
        };
        one.burst(talk("general")).await;
        other.burst(talk("random")).await;
        mover.say(json!({"type": "join_room", "room": there})).await;
        one.burst(talk("general")).await;
        other.burst(talk("random")).await;

        let before_moving = loop {
            let event = mover.next().await;
            match event["type"].as_str().unwrap() {
                "message" => assert_eq!(event["content"], here),
                "leave" => {}
                _ => break event,
            }
        };
        assert_eq!(before_moving, direct("room_joined", json!({"room": there})));
        assert_eq!(mover.next().await["type"], "users");
        let history = mover.next().await;
        assert_eq!(history["type"], "history");
        let history = history["content"].as_array().unwrap();
        let mut last = history.last().map(|entry| entry["message_id"].as_u64().unwrap());
        for entry in history {
            assert!(entry["content"].as_str().unwrap().starts_with(there), "{entry}");
        }
        let speaker = if there == "general" { &mut one } else { &mut other };
        let end = format!("{there} {turn}");
        speaker.say(json!({"type": "message", "content": end})).await;
        loop {
            let event = mover.next().await;
            assert_eq!(event["type"], "message");
            let id = event["message_id"].as_u64().unwrap();
            assert_eq!(id, last.unwrap_or(id - 1) + 1);
            last = Some(id);
            if event["content"] == end {
                break;
            }
            assert_eq!(event["content"], there);
        }
        here = there;
    }
}

fn contents(history: &Value) -> Vec<&str> {
    assert_eq!(history["type"], "history");
    let entries = history["content"].as_array().expect("a list").iter();
    entries.map(|entry| entry["content"].as_str().unwrap()).collect()
}
