//! A client of the hub dialect.

use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use super::{Chat, Server, Socket};

/// Every key of every message.
const KEYS: [&str; 6] = ["content", "from", "ip", "type", "user", "user_list"];

/// A connection to `/ws`. Its messages come one by one, and each is checked for its keys.
pub(crate) struct Hub {
    socket: Socket,
    pub(crate) name: String,
}

impl Hub {
    /// Connects and reads nothing.
    pub(crate) async fn connect(server: &Server) -> Self {
        Self { socket: Socket::connect(server, "/ws").await, name: String::new() }
    }

    /// Connects with a token and reads the handshake.
    pub(crate) async fn with_token(server: &Server, token: &str) -> Self {
        let mut hub = Self { socket: Socket::with_token(server, "/ws", token).await, name: String::new() };
        assert_eq!(hub.next().await["type"], "handshake");
        hub
    }

    /// Connects and reads the handshake.
    pub(crate) async fn visit(server: &Server) -> Self {
        let mut hub = Self::connect(server).await;
        assert_eq!(hub.next().await["type"], "handshake");
        hub
    }

    /// Connects, logs in and reads all messages to a new member.
    pub(crate) async fn enter(server: &Server, name: &str) -> Self {
        let mut hub = Self::visit(server).await;
        hub.login(name).await;
        hub
    }

    pub(crate) async fn login(&mut self, name: &str) -> Value {
        self.say("login", name).await;
        let login = self.next().await;
        assert_eq!((&login["type"], &login["user"]), (&json!("login"), &json!(name)), "{login}");
        self.name = name.to_owned();
        login
    }

    pub(crate) async fn say(&mut self, kind: &str, content: &str) {
        self.send(json!({"type": kind, "content": content}).to_string()).await;
    }

    pub(crate) async fn send(&mut self, message: impl Into<Message>) {
        self.socket.send(message).await;
    }

    /// The next message, which has all keys and no others; its names are sorted, since those who come together have
    /// their ids in any order.
    pub(crate) async fn next(&mut self) -> Value {
        let mut message = self.next_by_id().await;
        sort_names(&mut message);
        message
    }

    /// The next message, its names as they came.
    pub(crate) async fn next_by_id(&mut self) -> Value {
        let text = self.socket.text().await;
        let message: Value = serde_json::from_str(&text).expect(&text);
        let mut keys: Vec<_> = message.as_object().expect(&text).keys().map(String::as_str).collect();
        keys.sort_unstable();
        assert_eq!(keys, KEYS, "{text}");
        for key in &KEYS[..5] {
            assert!(message[key].is_string(), "{key} in {text}");
        }
        assert!(message["user_list"].is_array(), "{text}");
        if message["type"] != "handshake" {
            assert_eq!(message["ip"], "", "an address was sent to others: {text}");
        }
        message
    }

    /// The content of the next message, which must be from the server itself.
    pub(crate) async fn system(&mut self) -> String {
        let message = self.next().await;
        assert_eq!(message["type"], "system", "{message}");
        message["content"].as_str().expect("a string").to_owned()
    }

    pub(crate) async fn closed(&mut self) -> (u16, String) {
        self.socket.closed().await
    }

    pub(crate) fn socket(&mut self) -> &mut Socket {
        &mut self.socket
    }

    pub(crate) async fn leave(self) {
        self.socket.leave(1000).await;
    }
}

/// What a hub member hears, its names sorted.
pub(crate) fn line(kind: &str, user: &str, content: &str, names: &[&str]) -> Value {
    let mut line = json!({
        "ip": "", "user": user, "from": user, "type": kind, "content": content, "user_list": names,
    });
    sort_names(&mut line);
    line
}

fn sort_names(message: &mut Value) {
    let names = message["user_list"].as_array_mut().expect("a list");
    names.sort_by(|a, b| a.as_str().expect("a name").cmp(b.as_str().expect("a name")));
}

/// What chat members hear of a hub member; its id is not told to itself.
pub(crate) fn from_hub(id: u64, name: &str, kind: &str, content: Value) -> Value {
    json!({"type": kind, "from_id": id, "from_name": name, "content": content})
}

/// Connects a hub member while a chat member watches, and returns its id too.
pub(crate) async fn hub_beside(server: &Server, name: &str, chat: &mut Chat) -> (Hub, u64) {
    let hub = Hub::enter(server, name).await;
    let join = chat.next().await;
    assert_eq!((&join["type"], &join["from_name"]), (&json!("join"), &json!(name)));
    (hub, join["from_id"].as_u64().expect("an id"))
}
