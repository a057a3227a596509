//! Hub and chat in one room: each sees the other's lines in its own words.

use serde_json::{Value, json};

use crate::harness::{
    Chat, Hub, Launch, from_hub, from_system, hub_beside, line, on_one_and_four_shards, take_timestamp,
};

on_one_and_four_shards! {
    chat_sees_the_hubs_lines,
    the_hub_sees_chats_lines,
    the_hub_is_in_general_alone,
    an_image_shows_as_its_address,
    who_writes_and_reads_is_not_told_to_the_hub,
    a_private_message_reaches_a_hub_member_alone,
    who_has_not_logged_in_is_not_found,
    what_the_hub_says_is_kept_with_its_ids,
    both_hear_one_order,
    up_to_the_limit_everything_is_announced,
    above_the_limit_coming_and_going_is_not_announced,
    lists_hold_no_more_names_than_the_limit,
    counted_presence_is_not_announced_to_the_hub,
}

const LIMIT: usize = 4;

async fn chat_sees_the_hubs_lines(launch: Launch) {
    let server = launch.start();
    let mut chat = Chat::enter(&server).await;
    let mut ann = Hub::enter(&server, "Ann").await;
    let join = chat.next().await;
    let id = join["from_id"].as_u64().unwrap();
    let content = json!({"user_id": id, "user_name": "Ann", "users_online": 2, "room": "general"});
    assert_eq!(join, from_hub(id, "Ann", "join", content));

    ann.say("user", "hello").await;
    let mut message = chat.next().await;
    assert!(message["message_id"].is_u64(), "{message}");
    message.as_object_mut().unwrap().remove("message_id");
    assert_eq!(message, from_hub(id, "Ann", "message", json!("hello")));

    ann.say("rename", "Bea").await;
    let content = json!({"user_id": id, "old_name": "Ann", "new_name": "Bea"});
    assert_eq!(chat.next().await, from_hub(id, "Bea", "user_renamed", content));

    ann.say("logout", "").await;
    let content = json!({"user_id": id, "user_name": "Bea", "users_online": 1, "room": "general"});
    assert_eq!(chat.next().await, from_system("leave", content));
    chat.message("gone").await;
}

async fn the_hub_sees_chats_lines(launch: Launch) {
    let server = launch.start();
    let mut ann = Hub::enter(&server, "Ann").await;
    let mut chat = Chat::enter(&server).await;
    let name = chat.name.clone();
    assert_eq!(ann.next().await, line("login", &name, &name, &["Ann", &name]));
    chat.message("hello").await;
    assert_eq!(ann.next().await, line("user", &name, "hello", &["Ann", &name]));
    chat.say(json!({"type": "set_name", "name": "Carl"})).await;
    let content = format!("{name} 改名为 Carl");
    assert_eq!(ann.next().await, line("system", "", &content, &["Ann", "Carl"]));
    chat.leave().await;
    assert_eq!(ann.next().await, line("logout", "Carl", "Carl", &["Ann"]));
}

async fn the_hub_is_in_general_alone(launch: Launch) {
    let server = launch.start();
    let mut chat = Chat::enter(&server).await;
    let (mut ann, _) = hub_beside(&server, "Ann", &mut chat).await;
    let name = chat.name.clone();
    chat.move_to("random").await;
    assert_eq!(ann.next().await, line("logout", &name, &name, &["Ann"]));
    chat.message("elsewhere").await;
    chat.move_to("general").await;
    assert_eq!(ann.next().await, line("login", &name, &name, &["Ann", &name]));
}

async fn an_image_shows_as_its_address(launch: Launch) {
    let server = launch.start();
    let mut chat = Chat::enter(&server).await;
    let (mut ann, _) = hub_beside(&server, "Ann", &mut chat).await;
    chat.say(json!({"type": "image", "url": "https://host/a.png"})).await;
    assert_eq!(ann.next().await, line("user", &chat.name, "https://host/a.png", &["Ann", &chat.name]));
}

