//! A chat server in a program of its own, which greets the room, answers `/time`, and prints what is said.
//!
//!     cargo run --example embedded [127.0.0.1:8080]
//!
//! It runs until Ctrl-C or SIGTERM.

use std::error::Error;

use tokio::signal::unix::{SignalKind, signal};
use uproar::config::Config;
use uproar::rooms::RoomMessage;
use uproar::server::Server;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let listen = std::env::args().nth(1).as_deref().unwrap_or("127.0.0.1:8080").parse()?;
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let (asked, mut questions) = tokio::sync::mpsc::channel(100);
    let told = move |room: &str, message: &RoomMessage| {
        // Quoted, because it is what strangers write.
        println!("{room}: {}: {:?}", message.from_name, message.content.as_str());
        if message.content.as_str() == "/time" {
            // Where too many have asked, some get no answer.
            let _ = asked.try_send(room.to_owned());
        }
    };
    let server = Server::start_with_hooks(Config { listen, ..Config::default() }, told)?;
    println!("listening on http://{}", server.local_addr());
    server.publish("general", "The doors are open.").await?;
    loop {
        tokio::select! {
            Some(room) = questions.recv() => {
                let time = format!("Up for {} s.", server.stats().uptime_seconds);
                let _ = server.publish(&room, time).await.inspect_err(|error| eprintln!("no answer in {room}: {error}"));
            }
            ended = server.wait() => return Ok(ended?),
            _ = interrupt.recv() => return Ok(server.shutdown().await?),
            _ = terminate.recv() => return Ok(server.shutdown().await?),
        }
    }
}
