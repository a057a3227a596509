//! An echo server over TLS: `cargo run --example wss_server -- cert.pem key.pem 127.0.0.1:9001`

use std::path::Path;

use uproar_websocket::{ListenOptions, listen, server_tls};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [certificates, key, address] = &arguments[..] else {
        return Err("usage: wss_server CERT.pem KEY.pem ADDRESS:PORT".into());
    };
    let tls = Some(server_tls(Path::new(certificates), Path::new(key))?);
    tokio_uring::start(async {
        let options = ListenOptions { tls, ..ListenOptions::default() };
        let server = listen(address, options, |mut socket| async move {
            println!("{} speaks {}", socket.peer_address(), socket.tls().unwrap_or_default());
            while let Ok(Some(message)) = socket.read().await {
                if message.is_data() && socket.write(message).await.is_err() {
                    return;
                }
            }
        })?;
        println!("listening on wss://{}", server.local_addr());
        Ok(tokio::signal::ctrl_c().await?)
    })
}
