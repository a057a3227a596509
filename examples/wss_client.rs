//! A client over TLS, which trusts the system's authorities or those in a file:
//! `cargo run --example wss_client -- wss://chat.example/echo [ca.pem]`

use uproar_websocket::{ConnectOptions, Sessions, Trust, client_tls, connect};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let url = arguments.next().ok_or("usage: wss_client wss://HOST[:PORT]/PATH [CA.pem]")?;
    let trust = arguments.next().map_or(Trust::System, |file| Trust::File(file.into()));
    let options =
        ConnectOptions { tls: Some(client_tls(&trust, Sessions::Resumed)?), ..ConnectOptions::default() };
    tokio_uring::start(async {
        let mut socket = connect(&url, &options).await?;
        println!("connected by {}", socket.tls().unwrap_or_default());
        socket.write("hello over TLS").await?;
        while let Some(message) = socket.read().await? {
            // A ping may come first, and is answered by reading it.
            if let Some(text) = message.as_text() {
                println!("{text}");
                break;
            }
        }
        socket.close(1000, "").await?;
        Ok(())
    })
}
