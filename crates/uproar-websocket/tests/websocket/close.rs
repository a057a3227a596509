//! How sockets end.

use std::cell::RefCell;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener};
use std::time::Duration;

use tokio_uring::net::TcpListener as UringListener;
use uproar_websocket::{
    ConnectOptions, Failure, ListenOptions, Message, OpenSockets, Options, Socket, Stream, WriteError,
    connect, listen, start,
};

use crate::harness::{
    PATIENCE, RawClient, accept_upgrade, beside, connected, echo, echo_server, raw_server, run, url,
};

#[test]
fn a_close_is_answered_with_its_code_and_then_tcp_ends() {
    run(async {
        let server = echo_server(ListenOptions::default());
        let address = server.local_addr();
        for (frame, answer) in [
            (&b"\x03\xe8bye"[..], &b"\x88\x02\x03\xe8"[..]),
            (b"\x0f\xa0", b"\x88\x02\x0f\xa0"),
            (b"", b"\x88\x00"),
        ] {
            let answered = beside(move || {
                let mut client = RawClient::upgraded(address);
                client.send_frame(0x88, frame);
                client.read_to_end()
            })
            .await;
            assert_eq!(answered, answer);
        }
    });
}

#[test]
fn a_close_is_read_once_and_nothing_follows() {
    let (address, server) = raw_server(|stream| {
        accept_upgrade(stream);
        stream.write_all(b"\x88\x06\x0b\xb8over\x81\x02no").unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        answer.len()
    });
    run(async move {
        let mut socket = connect(&format!("ws://{address}"), &ConnectOptions::default()).await.unwrap();
        assert_eq!(socket.read().await.unwrap(), Some(Message::close(3000, "over")));
        assert_eq!(socket.read().await.unwrap(), None);
        assert!(matches!(socket.write("x").await, Err(WriteError::Closed)));
        assert_eq!(beside(move || server.join().unwrap()).await, 8);
    });
}

#[test]
fn closing_waits_for_the_answer_and_ignores_what_is_still_on_its_way() {
    run(async {
        let server = listen("127.0.0.1:0", ListenOptions::default(), |mut socket| async move {
            for _ in 0..10 {
                socket.write("still here").await.unwrap();
            }
            while let Ok(Some(_)) = socket.read().await {}
        })
        .unwrap();
        let socket = connected(&server).await;
        assert_eq!(socket.close(4001, "enough").await.unwrap().unwrap().code, 4001);
    });
}

#[test]
fn closing_gives_up_on_a_peer_that_does_not_answer() {
    let (address, server) = raw_server(|stream| {
        accept_upgrade(stream);
        let mut everything = Vec::new();
        stream.read_to_end(&mut everything).unwrap();
        everything.len()
    });
    run(async move {
        let close_timeout = Duration::from_millis(100);
        let options = ConnectOptions {
            socket: Options { close_timeout, ..Options::default() },
            ..ConnectOptions::default()
        };
        let socket = connect(&format!("ws://{address}"), &options).await.unwrap();
        let error = socket.close(1000, "bye").await.unwrap_err();
        assert!(matches!(error, WriteError::Failed(Failure::NotClosed(limit)) if limit == close_timeout));
        assert_eq!(beside(move || server.join().unwrap()).await, 11);
    });
}

#[test]
fn an_end_without_a_close_is_a_failure_with_what_had_arrived() {
    let (address, server) = raw_server(|stream| {
        accept_upgrade(stream);
        stream.write_all(b"\x81\x02hi\x02\x02ab\x00\x7dcd").unwrap();
    });
    run(async move {
        let mut socket = connect(&format!("ws://{address}"), &ConnectOptions::default()).await.unwrap();
        assert_eq!(socket.read().await.unwrap(), Some(Message::text("hi")));
        let error = socket.read().await.unwrap_err();
        assert_eq!(error.to_string(), "the peer ended the connection without a close");
        assert_eq!(error.unfinished.unwrap().bytes, b"abcd");
        let again = socket.read().await.unwrap_err();
        assert!(matches!(again.failure, Failure::EndOfStream) && again.unfinished.is_none());
        assert!(matches!(socket.write("x").await, Err(WriteError::Failed(Failure::EndOfStream))));
    });
    server.join().unwrap();
}

