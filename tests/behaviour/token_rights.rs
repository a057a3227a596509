//! What a token allows: rooms, topics, publishing, its name and its rate.

use serde_json::{Value, json};

use crate::harness::{
    Chat, Hub, Launch, Server, Socket, TokenKey, direct, error, line, on_one_and_four_shards_only,
    upgrade_with,
};

on_one_and_four_shards_only! {
    one_starts_in_the_first_room_that_may_be_joined,
    other_rooms_cannot_be_joined_or_seen,
    who_may_join_no_room_does_not_get_in,
    publishing_in_a_room_is_a_right_of_its_own,
    topics_may_be_heard_and_published_on_by_right,
    a_name_can_be_changed_by_right_alone,
    the_rate_is_the_tokens,
    new_rights_may_lead_to_another_room,
    a_hub_member_has_the_rights_of_its_token,
    the_name_of_a_token_is_reserved_while_it_is_there,
}

const RESERVED: &str = "Name is reserved";
const DENIED: &str = "Permission denied";

/// A server with the rooms general, random and gaming, and the key of its tokens.
fn start(launch: Launch) -> (Server, TokenKey) {
    let key = TokenKey::new();
    (launch.flag("--token-key", key.path().display()).start(), key)
}

/// Connects, reads what a newcomer is told, and says which room it is in.
async fn enter(server: &Server, token: &str) -> (Chat, Value) {
    let mut chat = Chat::with_token(server, token).await;
    let room = chat.read_welcome().await["content"]["room"].clone();
    assert_eq!(chat.next().await["type"], "users");
    assert_eq!(chat.next().await["type"], "history");
    (chat, room)
}

async fn one_starts_in_the_first_room_that_may_be_joined(launch: Launch) {
    let (server, key) = start(launch);
    for (patterns, wanted) in [
        (&["--room", "*"][..], "general"),
        (&["--room", "gaming", "--room", "general"], "general"),
        (&["--room", "gam*"], "gaming"),
        (&["--room", "gaming", "--room", "random"], "random"),
    ] {
        let (mut chat, room) = enter(&server, &key.token("ann", patterns).await).await;
        assert_eq!(room, wanted);
        chat.message("here").await;
        chat.leave().await;
    }
}

async fn other_rooms_cannot_be_joined_or_seen(launch: Launch) {
    let (server, key) = start(launch);
    let token = key.token("ann", &["--room", "general", "--room", "ran*"]).await;
    let (mut ann, _) = enter(&server, &token).await;
    for message in [
        json!({"type": "join_room", "room": "gaming"}),
        json!({"type": "resume", "room": "gaming", "after": 0}),
    ] {
        ann.say(message).await;
        assert_eq!(ann.next().await, error(DENIED));
    }
    ann.say(json!({"type": "join_room", "room": "nowhere"})).await;
    assert_eq!(ann.next().await, error("Unknown room: nowhere"));
    ann.say(json!({"type": "get_rooms"})).await;
    let rooms = ann.next().await;
    let names: Vec<&Value> = rooms["content"].as_array().unwrap().iter().map(|room| &room["room"]).collect();
    assert_eq!(names, ["general", "random"]);
    ann.move_to("random").await;
    ann.message("here").await;
}

async fn who_may_join_no_room_does_not_get_in(launch: Launch) {
    let (server, key) = start(launch.flag("--auth", "required"));
    let nowhere = key.token("ann", &["--room", "nowhere", "--room", "gen*al"]).await;
    let refused = upgrade_with(&server, &format!("/chat?token={nowhere}"), "").await;
    assert_eq!((refused.status, &*refused.body), (403, DENIED));
    let elsewhere = key.token("ann", &["--room", "random"]).await;
    assert_eq!(upgrade_with(&server, &format!("/ws?token={elsewhere}"), "").await.status, 403);
    let mut ann = Chat::connect(&server).await;
    ann.say(json!({"type": "auth", "token": nowhere})).await;
    assert_eq!(ann.closed().await, (1008, DENIED.to_owned()));
}

