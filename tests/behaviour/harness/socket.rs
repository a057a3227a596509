//! A well-behaved client of any dialect, by tokio-tungstenite.

use futures_util::{SinkExt, StreamExt};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::{Error, Message};

use super::{Server, Transport, within};

pub(crate) struct Socket {
    stream: WebSocketStream<Transport>,
}

impl Socket {
    pub(crate) async fn connect(server: &Server, path: &str) -> Self {
        let tcp = Transport::over(server.connect().await, server).await;
        let handshake = tokio_tungstenite::client_async(format!("ws://{}{path}", server.address()), tcp);
        let (stream, _) = within("upgrade", handshake).await.expect("an upgrade");
        Self { stream }
    }

    /// As many connections on one topic, each of which is known to hear the others.
    pub(crate) async fn listeners(server: &Server, path: &str, count: usize) -> Vec<Self> {
        let mut listeners = Vec::new();
        for number in 0..count {
            let mut listener = Self::connect(server, path).await;
            listener.send(format!("here {number}")).await;
            listeners.push(listener);
            for listener in &mut listeners {
                assert_eq!(listener.text().await, format!("here {number}"));
            }
        }
        listeners
    }

    pub(crate) async fn send(&mut self, message: impl Into<Message>) {
        let sent = within("room to write", self.stream.send(message.into())).await;
        sent.expect("the server still reads");
    }

    /// Sends several messages in as few segments as they fit in.
    pub(crate) async fn send_all(&mut self, messages: impl IntoIterator<Item = Message>) {
        for message in messages {
            let fed = within("room to write", self.stream.feed(message)).await;
            fed.expect("the server still reads");
        }
        let flushed = within("room to write", self.stream.flush()).await;
        flushed.expect("the server still reads");
    }

    /// The next message, be it data, control or close. `None` after the end.
    pub(crate) async fn next(&mut self) -> Option<Message> {
        match within("message", self.stream.next()).await? {
            Ok(message) => Some(message),
            Err(Error::ConnectionClosed | Error::AlreadyClosed) => None,
            Err(error) => panic!("instead of a message: {error}"),
        }
    }

    /// The next message, which must be a text. Pings were answered already and are skipped.
    pub(crate) async fn text(&mut self) -> String {
        loop {
            match self.next().await {
                Some(Message::Text(text)) => return text.to_string(),
                Some(Message::Ping(_)) => {}
                other => panic!("instead of a text: {other:?}"),
            }
        }
    }

    /// The code and reason of the close that must come next, and the end behind it.
    pub(crate) async fn closed(&mut self) -> (u16, String) {
        let Some(Message::Close(Some(close))) = self.next().await else {
            panic!("no close with a code came next");
        };
        assert_eq!(self.next().await, None);
        (close.code.into(), close.reason.to_string())
    }

    /// Closes, and waits until the server has answered and ended the connection.
    pub(crate) async fn leave(mut self, code: u16) {
        let close = CloseFrame { code: code.into(), reason: "".into() };
        let sent = within("room to write", self.stream.close(Some(close))).await;
        sent.expect("the server still reads");
        while self.next().await.is_some() {}
    }
}
