//! A page and the WebSocket that it uses on one port: `cargo run --example http -- 127.0.0.1:9001`

use std::time::{Duration, Instant};

use uproar_websocket::{ListenOptions, Response, Socket, StatusCode, serve};

const PAGE: &str = "<!doctype html><title>Time</title><p id=time>…</p><script>
    new WebSocket(`ws://${location.host}/time`).onmessage = ({ data }) => (time.textContent = data);
</script>";

/// Writes once a second, and reads all the while: that is how pings and the close are answered.
async fn tell_time(mut socket: Socket) {
    let begin = Instant::now();
    let mut second = tokio::time::interval(Duration::from_secs(1));
    loop {
        tokio::select! {
            message = socket.read() => {
                if !matches!(message, Ok(Some(_))) {
                    return;
                }
            }
            _ = second.tick() => {
                if socket.write(format!("{} s", begin.elapsed().as_secs())).await.is_err() {
                    return;
                }
            }
        }
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:9001".to_owned());
    tokio_uring::start(async {
        let server = serve(&address, ListenOptions::default(), |request| async move {
            match request.head().path() {
                "/" => {
                    let page = Response::new(StatusCode::OK, "text/html; charset=utf-8", PAGE.into());
                    request.respond(&page).await;
                }
                "/time" => {
                    if let Some(socket) = request.upgrade().await {
                        tell_time(socket).await;
                    }
                }
                _ => request.respond(&Response::text(StatusCode::NOT_FOUND, "Not Found")).await,
            }
        })?;
        println!("listening on http://{}", server.local_addr());
        Ok(tokio::signal::ctrl_c().await?)
    })
}
