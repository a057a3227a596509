//! Messages there and back, and how long ones travel.

use std::net::TcpStream;
use std::pin::pin;

use futures_util::future::poll_immediate as poll_once;
use tungstenite::Message as Theirs;
use uproar_websocket::{ListenOptions, Message, Options};

use crate::harness::{RawClient, accept_upgrade, beside, connected, echo_server, raw_server, run};

#[test]
fn messages_of_every_size_come_back_as_they_were() {
    run(async {
        let server = echo_server(ListenOptions::default());
        let mut socket = connected(&server).await;
        for length in [0, 1, 125, 126, 65_535, 65_536, 65_537, 200_000, 5_000_000] {
            let text = Message::text("é".repeat(length / 2));
            socket.write(text.clone()).await.unwrap();
            assert!(socket.read().await.unwrap() == Some(text), "{length}");
            let binary = Message::binary(vec![7; length]);
            socket.write(binary.clone()).await.unwrap();
            assert!(socket.read().await.unwrap() == Some(binary), "{length}");
        }
        assert_eq!(socket.close(1000, "done").await.unwrap().unwrap().code, 1000);
    });
}

#[test]
fn another_client_is_understood() {
    run(async {
        let server = echo_server(ListenOptions::default());
        let address = server.local_addr();
        beside(move || {
            let tcp = TcpStream::connect(address).unwrap();
            tcp.set_read_timeout(Some(crate::harness::PATIENCE)).unwrap();
            let (mut client, _) = tungstenite::client(format!("ws://{address}/x"), tcp).unwrap();
            for message in [Theirs::text("hello"), Theirs::binary(vec![1; 300_000])] {
                client.send(message.clone()).unwrap();
                assert!(client.read().unwrap() == message);
            }
            client.send(Theirs::Ping("?".into())).unwrap();
            assert_eq!(client.read().unwrap(), Theirs::Pong("?".into()));
            client.close(None).unwrap();
            while client.read().is_ok() {}
        })
        .await;
    });
}

#[test]
fn another_server_is_understood() {
    let (address, server) = raw_server(|stream| {
        let mut socket = tungstenite::accept(stream.try_clone().unwrap()).unwrap();
        while let Ok(message) = socket.read() {
            if message.is_text() || message.is_binary() {
                socket.send(message).unwrap();
            }
        }
    });
    run(async move {
        let url = format!("ws://{address}");
        let mut socket = uproar_websocket::connect(&url, &Default::default()).await.unwrap();
        for message in [Message::text("hello"), Message::binary(vec![1; 300_000])] {
            socket.write(message.clone()).await.unwrap();
            assert!(socket.read().await.unwrap() == Some(message));
        }
        socket.write(Message::Ping(b"?".to_vec())).await.unwrap();
        assert_eq!(socket.read().await.unwrap(), Some(Message::Pong(b"?".to_vec())));
        socket.close(1000, "").await.unwrap();
    });
    server.join().unwrap();
}

#[test]
fn long_messages_leave_in_fragments_of_64_kib() {
    run(async {
        let server = echo_server(ListenOptions::default());
        let address = server.local_addr();
        beside(move || {
            let mut client = RawClient::upgraded(address);
            client.send_frame(0x82, &vec![9; 65_537]);
            assert_eq!(client.read_exact(), [0x02, 127, 0, 0, 0, 0, 0, 1, 0, 0]);
            assert!(client.read_exact::<65_536>() == [9; 65_536]);
            assert_eq!(client.read_exact(), [0x80, 1, 9]);
            client.send_frame(0x81, &[b'x'; 65_535]);
            assert_eq!(client.read_exact(), [0x81, 126, 255, 255]);
        })
        .await;
    });
}

#[test]
fn a_client_masks_with_a_new_mask_each_time() {
    let (address, server) = raw_server(|stream| {
        accept_upgrade(stream);
        let mut frames = RawClient(stream.try_clone().unwrap());
        (frames.read_exact::<8>(), frames.read_exact::<8>())
    });
    run(async move {
        let socket =
            uproar_websocket::connect(&format!("ws://{address}"), &Default::default()).await.unwrap();
        socket.write("hi").await.unwrap();
        socket.write("hi").await.unwrap();
        let (one, other) = beside(move || server.join().unwrap()).await;
        for [first, length, mask @ .., a, b] in [one, other] {
            let [m, n, ..]: [u8; 4] = mask;
            assert_eq!((first, length, a ^ m, b ^ n), (0x81, 0x82, b'h', b'i'));
        }
        assert_ne!(one[2..6], other[2..6]);
    });
}

#[test]
fn pings_are_answered_and_seen_also_amid_fragments() {
    run(async {
        let server =
            uproar_websocket::listen("127.0.0.1:0", ListenOptions::default(), |mut socket| async move {
                let mut seen = Vec::new();
                while let Ok(Some(message)) = socket.read().await {
                    seen.push(message);
                    if seen.len() == 3 {
                        socket.write(format!("{seen:?}")).await.unwrap();
                    }
                }
            })
            .unwrap();
        let address = server.local_addr();
        beside(move || {
            let mut client = RawClient::upgraded(address);
            client.send_frame(0x01, b"he");
            client.send_frame(0x89, b"ping");
            assert_eq!(&client.read_exact::<6>(), b"\x8a\x04ping");
            client.send_frame(0x80, b"llo");
            client.send_frame(0x8a, b"pong");
            let expected = r#"[Ping([112, 105, 110, 103]), Text("hello"), Pong([112, 111, 110, 103])]"#;
            assert_eq!(client.read_exact::<2>(), [0x81, expected.len() as u8]);
            assert_eq!(String::from_utf8_lossy(&client.read_exact::<71>()), expected);
        })
        .await;
    });
}

#[test]
fn a_read_that_is_given_up_loses_nothing() {
    run(async {
        let server = echo_server(ListenOptions::default());
        let mut socket = connected(&server).await;
        for number in 0..200_u32 {
            let message = Message::text(number.to_string());
            socket.write(message.clone()).await.unwrap();
            // Polled once, and dropped in the middle of its receive.
            assert!(poll_once(pin!(socket.read())).await.is_none());
            let read = socket.read().await.unwrap();
            assert_eq!(read, Some(message));
        }
    });
}

#[test]
fn messages_over_the_limit_are_refused_with_what_had_arrived() {
    run(async {
        let socket = Options { message_bytes_max: 10, ..Options::default() };
        let (told, mut tells) = tokio::sync::mpsc::unbounded_channel();
        let options = ListenOptions { socket, ..ListenOptions::default() };
        let server = uproar_websocket::listen("127.0.0.1:0", options, move |mut socket| {
            let told = told.clone();
            async move { told.send(socket.read().await.unwrap_err()).unwrap() }
        })
        .unwrap();
        let address = server.local_addr();
        let last_words = beside(move || {
            let mut client = RawClient::upgraded(address);
            client.send_frame(0x01, b"begin");
            client.send_frame(0x00, b" and more");
            client.read_to_end()
        })
        .await;
        assert_eq!(last_words, b"\x88\x11\x03\xf1message too big");
        let error = tells.recv().await.unwrap();
        assert_eq!(error.to_string(), "the peer broke the WebSocket protocol: a message over 10 bytes");
        assert_eq!(error.unfinished.unwrap().bytes, b"begin");
    });
}
