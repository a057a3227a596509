//! An echo server as tokio-tungstenite's example shows it (<https://github.com/snapview/tokio-tungstenite>,
//! `examples/echo-server.rs`), with one thread (`current_thread`), since the servers compared get one core
//! each, and with `TCP_NODELAY`. Everything else is the library's default. `forward` flushes when nothing more
//! has arrived, so answers to messages that were read together leave together.

use std::io;

use futures_util::{StreamExt, TryStreamExt, future};
use tokio::net::{TcpListener, TcpStream};

#[tokio::main(flavor = "current_thread")]
async fn main() -> io::Result<()> {
    let Some(port) = std::env::args().nth(1).and_then(|port| port.parse::<u16>().ok()) else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "usage: peer-tokio-tungstenite PORT"));
    };
    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
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
