//! How sockets end.

use std::io::{Read, Write};

use uproar::websocket::{
    ConnectOptions, Failure, ListenOptions, Message, Options, WriteError, connect, listen,
};

use crate::harness::{RawClient, accept_upgrade, beside, connected, echo_server, raw_server, run};

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
        let close_timeout = std::time::Duration::from_millis(100);
        let options = ConnectOptions {
            socket: Options { close_timeout, ..Options::default() },
            ..ConnectOptions::default()
        };
        let socket = connect(&format!("ws://{address}"), &options).await.unwrap();
        let error = socket.close(1000, "bye").await.unwrap_err();
        assert!(matches!(error, WriteError::Failed(Failure::Silent(limit)) if limit == close_timeout));
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