async fn who_writes_and_reads_is_not_told_to_the_hub(launch: Launch) {
    let server = launch.start();
    let mut chat = Chat::enter(&server).await;
    let (mut ann, _) = hub_beside(&server, "Ann", &mut chat).await;
    ann.say("user", "read me").await;
    assert_eq!(ann.next().await["content"], "read me");
    let id = chat.next().await["message_id"].clone();
    chat.say(json!({"type": "typing", "is_typing": true})).await;
    chat.say(json!({"type": "read", "message_id": id})).await;
    chat.message("done").await;
    assert_eq!(ann.next().await["content"], "done");
    ann.say("user", "indeed").await;
    assert_eq!(ann.next().await["content"], "indeed");
}

async fn a_private_message_reaches_a_hub_member_alone(launch: Launch) {
    let server = launch.start();
    let mut chat = Chat::enter(&server).await;
    let (mut ann, id) = hub_beside(&server, "Ann", &mut chat).await;
    let (mut bea, _) = hub_beside(&server, "Bea", &mut chat).await;
    assert_eq!(ann.next().await["type"], "login");
    chat.move_to("random").await;
    for hub in [&mut ann, &mut bea] {
        assert_eq!(hub.next().await["type"], "logout");
    }
    chat.say(json!({"type": "private_message", "to_id": id, "content": "psst"})).await;
    let sent = json!({"type": "private_message_sent", "to_id": id, "to_name": "Ann", "content": "psst"});
    assert_eq!(chat.next().await, sent);
    assert_eq!(ann.next().await, line("user", &chat.name, "psst", &["Ann", "Bea"]));
    bea.say("user", "what?").await;
    assert_eq!(bea.next().await["content"], "what?");
    // Empty content is ignored, once the target was found.
    chat.say(json!({"type": "private_message", "to_id": id, "content": ""})).await;
    bea.say("user", "nothing").await;
    for content in ["what?", "nothing"] {
        assert_eq!(ann.next().await["content"], content);
    }
}

async fn who_has_not_logged_in_is_not_found(launch: Launch) {
    let server = launch.start();
    let mut chat = Chat::enter(&server).await;
    let _visitor = Hub::visit(&server).await;
    let own = chat.id;
    for id in (1..=64).filter(|id| *id != own) {
        chat.say(json!({"type": "private_message", "to_id": id, "content": "psst"})).await;
        assert_eq!(chat.next().await["content"]["message"], "User not found or offline");
    }
}

async fn what_the_hub_says_is_kept_with_its_ids(launch: Launch) {
    let server = launch.start();
    let mut chat = Chat::enter(&server).await;
    let (mut ann, id) = hub_beside(&server, "Ann", &mut chat).await;
    let first = chat.message("one").await;
    ann.say("user", "two").await;
    assert_eq!(chat.next().await["message_id"], first + 1);
    assert_eq!(chat.message("three").await, first + 2);
    let mut newcomer = Chat::connect(&server).await;
    let mut history = newcomer.until("history").await;
    let kept = &mut history["content"][1];
    take_timestamp(kept, "timestamp");
    let expected = json!({
        "message_id": first + 1, "type": "message", "sender": "Ann", "from_id": id, "content": "two",
    });
    assert_eq!(*kept, expected);
}

async fn both_hear_one_order(launch: Launch) {
    let server = launch.without_rate_limit().start();
    let mut chat = Chat::enter(&server).await;
    let (mut ann, _) = hub_beside(&server, "Ann", &mut chat).await;
    let mut listener = Chat::enter(&server).await;
    assert_eq!(chat.next().await["type"], "join");
    assert_eq!(ann.next().await["type"], "login");
    let count = 100;
    let of_hub =
        (0..count).map(|n| json!({"type": "user", "content": format!("hub {n}")}).to_string().into());
    ann.socket().send_all(of_hub.collect::<Vec<_>>()).await;
    chat.burst((0..count).map(|n| json!({"type": "message", "content": format!("chat {n}")}))).await;
    let (mut in_hub, mut in_chat) = (Vec::new(), Vec::new());
    for _ in 0..2 * count {
        in_hub.push(ann.next().await["content"].clone());
        in_chat.push(listener.next().await["content"].clone());
    }
    assert_eq!(in_hub, in_chat);
}

