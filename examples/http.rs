//! A page and the WebSocket that it uses on one port: `cargo run --example http -- 127.0.0.1:9001`

use uproar::websocket::{ListenOptions, Message, Response, Status, Verdict, listen};

const PAGE: &str = "<!doctype html><title>Time</title><p id=time>…</p><script>
    new WebSocket(`ws://${location.host}/time`).onmessage = ({ data }) => (time.textContent = data);
</script>";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:9001".to_owned());
    tokio_uring::start(async {
        let options = ListenOptions::default().with_gate(|head| match head.path() {
            "/" => Verdict::Respond(Response::new(Status::Ok, "text/html; charset=utf-8", PAGE.into())),
            "/time" => Verdict::Upgrade,
            _ => Verdict::Respond(Response::text(Status::NotFound, "Not Found")),
        });
        let server = listen(&address, options, |socket| async move {
            let begin = std::time::Instant::now();
            let text = || Message::text(format!("{} s", begin.elapsed().as_secs()));
            while socket.write(text()).await.is_ok() {
                tokio::time::sleep(std::time::Duration::from_secs(1)).await;
            }
        })?;
        println!("listening on http://{}", server.local_addr());
        Ok(tokio::signal::ctrl_c().await?)
    })
}
