//! A client that says one thing and prints the answer:
//! `cargo run --example client -- ws://127.0.0.1:9001 hello`

use uproar_websocket::{ConnectOptions, Message, Socket, connect};

/// The next message; pings that come before it are answered by reading them.
async fn answer(socket: &mut Socket) -> Result<Message, Box<dyn std::error::Error>> {
    while let Some(message) = socket.read().await? {
        if message.is_data() {
            return Ok(message);
        }
    }
    Err("the server has closed the connection".into())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let url = arguments.next().unwrap_or_else(|| "ws://127.0.0.1:9001".to_owned());
    let text = arguments.next().unwrap_or_else(|| "hello".to_owned());
    tokio_uring::start(async {
        let mut socket = connect(&url, &ConnectOptions::default()).await?;
        socket.write(text).await?;
        match answer(&mut socket).await? {
            Message::Text(text) => println!("{text}"),
            other => println!("something else than text: {other:?}"),
        }
        socket.close(1000, "").await?;
        Ok(())
    })
}
