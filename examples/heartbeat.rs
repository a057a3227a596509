//! A server that notices when a client has died without a word: `cargo run --example heartbeat -- 127.0.0.1:9001`
//!
//! A client that answers pings stays for ever; one that is stopped (`kill -STOP`) is ended after a second.

use std::time::Duration;

use uproar_websocket::{Heartbeat, ListenOptions, Options, listen};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:9001".to_owned());
    let heartbeat = Heartbeat { interval: Duration::from_millis(200), timeout: Duration::from_secs(1) };
    let socket = Options { heartbeat: Some(heartbeat), ..Options::default() };
    tokio_uring::start(async {
        let options = ListenOptions { socket, ..ListenOptions::default() };
        let server = listen(&address, options, |mut socket| async move {
            let ending = loop {
                match socket.read().await {
                    Ok(Some(message)) => println!("{message:?}"),
                    Ok(None) => break "said goodbye".to_owned(),
                    Err(error) => break error.to_string(),
                }
            };
            println!("{}: {ending}", socket.peer_address());
        })?;
        println!("listening on ws://{}", server.local_addr());
        Ok(tokio::signal::ctrl_c().await?)
    })
}
