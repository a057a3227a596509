//! Clients that break the rules: each is told, and nobody else notices.

use std::time::Duration;

use uproar_websocket::{ListenOptions, Message, listen};

use crate::harness::{PATIENCE, REQUEST, RawClient, beside, connected, echo_server, masked, run};

#[test]
fn broken_frames_are_answered_with_their_code() {
    run(async {
        let server = echo_server(ListenOptions::default());
        let address = server.local_addr();
        let mut neighbour = connected(&server).await;
        for (bytes, code) in [
            (&b"\x81\x02hi"[..], 1002_u16),
            (b"\xc1\x80\0\0\0\0", 1002),
            (b"\x83\x80\0\0\0\0", 1002),
            (b"\x81\xfe\0\x7d\0\0\0\0", 1002),
            (b"\x89\xfe\0\x7e\0\0\0\0", 1002),
            (b"\x09\x80\0\0\0\0", 1002),
            (b"\x80\x80\0\0\0\0", 1002),
            (b"\x01\x80\0\0\0\0\x81\x80\0\0\0\0", 1002),
            (b"\x88\x81\0\0\0\0\x03", 1002),
            (b"\x88\x82\0\0\0\0\x03\xed", 1002),
            (b"\x81\x81\0\0\0\0\xff", 1007),
            (b"\x81\xff\0\0\0\0\x10\0\0\0\0\0\0\0", 1009),
        ] {
            let told = beside(move || {
                let mut client = RawClient::upgraded(address);
                client.send(bytes);
                // More than it will ever read.
                let _ = std::io::Write::write_all(&mut client.0, &[0; 10_000]);
                client.read_to_end()
            })
            .await;
            assert_eq!(told[0], 0x88, "{bytes:x?}");
            assert_eq!(u16::from_be_bytes([told[2], told[3]]), code, "{bytes:x?}");
        }
        neighbour.write("unharmed").await.unwrap();
        assert_eq!(neighbour.read().await.unwrap(), Some(Message::text("unharmed")));
    });
}

#[test]
fn requests_that_are_no_upgrade_are_answered() {
    run(async {
        let server = echo_server(ListenOptions::default());
        let address = server.local_addr();
        for (request, status) in [
            ("GET / HTTP/1.1\r\nHost: here\r\n\r\n".to_owned(), "426"),
            (REQUEST.replace("Version: 13", "Version: 8"), "426"),
            (REQUEST.replace("dGhl", "dG"), "400"),
            (REQUEST.replace("HTTP/1.1", "HTTP/1.0"), "400"),
            (REQUEST.replace("Connection: Upgrade", "Connection: close"), "400"),
            ("\x16\x03\x01\x02\0\x01\0".to_owned(), "400"),
            (REQUEST.replace("Host: there\r\n", ""), "400"),
            (REQUEST.replace("Host: there", "Host: there\r\nHost: there"), "400"),
            (format!("GET / HTTP/1.1\r\nA: {}", "x".repeat(17_000)), "431"),
        ] {
            let answer = beside(move || {
                let mut client = RawClient::connect(address);
                client.send(request);
                client.read_head()
            })
            .await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
        }
    });
}

#[test]
fn who_never_completes_a_request_is_cut_off() {
    run(async {
        let handshake_timeout = Duration::from_millis(100);
        let server = echo_server(ListenOptions { handshake_timeout, ..ListenOptions::default() });
        let address = server.local_addr();
        for sent in ["", "GET / HT"] {
            let answer = beside(move || {
                let mut client = RawClient::connect(address);
                client.send(sent);
                client.read_to_end()
            })
            .await;
            assert_eq!(answer, b"");
        }
    });
}

#[test]
fn connections_over_the_limit_wait_until_there_is_a_place() {
    run(async {
        let server = echo_server(ListenOptions { connections_max: 1, ..ListenOptions::default() });
        let mut first = connected(&server).await;
        let address = server.local_addr();
        let mut second = beside(move || {
            let mut client = RawClient::connect(address);
            client.send(REQUEST);
            client
        })
        .await;
        // The second one is with the kernel since before these round trips, in each of which the runtime looks at
        // what has completed: an accept would be among it.
        for _ in 0..100 {
            first.write("?").await.unwrap();
            assert_eq!(first.read().await.unwrap(), Some(Message::text("?")));
            assert_eq!(server.connections(), 1);
        }
        first.close(1000, "").await.unwrap();
        assert!(beside(move || second.read_head()).await.starts_with("HTTP/1.1 101 "));
    });
}

#[test]
fn the_last_of_a_flood_of_pings_is_answered_though_nobody_reads_the_answers() {
    run(async {
        let (all_read, may_read) = std::sync::mpsc::channel();
        let server = listen("127.0.0.1:0", ListenOptions::default(), move |mut socket| {
            let all_read = all_read.clone();
            async move {
                while let Ok(Some(message)) = socket.read().await {
                    if message == Message::Ping(b"last".to_vec()) {
                        all_read.send(()).unwrap();
                    }
                }
            }
        })
        .unwrap();
        let address = server.local_addr();
        beside(move || {
            let mut client = RawClient::upgraded(address);
            // More than the queue and the buffers of the kernel hold.
            let pings = masked(0x89, &[b'x'; 125]).repeat(1000);
            for _ in 0..400 {
                client.send(&pings);
            }
            client.send_frame(0x89, b"last");
            may_read.recv_timeout(PATIENCE).unwrap();
            let mut answers = 0;
            while client.read_exact() != [0x8a, 4] {
                client.read_exact::<125>();
                answers += 1;
            }
            assert_eq!(&client.read_exact(), b"last");
            assert!(answers < 400_000, "nothing had piled up");
        })
        .await;
    });
}
