//! An echo server as tokio-tungstenite's example shows it (<https://github.com/snapview/tokio-tungstenite>,
//! `examples/echo-server.rs`), with one thread (`current_thread`), since the servers compared get one core
//! each, and with `TCP_NODELAY`. Everything else is the library's default.

use futures_util::{SinkExt, StreamExt};
use tokio::net::{TcpListener, TcpStream};

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::io::Result<()> {
    let Some(address) = std::env::args().nth(1) else {
        return Err(std::io::Error::new(std::io::ErrorKind::InvalidInput, "usage: tungstenite-echo ADDRESS"));
    };
    let listener = TcpListener::bind(address).await?;
    println!("listening on ws://{}", listener.local_addr()?);
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tokio::spawn(echo(stream));
    }
}

async fn echo(stream: TcpStream) {
    let Ok(mut socket) = tokio_tungstenite::accept_async(stream).await else { return };
    while let Some(Ok(message)) = socket.next().await {
        if (message.is_text() || message.is_binary()) && socket.send(message).await.is_err() {
            return;
        }
    }
}
