//! A client of the chat dialect.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use super::{Server, Socket, within};

/// A member of a room. Its messages come one by one, and none may be overlooked by accident.
pub(crate) struct Chat {
    socket: Socket,
    pub(crate) id: u64,
    pub(crate) name: String,
    /// The token with which it may come back; empty where there is none.
    pub(crate) session: String,
}

impl Chat {
    /// Connects and reads nothing, so `id` and `name` are not known yet.
    pub(crate) async fn connect(server: &Server) -> Self {
        Self::connect_at(server, "/chat").await
    }

    /// As [`Chat::connect`], with a query behind the path.
    pub(crate) async fn connect_at(server: &Server, path: &str) -> Self {
        Self {
            socket: Socket::connect(server, path).await,
            id: 0,
            name: String::new(),
            session: String::new(),
        }
    }

    /// As [`Chat::connect`], with a token.
    pub(crate) async fn with_token(server: &Server, token: &str) -> Self {
        Self {
            socket: Socket::with_token(server, "/chat", token).await,
            id: 0,
            name: String::new(),
            session: String::new(),
        }
    }

    /// Connects and reads all messages to a new member.
    pub(crate) async fn enter(server: &Server) -> Self {
        let mut chat = Self::connect(server).await;
        chat.read_welcome().await;
        assert_eq!(chat.next().await["type"], "users");
        assert_eq!(chat.next().await["type"], "history");
        chat
    }

    /// Members of `general`, who have seen each other join.
    pub(crate) async fn crowd(server: &Server, count: usize) -> Vec<Self> {
        let mut crowd: Vec<Self> = Vec::new();
        for _ in 0..count {
            let newcomer = Self::enter(server).await;
            for member in &mut crowd {
                let join = member.next().await;
                assert_eq!((&join["type"], &join["from_id"]), (&json!("join"), &json!(newcomer.id)));
            }
            crowd.push(newcomer);
        }
        crowd
    }

    /// [`Chat::crowd`] of a number that is known where it is written.
    pub(crate) async fn members<const COUNT: usize>(server: &Server) -> [Self; COUNT] {
        let crowd = Self::crowd(server, COUNT).await;
        crowd.try_into().unwrap_or_else(|_| unreachable!())
    }

    pub(crate) async fn read_welcome(&mut self) -> Value {
        let welcome = self.next().await;
        assert_eq!(welcome["type"], "welcome");
        self.id = welcome["content"]["user_id"].as_u64().expect("a user_id");
        self.name = text_of(&welcome["content"]["user_name"]);
        self.session = welcome["content"]["session"].as_str().unwrap_or_default().to_owned();
        welcome
    }

    pub(crate) async fn say(&mut self, message: Value) {
        self.socket.send(message.to_string()).await;
    }

    pub(crate) async fn send(&mut self, message: impl Into<Message>) {
        self.socket.send(message).await;
    }

    /// Sends all of them before the server can have answered the first.
    pub(crate) async fn burst(&mut self, messages: impl IntoIterator<Item = Value>) {
        let texts = messages.into_iter();
        self.socket.send_all(texts.map(|message| message.to_string().into())).await;
    }

    /// Sends a message to the room and returns its id once the room has it.
    pub(crate) async fn message(&mut self, content: &str) -> u64 {
        self.say(json!({"type": "message", "content": content})).await;
        let sent = self.next().await;
        assert_eq!(sent["type"], "message_sent", "{sent}");
        sent["content"]["message_id"].as_u64().expect("a message_id")
    }

    /// Sends messages to the room, each before the last was answered, and returns once the room has them all.
    pub(crate) async fn messages(&mut self, contents: impl IntoIterator<Item = String>) {
        let contents: Vec<String> = contents.into_iter().collect();
        for contents in contents.chunks(50) {
            self.burst(contents.iter().map(|content| json!({"type": "message", "content": content}))).await;
            for _ in contents {
                assert_eq!(self.next().await["type"], "message_sent");
            }
        }
    }

    /// The next message, without its timestamp once that has been found right.
    pub(crate) async fn next(&mut self) -> Value {
        let text = self.socket.text().await;
        let mut message: Value = serde_json::from_str(&text).expect(&text);
        assert!(message["type"].is_string(), "no type: {message}");
        take_timestamp(&mut message, "timestamp");
        message
    }

    /// Skips to the next message of that type.
    pub(crate) async fn until(&mut self, kind: &str) -> Value {
        // Pings and other messages come for ever.
        within(kind, async {
            loop {
                let message = self.next().await;
                if message["type"] == kind {
                    return message;
                }
            }
        })
        .await
    }

    /// Moves to another room, and skips all messages to a new member there.
    pub(crate) async fn move_to(&mut self, room: &str) {
        self.say(json!({"type": "join_room", "room": room})).await;
        assert_eq!(self.until("room_joined").await["content"], json!({"room": room}));
        assert_eq!(self.next().await["type"], "users");
        assert_eq!(self.next().await["type"], "history");
    }

    /// The code and reason of the close that must come next; only `reconnect` comes before it, where it belongs.
    pub(crate) async fn closed(&mut self) -> (u16, String) {
        match self.socket.next().await {
            Some(Message::Close(Some(close))) => {
                assert!(
                    self.id == 0 || !matches!(close.code.into(), 1001 | 1012 | 1013),
                    "no reconnect before it"
                );
                (close.code.into(), close.reason.to_string())
            }
            Some(Message::Text(text)) => {
                after_ms_of(&text);
                let (code, reason) = self.socket.closed().await;
                assert!(matches!(code, 1001 | 1012 | 1013), "a reconnect before {code}");
                (code, reason)
            }
            other => panic!("instead of a close: {other:?}"),
        }
    }

    /// Skips to the close, and returns its code and reason.
    pub(crate) async fn closed_in_the_end(&mut self) -> (u16, String) {
        loop {
            match self.socket.next().await {
                Some(Message::Text(_)) => {}
                Some(Message::Close(Some(close))) => return (close.code.into(), close.reason.to_string()),
                other => panic!("instead of a close: {other:?}"),
            }
        }
    }

    pub(crate) fn socket(&mut self) -> &mut Socket {
        &mut self.socket
    }

    pub(crate) async fn leave(self) {
        self.socket.leave(1000).await;
    }
}

/// When a `reconnect` says that its client is to return.
pub(crate) fn after_ms_of(text: &str) -> u64 {
    let mut message: Value = serde_json::from_str(text).expect(text);
    take_timestamp(&mut message, "timestamp");
    let after_ms = message["content"]["after_ms"].as_u64().expect("whole milliseconds");
    assert_eq!(message, json!({"type": "reconnect", "content": {"after_ms": after_ms}}));
    assert!(after_ms <= 60_000, "{after_ms}");
    after_ms
}

/// Takes a time off an object: whole Unix seconds, close to now.
pub(crate) fn take_timestamp(object: &mut Value, key: &str) {
    let fields = object.as_object_mut().expect("an object");
    let timestamp = fields.remove(key).unwrap_or_default();
    let timestamp = timestamp.as_u64().expect("whole seconds");
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    assert!(timestamp.abs_diff(now.as_secs()) <= 60, "{key} {timestamp}");
}

/// Takes the epoch off a `history`, or off a room of a list: at most 32 characters.
pub(crate) fn take_epoch(object: &mut Value) -> String {
    let fields = object.as_object_mut().expect("an object");
    let epoch = text_of(&fields.remove("epoch").unwrap_or_default());
    assert!((1..=32).contains(&epoch.chars().count()), "{epoch}");
    epoch
}

fn text_of(value: &Value) -> String {
    value.as_str().expect("a string").to_owned()
}
