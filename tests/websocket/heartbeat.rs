//! Silent peers: those who answer pings stay, the others do not.

use std::time::Duration;

use uproar::websocket::{Failure, Heartbeat, ListenOptions, Message, Options, listen};

use crate::harness::{RawClient, beside, connected, run};

fn beating(interval_ms: u64, timeout_ms: u64) -> ListenOptions {
    let heartbeat = Heartbeat {
        interval: Duration::from_millis(interval_ms),
        timeout: Duration::from_millis(timeout_ms),
    };
    ListenOptions {
        socket: Options { heartbeat: Some(heartbeat), ..Options::default() },
        ..Default::default()
    }
}

#[test]
fn a_peer_that_answers_pings_stays() {
    run(async {
        let server = listen("127.0.0.1:0", beating(10, 5_000), |mut socket| async move {
            let mut pongs = 0;
            while let Ok(Some(message)) = socket.read().await {
                pongs += u32::from(message == Message::Pong(Vec::new()));
                if pongs == 5 {
                    socket.write("five").await.unwrap();
                }
            }
        })
        .unwrap();
        let mut socket = connected(&server).await;
        let mut pings = 0;
        loop {
            match socket.read().await.unwrap().unwrap() {
                Message::Ping(payload) => pings += u32::from(payload.is_empty()),
                message => break assert_eq!(message, Message::text("five")),
            }
        }
        assert!(pings >= 5);
    });
}

#[test]
fn a_peer_that_answers_no_ping_is_ended() {
    run(async {
        let (told, mut tells) = tokio::sync::mpsc::unbounded_channel();
        let server = listen("127.0.0.1:0", beating(20, 100), move |mut socket| {
            let told = told.clone();
            async move { told.send(socket.read().await.unwrap_err()).unwrap() }
        })
        .unwrap();
        let address = server.local_addr();
        let last_words = beside(move || RawClient::upgraded(address).read_to_end()).await;
        assert!(last_words.starts_with(&[0x89, 0]), "{last_words:?}");
        let error = tells.recv().await.unwrap();
        assert!(matches!(error.failure, Failure::Silent(limit) if limit == Duration::from_millis(100)));
    });
}

#[test]
fn a_writer_is_not_held_back_for_ever_by_a_dead_peer() {
    run(async {
        let (told, mut tells) = tokio::sync::mpsc::unbounded_channel();
        let server = listen("127.0.0.1:0", beating(50, 200), move |socket| {
            let told = told.clone();
            async move {
                let error = loop {
                    if let Err(error) = socket.write(vec![0; 50_000]).await {
                        break error;
                    }
                };
                told.send(error.to_string()).unwrap();
            }
        })
        .unwrap();
        let address = server.local_addr();
        // It stays connected, and reads nothing.
        let client = beside(move || RawClient::upgraded(address)).await;
        assert_eq!(tells.recv().await.unwrap(), "the peer has not been heard of for 200ms");
        drop(client);
    });
}