async fn up_to_the_limit_everything_is_announced(launch: Launch) {
    let server = launch.flag("--presence-limit", LIMIT).start();
    let mut ann = Hub::enter(&server, "Ann").await;
    let mut names = vec!["Ann".to_owned()];
    let mut crowd = Vec::new();
    for _ in 1..LIMIT {
        crowd.push(Chat::enter(&server).await);
        names.push(crowd.last().unwrap().name.clone());
        let login = ann.next().await;
        assert_eq!(login["type"], "login");
        names.sort();
        assert_eq!(login["user_list"], json!(names));
    }
    ann.say("rename", "Ada").await;
    assert_eq!(ann.system().await, "Ann 改名为 Ada");
    crowd.pop().unwrap().leave().await;
    assert_eq!(ann.next().await["type"], "logout");
}

async fn above_the_limit_coming_and_going_is_not_announced(launch: Launch) {
    let server = launch.flag("--presence-limit", LIMIT).start();
    let mut ann = Hub::enter(&server, "Ann").await;
    let mut crowd = Vec::new();
    for _ in 1..LIMIT {
        crowd.push(Chat::enter(&server).await);
        assert_eq!(ann.next().await["type"], "login");
    }
    let mut bea = Hub::visit(&server).await;
    // The newcomer itself is told that it is one.
    bea.login("Bea").await;
    let mut carl = Chat::enter(&server).await;
    carl.say(json!({"type": "set_name", "name": "Carl"})).await;
    carl.until("name_changed").await;
    bea.say("rename", "Bee").await;
    assert_eq!(bea.system().await, "Bea 改名为 Bee", "whoever asked is answered");
    carl.leave().await;
    bea.say("user", "anyone?").await;
    let heard = ann.next().await;
    assert_eq!((&heard["type"], &heard["from"]), (&json!("user"), &json!("Bee")), "nothing came before");
    assert_eq!(bea.next().await["content"], "anyone?");
}

async fn lists_hold_no_more_names_than_the_limit(launch: Launch) {
    let server = launch.flag("--presence-limit", LIMIT).start();
    let mut crowd = Vec::new();
    for _ in 0..LIMIT + 3 {
        crowd.push(Chat::enter(&server).await);
    }
    let mut ann = Hub::connect(&server).await;
    let names = |message: &Value| message["user_list"].as_array().unwrap().len();
    assert_eq!(names(&ann.next().await), LIMIT, "in the handshake");
    let login = ann.login("Ann").await;
    assert_eq!(names(&login), LIMIT, "at the login");
    assert!(login["user_list"].as_array().unwrap().contains(&json!("Ann")), "which includes the newcomer");
    ann.say("user", "hello").await;
    assert_eq!(names(&ann.next().await), LIMIT, "with a word");
    ann.say("who", "").await;
    let who = ann.next().await;
    assert_eq!(names(&who), LIMIT, "when asked");
    ann.send("nonsense").await;
    assert_eq!(names(&ann.next().await), LIMIT, "with a refusal");
}

async fn counted_presence_is_not_announced_to_the_hub(launch: Launch) {
    let server = launch.flag("--presence", "count").start();
    let mut ann = Hub::enter(&server, "Ann").await;
    let chat = Chat::enter(&server).await;
    ann.say("user", "hello").await;
    assert_eq!(ann.next().await, line("user", "Ann", "hello", &["Ann", &chat.name]), "no login came before");
}
