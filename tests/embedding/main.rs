//! Servers in the process of the program that uses them.

#![allow(clippy::unwrap_used)]

use std::net::{SocketAddr, TcpStream};
use std::num::NonZeroUsize;
use std::time::Duration;

use serde_json::Value;
use tungstenite::stream::MaybeTlsStream;
use tungstenite::{Message, WebSocket};
use uproar::config::{Config, Placement};
use uproar::server::Server;

mod ending;
mod hooks;
mod publishing;

/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(20);

/// A small server on a free port.
fn small() -> Config {
    Config {
        listen: ([127, 0, 0, 1], 0).into(),
        placement: Placement::Unpinned(NonZeroUsize::new(2).unwrap()),
        room_patterns: vec!["team-*".to_owned()],
        ..Config::default()
    }
}

fn start(config: Config) -> Server {
    Server::start(config).expect("the server starts")
}

/// A client.
struct Client(WebSocket<MaybeTlsStream<TcpStream>>);

impl Client {
    /// Connects at a path.
    fn at(address: SocketAddr, path: &str) -> Self {
        let tcp = TcpStream::connect(address).unwrap();
        tcp.set_read_timeout(Some(PATIENCE)).unwrap();
        let url = format!("ws://{address}{path}");
        Self(tungstenite::client(url, MaybeTlsStream::Plain(tcp)).unwrap().0)
    }

    /// Connects to the chat, and reads on until it is a member.
    fn enter(address: SocketAddr) -> Self {
        let mut client = Self::at(address, "/chat");
        client.until("history");
        client
    }

    /// The next message of this type.
    fn until(&mut self, kind: &str) -> Value {
        for _ in 0..100 {
            let text = self.0.read().unwrap().into_text().unwrap();
            let message: Value = serde_json::from_str(&text).unwrap();
            if message["type"] == kind {
                return message;
            }
        }
        panic!("no {kind} among a hundred messages")
    }

    /// Reads on until it is closed, and returns the code.
    fn closed(&mut self) -> Option<u16> {
        loop {
            match self.0.read() {
                Ok(Message::Close(close)) => return close.map(|close| close.code.into()),
                Ok(_) => {}
                Err(_) => return None,
            }
        }
    }
}