async fn publishing_in_a_room_is_a_right_of_its_own(launch: Launch) {
    let (server, key) = start(launch);
    let mut bob = Chat::enter(&server).await;
    let (mut ann, _) = enter(&server, &key.token("ann", &["--publish", "random"]).await).await;
    assert_eq!(bob.next().await["type"], "join");
    for message in [
        json!({"type": "message", "content": "hello"}),
        json!({"type": "image", "url": "https://example.com/a.png"}),
    ] {
        ann.say(message).await;
        assert_eq!(ann.next().await, error(DENIED));
    }
    // What is no publishing is not affected.
    ann.say(json!({"type": "private_message", "to_id": bob.id, "content": "psst"})).await;
    assert_eq!(ann.next().await["type"], "private_message_sent");
    assert_eq!(bob.next().await["type"], "private_message");
    ann.move_to("random").await;
    ann.message("hello").await;
    // A pattern of topics is none of rooms.
    let (mut eve, _) = enter(&server, &key.token("eve", &["--publish", "topic:*"]).await).await;
    eve.say(json!({"type": "message", "content": "hello"})).await;
    assert_eq!(eve.next().await, error(DENIED));
}

async fn topics_may_be_heard_and_published_on_by_right(launch: Launch) {
    let (server, key) = start(launch);
    let token = key
        .token("ann", &["--topic", "prices.*", "--publish", "topic:prices.eur", "--publish", "news"])
        .await;
    for path in ["/broadcast", "/broadcast/news", "/broadcast/prices"] {
        let refused = upgrade_with(&server, &format!("{path}?token={token}"), "").await;
        assert_eq!((refused.status, &*refused.body), (403, DENIED), "{path}");
    }
    let mut open = Socket::connect(&server, "/broadcast/prices.eur").await;
    let mut ann = Socket::with_token(&server, "/broadcast/prices.eur", &token).await;
    ann.send("1.1").await;
    assert_eq!(ann.text().await, "1.1");
    assert_eq!(open.text().await, "1.1");
    // Who has no token may publish, as long as none is required.
    open.send("1.2").await;
    assert_eq!(ann.text().await, "1.2");
    let mut listener = Socket::with_token(&server, "/broadcast/prices.usd", &token).await;
    listener.send("0.9").await;
    assert_eq!(listener.closed().await, (1008, DENIED.to_owned()));
    // By default a token may hear every topic, and publish on none.
    let mut bob = Socket::with_token(&server, "/broadcast/prices.eur", &key.token("bob", &[]).await).await;
    ann.send("1.3").await;
    assert_eq!(bob.text().await, "1.3");
    bob.send("1.4").await;
    assert_eq!(bob.closed().await, (1008, DENIED.to_owned()));
    ann.send("1.5").await;
    for wanted in ["1.3", "1.5"] {
        assert_eq!(ann.text().await, wanted);
    }
}

async fn a_name_can_be_changed_by_right_alone(launch: Launch) {
    let (server, key) = start(launch);
    let (mut ann, _) = enter(&server, &key.token("ann", &[]).await).await;
    ann.say(json!({"type": "set_name", "name": "Boss"})).await;
    assert_eq!(ann.next().await, error(DENIED));
    let (mut bob, _) = enter(&server, &key.token("bob", &["--rename"]).await).await;
    assert_eq!(ann.next().await["type"], "join");
    bob.say(json!({"type": "set_name", "name": "Bobby"})).await;
    let content = json!({"old_name": "bob", "new_name": "Bobby"});
    assert_eq!(bob.next().await, direct("name_changed", content));
    assert_eq!(ann.next().await["type"], "user_renamed");
    // The name stays when the token is renewed.
    bob.say(json!({"type": "auth", "token": key.token("bob", &["--rename"]).await})).await;
    let content = json!({"user_name": "Bobby", "is_admin": false});
    assert_eq!(bob.next().await, direct("auth_success", content));
    bob.message("still Bobby").await;
    assert_eq!(ann.next().await["from_name"], "Bobby");
}