#[test]
fn a_handler_that_returns_has_closed() {
    run(async {
        let server = listen("127.0.0.1:0", ListenOptions::default(), |socket| async move {
            socket.write("bye").await.unwrap();
        })
        .unwrap();
        let address = server.local_addr();
        let last_words = beside(move || RawClient::upgraded(address).read_to_end()).await;
        assert_eq!(last_words, b"\x81\x03bye\x88\x02\x03\xe8");
    });
}

#[test]
fn nothing_stands_ahead_of_the_answer_to_the_upgrade() {
    run(async {
        let server = listen("127.0.0.1:0", ListenOptions::default(), |socket| async move {
            socket.write(Message::Ping(b"first".to_vec())).await.unwrap();
        })
        .unwrap();
        let address = server.local_addr();
        let all = beside(move || {
            let mut client = RawClient::connect(address);
            client.send(crate::harness::REQUEST);
            client.read_to_end()
        })
        .await;
        assert!(all.starts_with(b"HTTP/1.1 101 "), "{all:?}");
        assert!(all.ends_with(b"\r\n\r\n\x89\x05first\x88\x02\x03\xe8"), "{all:?}");
    });
}

#[test]
fn a_client_leaves_it_to_the_server_to_end_tcp() {
    let (address, server) = raw_server(|stream| {
        accept_upgrade(stream);
        stream.read_exact(&mut [0; 8]).unwrap();
        stream.write_all(b"\x88\x02\x03\xe8").unwrap();
        // Well within the time for which a client waits.
        stream.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        let early = stream.read(&mut [0; 8]).map_err(|error| error.kind());
        stream.shutdown(Shutdown::Write).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        (early, stream.read(&mut [0; 8]).unwrap())
    });
    run(async move {
        let socket = connect(&format!("ws://{address}"), &ConnectOptions::default()).await.unwrap();
        assert_eq!(socket.close(1000, "").await.unwrap().unwrap().code, 1000);
        let (early, at_the_end) = beside(move || server.join().unwrap()).await;
        assert_eq!((early, at_the_end), (Err(ErrorKind::WouldBlock), 0));
    });
}

/// A server with one place, whose first client is sent more than it reads, and its options.
fn stalling(close_timeout: Duration) -> ListenOptions {
    ListenOptions {
        connections_max: 1,
        socket: Options { close_timeout, queue_bytes_max: 64_000_000, ..Options::default() },
        ..ListenOptions::default()
    }
}

#[test]
fn who_takes_nothing_of_the_last_words_keeps_a_place_until_it_is_cut_off() {
    run(async {
        let (told, mut tells) = tokio::sync::mpsc::unbounded_channel();
        let options = stalling(Duration::from_millis(200));
        let server = listen("127.0.0.1:0", options, move |socket| {
            let told = told.clone();
            async move {
                told.send(()).unwrap();
                for _ in 0..200 {
                    socket.write(vec![0; 100_000]).await.unwrap();
                }
            }
        })
        .unwrap();
        let address = server.local_addr();
        let mut stalled = beside(move || RawClient::upgraded(address)).await;
        tells.recv().await.unwrap();
        assert_eq!(server.connections(), 1);
        // It waits in the backlog until the first is gone.
        let second = beside(move || RawClient::upgraded(address)).await;
        tells.recv().await.unwrap();
        assert_eq!(server.connections(), 1);
        let received = beside(move || {
            let mut received = Vec::new();
            let _ = stalled.0.read_to_end(&mut received);
            received.len()
        })
        .await;
        assert!(received < 20_000_000, "{received}");
        drop(second);
    });
}

