//! An echo and broadcast server as axum's documentation shows them (<https://github.com/tokio-rs/axum>).
//!
//! `/echo` is the first example of its module `extract::ws`. `/broadcast/TOPIC` is its `examples/chat`: a tokio
//! broadcast channel, and for each connection one task that sends and one that receives. Every message goes
//! verbatim to everybody on the topic, its sender included. Choices, and why:
//!
//! - One thread (`current_thread`): the servers compared get one core each, where more threads would only
//!   take turns.
//! - `TCP_NODELAY`, as the documentation of axum's `ListenerExt` shows; `serve` alone leaves it off.
//! - A receiver that the channel has overtaken goes on with what is left, instead of ending like the
//!   example's. Losses are visible to loadgen.
//! - A topic is looked up when a connection joins it, and not for a message. It is never forgotten.
//! - Everything else is axum's and tungstenite's default.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::extract::{Path, State};
use axum::response::Response;
use axum::routing::any;
use axum::serve::ListenerExt;
use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpListener;
use tokio::sync::broadcast::{self, error::RecvError};

/// How many messages a receiver may lag behind: ten times the example's.
const LAG_MAX: usize = 1000;

type Topic = broadcast::Sender<Message>;

#[derive(Clone, Default)]
struct Topics(Arc<Mutex<HashMap<String, Topic>>>);

impl Topics {
    fn of(&self, name: String) -> Topic {
        let mut topics = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        topics.entry(name).or_insert_with(|| Topic::new(LAG_MAX)).clone()
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> io::Result<()> {
    let Some(port) = std::env::args().nth(1).and_then(|port| port.parse::<u16>().ok()) else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "usage: peer-axum PORT"));
    };
    let listener = TcpListener::bind(("127.0.0.1", port)).await?.tap_io(|stream| {
        if let Err(error) = stream.set_nodelay(true) {
            eprintln!("TCP_NODELAY: {error}");
        }
    });
    let routes = Router::new()
        .route("/echo", any(|upgrade: WebSocketUpgrade| async { upgrade.on_upgrade(echo) }))
        .route("/broadcast/{topic}", any(upgrade))
        .with_state(Topics::default());
    axum::serve(listener, routes).await
}

async fn echo(mut socket: WebSocket) {
    while let Some(Ok(message)) = socket.recv().await {
        if matches!(message, Message::Binary(_) | Message::Text(_)) && socket.send(message).await.is_err() {
            return;
        }
    }
}

async fn upgrade(
    upgrade: WebSocketUpgrade,
    Path(name): Path<String>,
    State(topics): State<Topics>,
) -> Response {
    upgrade.on_upgrade(move |socket| member(socket, topics.of(name)))
}

async fn member(socket: WebSocket, topic: Topic) {
    let (mut sink, mut source) = socket.split();
    let mut messages = topic.subscribe();
    let mut sending = tokio::spawn(async move {
        loop {
            match messages.recv().await {
                Ok(message) => {
                    if sink.send(message).await.is_err() {
                        return;
                    }
                }
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return,
            }
        }
    });
    let mut receiving = tokio::spawn(async move {
        while let Some(Ok(message @ (Message::Binary(_) | Message::Text(_)))) = source.next().await {
            // Nobody may be listening any more, which is no error of this sender.
            let _ = topic.send(message);
        }
    });
    tokio::select! {
        _ = &mut sending => receiving.abort(),
        _ = &mut receiving => sending.abort(),
    }
}