async fn the_rate_is_the_tokens(launch: Launch) {
    let (server, key) = start(launch.flag("--rate", 1).flag("--burst", 1));
    let say = |number: usize| json!({"type": "message", "content": number.to_string()});
    let (mut slow, _) = enter(&server, &key.token("slow", &["--rate", "2"]).await).await;
    slow.burst((0..40).map(say)).await;
    let mut kinds = Vec::new();
    for _ in 0..40 {
        kinds.push(slow.next().await["type"].clone());
    }
    let sent = kinds.iter().filter(|kind| **kind == "message_sent").count();
    assert!((4..30).contains(&sent), "{sent} of 40");
    let (mut free, _) = enter(&server, &key.token("free", &["--rate", "0"]).await).await;
    free.burst((0..40).map(say)).await;
    for _ in 0..40 {
        assert_eq!(free.next().await["type"], "message_sent");
    }
}

async fn new_rights_may_lead_to_another_room(launch: Launch) {
    let (server, key) = start(launch);
    let [mut ann, mut bob] = Chat::members(&server).await;
    ann.say(json!({"type": "auth", "token": key.token("ann", &["--room", "gaming"]).await})).await;
    assert_eq!(ann.next().await["type"], "auth_success");
    assert_eq!(ann.next().await, direct("room_joined", json!({"room": "gaming"})));
    let users = ann.next().await;
    assert_eq!(users["content"][0]["name"], "ann");
    assert_eq!(ann.next().await["type"], "history");
    let left = bob.next().await;
    assert_eq!((&left["type"], &left["content"]["user_id"]), (&json!("leave"), &json!(ann.id)));
    ann.message("here").await;
    bob.message("not there").await;
    // Without any room there is no place to stay.
    ann.say(json!({"type": "auth", "token": key.token("ann", &["--room", "nowhere"]).await})).await;
    assert_eq!(ann.closed().await, (1008, DENIED.to_owned()));
}

async fn a_hub_member_has_the_rights_of_its_token(launch: Launch) {
    let (server, key) = start(launch);
    let mut bob = Chat::enter(&server).await;
    let mut ann = Hub::with_token(&server, &key.token("ann", &["--publish", "random"]).await).await;
    // Whatever it asks for.
    ann.say("login", "").await;
    assert_eq!(ann.next().await, line("login", "ann", "ann", &["ann", &bob.name]));
    let join = bob.next().await;
    assert_eq!((&join["type"], &join["from_name"]), (&json!("join"), &json!("ann")));
    for (kind, content) in [("user", "hello"), ("rename", "Ann"), ("user", "\\rename Ann")] {
        ann.say(kind, content).await;
        assert_eq!(ann.system().await, DENIED, "{kind} {content}");
    }
    let mut eve = Hub::with_token(&server, &key.token("eve", &["--rename"]).await).await;
    eve.login("eve").await;
    assert_eq!(bob.next().await["type"], "join");
    assert_eq!(ann.next().await["type"], "login");
    eve.say("rename", "Eva").await;
    assert_eq!(eve.system().await, "eve 改名为 Eva");
    assert_eq!(bob.next().await["type"], "user_renamed");
    assert_eq!(ann.next().await["type"], "system");
    bob.message("hello").await;
    let heard = ann.next().await;
    assert_eq!(
        (&heard["type"], &heard["from"], &heard["content"]),
        (&json!("user"), &json!(bob.name), &json!("hello"))
    );
}

async fn the_name_of_a_token_is_reserved_while_it_is_there(launch: Launch) {
    let (server, key) = start(launch);
    let mut guest = Chat::enter(&server).await;
    let token = key.token("4711", &["--name", "Ann Lee"]).await;
    let (ann, _) = enter(&server, &token).await;
    let (also_ann, _) = enter(&server, &token).await;
    for name in ["ann lee", "4711"] {
        guest.say(json!({"type": "set_name", "name": name})).await;
        let answer = guest.until("error").await;
        assert_eq!(answer, error(RESERVED), "{name}");
    }
    guest.say(json!({"type": "private_message", "to_account": "4711", "content": "psst"})).await;
    let sent = guest.next().await;
    assert_eq!((&sent["type"], &sent["to_name"]), (&json!("private_message_sent"), &json!("Ann Lee")));
    for (chat, answer) in [(ann, "error"), (also_ann, "name_changed")] {
        chat.leave().await;
        guest.until("leave").await;
        guest.say(json!({"type": "set_name", "name": "Ann Lee"})).await;
        assert_eq!(guest.next().await["type"], answer);
    }
}
