//! A client that comes back whenever its server does: `cargo run --example reconnect -- ws://127.0.0.1:9001`
//!
//! It waits 1 s after a loss, twice as long after each attempt that fails, up to 30 s, and gives up after ten.

use uproar_websocket::{ConnectError, ConnectOptions, Reconnecting};

fn main() -> Result<(), ConnectError> {
    let url = std::env::args().nth(1).unwrap_or_else(|| "ws://127.0.0.1:9001".to_owned());
    tokio_uring::start(async {
        let mut client = Reconnecting::new(url, ConnectOptions::default())?.stop_when(|failures, error| {
            println!("attempt {failures}: {error}");
            failures == 10
        });
        while let Some(mut socket) = client.next().await {
            println!("connected to {}", socket.peer_address());
            let ending = loop {
                match socket.read().await {
                    Ok(Some(message)) => println!("{message:?}"),
                    Ok(None) => break "closed".to_owned(),
                    Err(error) => break error.to_string(),
                }
            };
            println!("lost: {ending}");
        }
        Ok(())
    })
}
