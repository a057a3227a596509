//! The library's client as the Autobahn test suite wants it: it asks a fuzzing server how many cases there are,
//! lives through each of them by sending back what it gets, and asks for the reports.
//! `cargo run --example autobahn_client -- ws://127.0.0.1:9001 library-client`

use uproar_websocket::{ConnectOptions, Socket, connect};

type Error = Box<dyn std::error::Error>;

async fn ask(url: String) -> Result<Socket, Error> {
    Ok(connect(&url, &ConnectOptions::default()).await?)
}

async fn live_through(mut socket: Socket) {
    // Most cases end with a failure: it is what they provoke.
    while let Ok(Some(message)) = socket.read().await {
        if message.is_data() && socket.write(message).await.is_err() {
            return;
        }
    }
}

async fn listen_to(mut socket: Socket) {
    while let Ok(Some(_)) = socket.read().await {}
}

fn main() -> Result<(), Error> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [server, agent] = &arguments[..] else {
        return Err("usage: autobahn_client ws://HOST:PORT AGENT".into());
    };
    tokio_uring::start(async {
        let mut counting = ask(format!("{server}/getCaseCount")).await?;
        let count = counting.read().await?.ok_or("no count")?;
        let count: usize = count.as_text().ok_or("no count")?.parse()?;
        for case in 1..=count {
            live_through(ask(format!("{server}/runCase?case={case}&agent={agent}")).await?).await;
            // It is told when the server has judged the case.
            listen_to(ask(format!("{server}/getCaseStatus?case={case}&agent={agent}")).await?).await;
        }
        listen_to(ask(format!("{server}/updateReports?agent={agent}")).await?).await;
        println!("{count} cases");
        Ok(())
    })
}
