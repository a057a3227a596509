//! Everybody hears what anybody says: `cargo run --example broadcast -- 127.0.0.1:9001`
//!
//! Each member has a task that writes to it, fed by a channel, so that a slow one delays nobody; one that falls
//! too far behind misses messages.

use tokio::sync::broadcast::{Sender, error::RecvError};
use uproar_websocket::{ListenOptions, Message, Socket, listen};

/// How many messages a member may be behind.
const LAG_MAX: usize = 1000;

async fn member(mut socket: Socket, everybody: Sender<Message>) {
    let (writer, mut heard) = (socket.writer(), everybody.subscribe());
    let writing = tokio_uring::spawn(async move {
        loop {
            let said = match heard.recv().await {
                Ok(message) => writer.write(message).await,
                Err(RecvError::Lagged(missed)) => writer.write(format!("you missed {missed} messages")).await,
                Err(RecvError::Closed) => return,
            };
            if said.is_err() {
                return;
            }
        }
    });
    while let Ok(Some(message)) = socket.read().await {
        if message.is_data() {
            // It fails when nobody is there, and this one is.
            let _ = everybody.send(message);
        }
    }
    writing.abort();
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:9001".to_owned());
    tokio_uring::start(async {
        let everybody = Sender::new(LAG_MAX);
        let server =
            listen(&address, ListenOptions::default(), move |socket| member(socket, everybody.clone()))?;
        println!("listening on ws://{}", server.local_addr());
        Ok(tokio::signal::ctrl_c().await?)
    })
}
