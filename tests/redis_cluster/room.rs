//! A room as its members see it.

use serde_json::{Value, json};

use crate::harness::{Chat, Server};

/// A message as a member has seen it: its id and its content.
pub(crate) type Seen = (u64, String);

/// The last messages of a room, and what else a client needs to come back to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct History {
    pub(crate) epoch: String,
    pub(crate) messages: Vec<Seen>,
    /// In the answer to `resume`.
    pub(crate) is_complete: Option<bool>,
}

impl History {
    pub(crate) fn of(event: &Value) -> Self {
        assert_eq!(event["type"], "history", "{event}");
        let rows = event["content"].as_array().unwrap().iter();
        Self {
            epoch: event["epoch"].as_str().expect("an epoch").to_owned(),
            messages: rows.map(seen).collect(),
            is_complete: event["complete"].as_bool(),
        }
    }

    pub(crate) fn contents(&self) -> Vec<&str> {
        self.messages.iter().map(|(_, content)| content.as_str()).collect()
    }
}

/// A `message`, or a row of a `history`.
pub(crate) fn seen(message: &Value) -> Seen {
    let id = message["message_id"].as_u64().unwrap_or_else(|| panic!("no message: {message}"));
    (id, message["content"].as_str().unwrap().to_owned())
}

/// The next event, which must be a message to the room.
pub(crate) async fn next_message(member: &mut Chat) -> Seen {
    let event = member.next().await;
    assert_eq!(event["type"], "message", "{event}");
    seen(&event)
}

/// Asks for the last messages. The answer must be the next that this member gets.
pub(crate) async fn history(member: &mut Chat) -> History {
    member.say(json!({"type": "get_history", "limit": 100})).await;
    History::of(&member.next().await)
}

/// The ids of all members of the room. The answer must be the next that this member gets.
pub(crate) async fn users(member: &mut Chat) -> Vec<u64> {
    member.say(json!({"type": "get_users"})).await;
    let answer = member.next().await;
    assert_eq!(answer["type"], "users", "{answer}");
    answer["content"].as_array().unwrap().iter().map(|user| user["id"].as_u64().unwrap()).collect()
}

/// Comes back to `general` behind this message of this epoch, and reads what has been missed.
pub(crate) async fn resume(member: &mut Chat, epoch: &str, after: u64) -> History {
    member.say(json!({"type": "resume", "room": "general", "after": after, "epoch": epoch})).await;
    assert_eq!(member.until("room_joined").await["content"]["room"], "general");
    assert_eq!(member.next().await["type"], "users");
    History::of(&member.next().await)
}

/// The next event, which must tell that a user has joined or left the room: which.
pub(crate) async fn next_of(member: &mut Chat, kind: &str) -> u64 {
    let event = member.next().await;
    assert_eq!(event["type"], kind, "{event}");
    event["content"]["user_id"].as_u64().unwrap()
}

/// One member of `general` on each node, who have seen each other join.
pub(crate) async fn one_on_each<const COUNT: usize>(nodes: [&Server; COUNT]) -> [Chat; COUNT] {
    let mut members: Vec<Chat> = Vec::new();
    for node in nodes {
        let newcomer = Chat::enter(node).await;
        for member in &mut members {
            assert_eq!(next_of(member, "join").await, newcomer.id);
        }
        members.push(newcomer);
    }
    members.try_into().unwrap_or_else(|_| unreachable!())
}

/// Says something to the room. Everybody else must see it as the next event, with the id that its sender is told.
pub(crate) async fn all_hear(speaker: &mut Chat, others: &mut [&mut Chat], content: &str) -> u64 {
    let id = speaker.message(content).await;
    for other in others {
        assert_eq!(next_message(other).await, (id, content.to_owned()));
    }
    id
}

/// Enters `general` with this name.
pub(crate) async fn enter_as(node: &Server, name: &str) -> Chat {
    let member = enter_at(node, &format!("/chat?name={name}")).await;
    assert_eq!(member.name, name);
    member
}

/// Comes back with the session of a connection that has ended: as the same user.
pub(crate) async fn come_back(node: &Server, gone: &Chat) -> Chat {
    let back = enter_at(node, &format!("/chat?session={}", gone.session)).await;
    assert_eq!((back.id, &back.name), (gone.id, &gone.name));
    back
}

/// Enters at this path, and reads what a newcomer is told.
pub(crate) async fn enter_at(node: &Server, path: &str) -> Chat {
    let mut member = Chat::connect_at(node, path).await;
    member.read_welcome().await;
    assert_eq!(member.next().await["type"], "users");
    assert_eq!(member.next().await["type"], "history");
    member
}