#[test]
fn closing_a_server_waits_for_last_words_to_leave() {
    let (reads, may_read) = std::sync::mpsc::channel::<()>();
    let (server_closed, received) = (RefCell::new(None), RefCell::new(None));
    run(async {
        let (told, mut tells) = tokio::sync::mpsc::unbounded_channel();
        let options = stalling(PATIENCE);
        let server = listen("127.0.0.1:0", options, move |socket| {
            let told = told.clone();
            async move {
                for _ in 0..200 {
                    socket.write(vec![0; 100_000]).await.unwrap();
                }
                told.send(()).unwrap();
            }
        })
        .unwrap();
        let address = server.local_addr();
        received.replace(Some(std::thread::spawn(move || {
            let mut client = RawClient::upgraded(address);
            may_read.recv().unwrap();
            client.read_to_end()
        })));
        tells.recv().await.unwrap();
        // The handler has returned, and most of what it wrote is still here.
        reads.send(()).unwrap();
        server_closed.replace(Some(server.close(OpenSockets::Finish, PATIENCE).await));
    });
    // The runtime is gone, and whoever was not waited for with it.
    assert_eq!(server_closed.take(), Some(0));
    let received = received.take().unwrap().join().unwrap();
    assert!(received.len() > 20_000_000 && received.ends_with(b"\x88\x02\x03\xe8"), "{}", received.len());
}

#[test]
fn a_closed_server_has_left_its_port() {
    run(async {
        let server = echo_server(ListenOptions::default());
        let (address, mut client) = (server.local_addr(), connected(&server).await);
        let closing = tokio_uring::spawn(server.close(OpenSockets::Close, PATIENCE));
        assert_eq!(client.read().await.unwrap(), Some(Message::close(1001, "server shutting down")));
        assert_eq!(closing.await.unwrap(), 0);
        let again = listen(&address.to_string(), ListenOptions::default(), echo).unwrap();
        assert_eq!(again.connections(), 0);
        assert!(connect(&url(&again), &ConnectOptions::default()).await.is_ok());
    });
}

#[test]
fn a_handler_that_never_returns_is_not_waited_for_longer_than_asked() {
    run(async {
        let server = listen("127.0.0.1:0", ListenOptions::default(), |socket| async move {
            let _socket = socket;
            std::future::pending().await
        })
        .unwrap();
        let mut client = connected(&server).await;
        assert_eq!(server.close(OpenSockets::Close, Duration::from_millis(100)).await, 1);
        assert_eq!(client.read().await.unwrap(), Some(Message::close(1001, "server shutting down")));
    });
}

#[test]
fn a_socket_may_outlive_its_runtime() {
    let (address, server) = raw_server(|stream| {
        accept_upgrade(stream);
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).unwrap();
        rest
    });
    let socket: Socket =
        start(async { connect(&format!("ws://{address}"), &ConnectOptions::default()).await.unwrap() });
    drop(socket);
    assert_eq!(server.join().unwrap(), b"");
}

#[test]
fn a_socket_may_be_dropped_on_another_runtime() {
    let (address, server) = raw_server(|stream| {
        accept_upgrade(stream);
        stream.read_to_end(&mut Vec::new()).unwrap()
    });
    let socket: Socket =
        start(async { connect(&format!("ws://{address}"), &ConnectOptions::default()).await.unwrap() });
    let other = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    other.block_on(async move { drop(socket) });
    assert_eq!(server.join().unwrap(), 0);
}

#[test]
fn writers_that_are_kept_hold_no_descriptor() {
    const CONNECTIONS: usize = 150;
    let descriptors = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    run(async move {
        let server = echo_server(ListenOptions::default());
        let (before, mut writers) = (descriptors(), Vec::new());
        for _ in 0..CONNECTIONS {
            let socket = connected(&server).await;
            writers.push(socket.writer());
            socket.close(1000, "").await.unwrap();
        }
        assert_eq!(server.close(OpenSockets::Finish, PATIENCE).await, 0);
        // Other tests have some, too.
        let more = descriptors().saturating_sub(before);
        assert!(more < CONNECTIONS * 3 / 4, "{more} descriptors more than before");
        drop(writers);
    });
}

#[test]
fn nothing_is_written_behind_the_end_of_a_stream() {
    run(async {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let client = beside(move || RawClient::connect(address)).await;
        let (tcp, peer) = UringListener::from_std(listener).accept().await.unwrap();
        let mut stream = Stream::plain(tcp, peer).unwrap();
        stream.write(b"HTTP/1.1 ").await.unwrap();
        stream.finish();
        assert!(matches!(stream.write(b"200 OK").await, Err(Failure::Ended)));
        let mut client = client;
        assert_eq!(beside(move || client.read_to_end()).await, b"HTTP/1.1 ");
    });
}
