//! Many clients at once, and a wait for all of them: `cargo run --example clients -- ws://127.0.0.1:9001 100`

use uproar_websocket::{ConnectOptions, Message, connect};

/// One client: says its number and expects it back.
async fn converse(url: &str, number: usize) -> Result<(), Box<dyn std::error::Error>> {
    let mut socket = connect(url, &ConnectOptions::default()).await?;
    let text = number.to_string();
    socket.write(text.clone()).await?;
    while let Some(message) = socket.read().await? {
        match message {
            Message::Text(answer) if answer == text => {
                socket.close(1000, "").await?;
                return Ok(());
            }
            // They have been answered.
            Message::Ping(_) | Message::Pong(_) => {}
            other => return Err(format!("client {number} got {other:?}").into()),
        }
    }
    Err(format!("client {number} got no answer").into())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let url = arguments.next().unwrap_or_else(|| "ws://127.0.0.1:9001".to_owned());
    let count: usize = arguments.next().map_or(Ok(100), |count| count.parse())?;
    tokio_uring::start(async {
        let clients: Vec<_> = (0..count)
            .map(|number| {
                let url = url.clone();
                tokio_uring::spawn(
                    async move { converse(&url, number).await.map_err(|error| error.to_string()) },
                )
            })
            .collect();
        for client in clients {
            client.await??;
        }
        println!("all {count} had their answer");
        Ok(())
    })
}
