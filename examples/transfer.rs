//! Sends a file, whose every piece is acknowledged by two big-endian 32-bit words, 1 and the length received:
//! `cargo run --example transfer -- serve 127.0.0.1:9001`, then
//! `cargo run --example transfer -- send ws://127.0.0.1:9001 FILE`

use uproar_websocket::{ConnectOptions, ListenOptions, Message, Socket, connect, listen};

/// How much is sent at a time.
const PIECE_BYTES: usize = 1024 * 1024;

/// The first word of an acknowledgement.
const RECEIVED: u32 = 1;

fn acknowledgement(bytes: usize) -> Vec<u8> {
    let bytes = u32::try_from(bytes).expect("a message has at most 16 MiB");
    [RECEIVED.to_be_bytes(), bytes.to_be_bytes()].concat()
}

async fn serve(address: &str) -> Result<(), Box<dyn std::error::Error>> {
    let server = listen(address, ListenOptions::default(), |mut socket| async move {
        let mut total = 0;
        while let Ok(Some(message)) = socket.read().await {
            let Message::Binary(piece) = message else { continue };
            total += piece.len();
            if socket.write(acknowledgement(piece.len())).await.is_err() {
                break;
            }
        }
        println!("{total} bytes received");
    })?;
    println!("listening on ws://{}", server.local_addr());
    Ok(tokio::signal::ctrl_c().await?)
}

/// The next message; pings that come before it are answered by reading them.
async fn answer(socket: &mut Socket) -> Result<Message, Box<dyn std::error::Error>> {
    while let Some(message) = socket.read().await? {
        if message.is_data() {
            return Ok(message);
        }
    }
    Err("the server has closed the connection".into())
}

async fn send(url: &str, file: &str) -> Result<(), Box<dyn std::error::Error>> {
    let bytes = std::fs::read(file)?;
    let mut socket = connect(url, &ConnectOptions::default()).await?;
    for piece in bytes.chunks(PIECE_BYTES) {
        socket.write(piece.to_vec()).await?;
        let answer = answer(&mut socket).await?;
        if answer != Message::Binary(acknowledgement(piece.len())) {
            return Err(format!("no acknowledgement of {} bytes: {answer:?}", piece.len()).into());
        }
    }
    socket.close(1000, "").await?;
    println!("{} bytes sent and acknowledged", bytes.len());
    Ok(())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    tokio_uring::start(async {
        match arguments[..] {
            ["serve", address] => serve(address).await,
            ["send", url, file] => send(url, file).await,
            _ => Err("usage: transfer serve ADDRESS:PORT, or transfer send URL FILE".into()),
        }
    })
}
