//! A client that says one thing and prints the answer:
//! `cargo run --example client -- ws://127.0.0.1:9001 hello`

use uproar::websocket::{ConnectOptions, connect};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let url = arguments.next().unwrap_or_else(|| "ws://127.0.0.1:9001".to_owned());
    let text = arguments.next().unwrap_or_else(|| "hello".to_owned());
    tokio_uring::start(async {
        let mut socket = connect(&url, &ConnectOptions::default()).await?;
        socket.write(text).await?;
        match socket.read().await? {
            Some(message) => println!("{}", message.as_text().unwrap_or("something else than text")),
            None => println!("nothing"),
        }
        socket.close(1000, "").await?;
        Ok(())
    })
}
