//! A server that sends every message back: `cargo run --example echo -- 127.0.0.1:9001`

use uproar_websocket::{ListenOptions, ReadError, Socket, listen, start};

async fn echo(mut socket: Socket) -> Result<(), ReadError> {
    while let Some(message) = socket.read().await? {
        if message.is_data() && socket.write(message).await.is_err() {
            break;
        }
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:9001".to_owned());
    start(async {
        let server = listen(&address, ListenOptions::default(), |socket| async move {
            let peer = socket.peer_address();
            if let Err(error) = echo(socket).await {
                eprintln!("{peer}: {error}");
            }
        })?;
        println!("listening on ws://{}", server.local_addr());
        Ok(tokio::signal::ctrl_c().await?)
    })
}
