//! Silent peers: those who answer pings stay, the others do not.

use std::io::Read;
use std::time::{Duration, Instant};

use socket2::{Domain, Socket as RawSocket, Type};
use tokio::time::sleep;
use uproar_websocket::{Failure, Heartbeat, ListenOptions, Message, Options, listen};

use crate::harness::{PATIENCE, REQUEST, RawClient, beside, connected, run};

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
        assert_eq!(tells.recv().await.unwrap(), "the peer has taken nothing for 200ms");
        drop(client);
    });
}

#[test]
fn a_handler_that_does_not_read_for_long_finds_its_peer_alive() {
    run(async {
        let (told, mut tells) = tokio::sync::mpsc::unbounded_channel();
        let server = listen("127.0.0.1:0", beating(20, 100), move |mut socket| {
            let told = told.clone();
            async move {
                for _ in 0..3 {
                    let message = loop {
                        match socket.read().await {
                            Ok(Some(Message::Pong(_))) => {}
                            other => break other.map_err(|error| error.to_string()),
                        }
                    };
                    told.send(message).unwrap();
                    // Much longer than the timeout, and nobody listens.
                    sleep(Duration::from_millis(300)).await;
                }
            }
        })
        .unwrap();
        let mut client = connected(&server).await;
        for text in ["one", "two", "three"] {
            client.write(text).await.unwrap();
            // It answers pings meanwhile.
            let next = async {
                loop {
                    tokio::select! {
                        message = tells.recv() => break message.unwrap(),
                        read = client.read() => drop(read.unwrap()),
                    }
                }
            };
            assert_eq!(next.await, Ok(Some(Message::text(text))));
        }
    });
}

/// Reads what a server sends to `address` in small bites, answers no ping, and then says that it is done.
fn read_slowly(address: std::net::SocketAddr, bytes: usize) {
    let socket = RawSocket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(256 * 1024).unwrap();
    socket.connect(&address.into()).unwrap();
    let mut client = RawClient(socket.into());
    client.0.set_read_timeout(Some(PATIENCE)).unwrap();
    client.send(REQUEST);
    client.read_head();
    let begin = Instant::now();
    let (mut read, mut bite) = (0, [0; 64 * 1024]);
    while read < bytes {
        let count = client.0.read(&mut bite).unwrap();
        read += count;
        // All of it takes three times the timeout.
        std::thread::sleep(Duration::from_secs_f64(1.5 * count as f64 / bytes as f64));
    }
    assert!(begin.elapsed() > Duration::from_secs(1));
    client.send_frame(0x81, b"done");
    // Until the server ends.
    let _ = client.0.read_to_end(&mut Vec::new());
}

#[test]
fn a_peer_that_takes_what_it_is_sent_slowly_is_not_silent() {
    const BYTES: usize = 8_000_000;
    run(async {
        let (told, mut tells) = tokio::sync::mpsc::unbounded_channel();
        let server = listen("127.0.0.1:0", beating(100, 500), move |mut socket| {
            let told = told.clone();
            async move {
                let writer = socket.writer();
                let writing = tokio_uring::spawn(async move {
                    for _ in 0..BYTES / 500_000 {
                        writer.binary(&[7; 500_000]).await?;
                    }
                    Ok::<(), uproar_websocket::WriteError>(())
                });
                told.send((socket.read().await, writing.await.unwrap())).unwrap();
            }
        })
        .unwrap();
        let address = server.local_addr();
        let slow = std::thread::spawn(move || read_slowly(address, BYTES));
        let (read, written) = tells.recv().await.unwrap();
        assert_eq!(read.unwrap(), Some(Message::text("done")));
        written.unwrap();
        beside(move || slow.join().unwrap()).await;
    });
}

#[test]
fn a_process_that_hangs_is_ended_though_its_kernel_takes_what_is_sent() {
    run(async {
        let (told, mut tells) = tokio::sync::mpsc::unbounded_channel();
        let server = listen("127.0.0.1:0", beating(50, 200), move |mut socket| {
            let told = told.clone();
            async move {
                let writer = socket.writer();
                let news = tokio_uring::spawn(async move {
                    while writer.text("news").await.is_ok() {
                        sleep(Duration::from_millis(20)).await;
                    }
                });
                told.send(socket.read().await.unwrap_err()).unwrap();
                news.await.unwrap();
            }
        })
        .unwrap();
        let address = server.local_addr();
        let hanging = beside(move || RawClient::upgraded(address)).await;
        let error = tells.recv().await.unwrap();
        assert!(matches!(error.failure, Failure::Silent(limit) if limit == Duration::from_millis(200)));
        drop(hanging);
    });
}

#[test]
fn a_peer_is_not_called_silent_for_a_time_in_which_this_process_stood_still() {
    run(async {
        let server = listen("127.0.0.1:0", beating(100, 600), |mut socket| async move {
            let mut pongs = 0;
            while let Ok(Some(message)) = socket.read().await {
                pongs += u32::from(matches!(message, Message::Pong(_)));
                if pongs == 1 {
                    // Nothing of this runtime runs meanwhile, as when its process is stopped.
                    std::thread::sleep(Duration::from_secs(3));
                }
                if pongs == 4 {
                    socket.write("four").await.unwrap();
                }
            }
        })
        .unwrap();
        let address = server.local_addr();
        let last = beside(move || {
            let mut client = RawClient::upgraded(address);
            loop {
                match client.read_exact::<2>() {
                    [0x89, 0] => client.send_frame(0x8a, b""),
                    other => break other,
                }
            }
        });
        assert_eq!(last.await, [0x81, 4], "a message of four bytes, and no close");
    });
}
