//! An echo server as sockudo-ws' example shows it (<https://github.com/sockudo/sockudo-ws>,
//! `examples/simple_echo.rs`), with one thread (`current_thread`), since the servers compared get one core each,
//! and with mimalloc, which its README recommends for production. `TCP_NODELAY` is on, as in the example.
//! Everything else is the library's default.

use std::io;

use bytes::BytesMut;
use futures_util::{SinkExt, StreamExt};
use sockudo_ws::error::{Error, Result};
use sockudo_ws::handshake::{build_response, generate_accept_key, parse_request};
use sockudo_ws::protocol::Message;
use sockudo_ws::{Config, WebSocketStream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

#[tokio::main(flavor = "current_thread")]
async fn main() -> io::Result<()> {
    let Some(port) = std::env::args().nth(1).and_then(|port| port.parse::<u16>().ok()) else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "usage: peer-sockudo-ws PORT"));
    };
    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tokio::spawn(async move {
            if let Err(error) = echo(stream).await {
                eprintln!("{error}");
            }
        });
    }
}

async fn echo(mut stream: TcpStream) -> Result<()> {
    upgrade(&mut stream).await?;
    let mut socket = WebSocketStream::server(stream, Config::default());
    while let Some(message) = socket.next().await {
        match message? {
            message @ (Message::Text(_) | Message::Binary(_)) => socket.send(message).await?,
            // Pings are answered by the library.
            Message::Ping(_) | Message::Pong(_) => {}
            Message::Close(_) => break,
        }
    }
    Ok(())
}

async fn upgrade(stream: &mut TcpStream) -> Result<()> {
    let mut received = BytesMut::with_capacity(4096);
    loop {
        if stream.read_buf(&mut received).await? == 0 {
            return Err(Error::ConnectionClosed);
        }
        if let Some((request, _)) = parse_request(&received)? {
            let response = build_response(&generate_accept_key(request.key), None, None);
            stream.write_all(&response).await?;
            return Ok(());
        }
    }
}
