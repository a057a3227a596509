//! A chat client that comes through a proxy, which tells its address.

use serde_json::{Value, json};

use super::chat::take_timestamp;
use super::{Server, TEXT, Wire, frame, upgrade_request};

/// A member of `general` whose address is told by a trusted proxy on this machine.
pub(crate) struct Guest {
    wire: Wire,
    pub(crate) id: u64,
    /// The token of its session.
    pub(crate) session: String,
}

/// An upgrade for which a proxy tells this address.
pub(crate) fn upgrade_from(address: &str, path: &str) -> String {
    upgrade_request(path).replace("\r\n\r\n", &format!("\r\nX-Forwarded-For: {address}\r\n\r\n"))
}

/// A connection to any path from this address.
pub(crate) async fn admitted_from(server: &Server, address: &str, path: &str) -> Wire {
    let mut wire = Wire::connect(server).await;
    wire.send(upgrade_from(address, path)).await;
    let head = wire.head().await;
    assert_eq!(head.status, 101, "{address} {path}");
    wire
}

/// The status and the body of the answer to an upgrade from this address that is refused.
pub(crate) async fn refused_from(server: &Server, address: &str, path: &str) -> (u16, String) {
    let mut wire = Wire::connect(server).await;
    wire.send(upgrade_from(address, path)).await;
    let response = wire.response().await;
    (response.status, response.body)
}

impl Guest {
    /// Connects and reads all messages to a new member.
    pub(crate) async fn enter(server: &Server, address: &str) -> Self {
        Self::enter_at(server, address, "/chat").await
    }

    /// As [`Guest::enter`], with a query.
    pub(crate) async fn enter_at(server: &Server, address: &str, path: &str) -> Self {
        let wire = admitted_from(server, address, path).await;
        let mut guest = Self { wire, id: 0, session: String::new() };
        let welcome = guest.next().await;
        assert_eq!(welcome["type"], "welcome");
        guest.id = welcome["content"]["user_id"].as_u64().unwrap();
        guest.session = welcome["content"]["session"].as_str().unwrap().to_owned();
        assert_eq!(guest.next().await["type"], "users");
        assert_eq!(guest.next().await["type"], "history");
        guest
    }

    pub(crate) async fn say(&mut self, message: Value) {
        self.wire.send(frame(TEXT, message.to_string())).await;
    }

    /// The next message, without its timestamp.
    pub(crate) async fn next(&mut self) -> Value {
        let mut message = self.wire.json().await;
        take_timestamp(&mut message, "timestamp");
        message
    }

    /// Skips to the next message of one of these types.
    pub(crate) async fn until(&mut self, kinds: &[&str]) -> Value {
        loop {
            let message = self.next().await;
            if kinds.contains(&message["type"].as_str().unwrap()) {
                return message;
            }
        }
    }

    /// Says something, and whether it was heard.
    pub(crate) async fn is_heard(&mut self) -> bool {
        self.say(json!({"type": "message", "content": "hm"})).await;
        let answer = self.until(&["message_sent", "error"]).await;
        answer["type"] == "message_sent"
    }

    /// Skips to the close frame, and returns its code and reason.
    pub(crate) async fn closed(&mut self) -> (u16, String) {
        self.wire.close().await
    }
}
