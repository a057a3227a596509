//! An echo server as tokio-tungstenite's example shows it (<https://github.com/snapview/tokio-tungstenite>,
//! `examples/echo-server.rs`), with one thread (`current_thread`), since the servers compared get one core
//! each, and with `TCP_NODELAY`. Everything else is the library's default. `forward` flushes when nothing more
//! has arrived, so answers to messages that were read together leave together.

use futures_util::{StreamExt, TryStreamExt, future};
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
    let Ok(socket) = tokio_tungstenite::accept_async(stream).await else { return };
    let (write, read) = socket.split();
    // A client that is gone ends it with an error, which is none of the server's.
    let _ = read
        .try_filter(|message| future::ready(message.is_text() || message.is_binary()))
        .forward(write)
        .await;
}
