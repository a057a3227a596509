//! A broadcast server as axum's chat example shows it (<https://github.com/tokio-rs/axum>,
//! `examples/chat`): one tokio broadcast channel, and for each connection one task that sends and one
//! that receives.
//!
//! Every message goes verbatim to everybody, its sender included. What is chosen, and why:
//!
//! - One thread (`current_thread`): the servers compared get one core each, where more threads would only
//!   take turns.
//! - `TCP_NODELAY`, as the documentation of axum's `ListenerExt` shows; `serve` alone leaves it off.
//! - A receiver that the channel has overtaken goes on with what is left, instead of ending like the
//!   example's. Losses are visible to loadgen.
//! - All paths below `/broadcast/` are one topic, like in the example. That spares a lookup.
//! - Everything else is axum's and tungstenite's default.

use std::io;

use axum::Router;
use axum::extract::State;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::response::Response;
use axum::routing::{any, get};
use axum::serve::ListenerExt;
use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpListener;
use tokio::sync::broadcast::{self, error::RecvError};

/// How many messages a receiver may lag behind: ten times the example's.
const LAG_MAX: usize = 1000;

#[tokio::main(flavor = "current_thread")]
async fn main() -> io::Result<()> {
    let Some(port) = std::env::args().nth(1).and_then(|port| port.parse::<u16>().ok()) else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "usage: axum-broadcast PORT"));
    };
    let listener = TcpListener::bind(("127.0.0.1", port)).await?.tap_io(|stream| {
        if let Err(error) = stream.set_nodelay(true) {
            eprintln!("TCP_NODELAY: {error}");
        }
    });
    let routes = Router::new()
        .route("/healthz", get(|| async { "ok" }))
        .route("/broadcast/{topic}", any(upgrade))
        .with_state(broadcast::Sender::new(LAG_MAX));
    axum::serve(listener, routes).await
}

async fn upgrade(upgrade: WebSocketUpgrade, State(topic): State<broadcast::Sender<Message>>) -> Response {
    upgrade.on_upgrade(|socket| member(socket, topic))
}

async fn member(socket: WebSocket, topic: broadcast::Sender<Message>) {
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
