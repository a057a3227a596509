//! Writers: many to one socket, slow peers, and what is refused.

use std::cell::Cell;
use std::io::Read;
use std::rc::Rc;
use std::time::Duration;

use tokio::time::timeout;
use uproar_websocket::{ConnectOptions, ListenOptions, Message, WriteError, connect};

use crate::harness::{accept_upgrade, beside, connected, echo_server, raw_server, run};

/// A masked close with a code.
const CLOSE_BYTES: usize = 8;

#[test]
fn messages_of_many_writers_never_mix() {
    run(async {
        let server = echo_server(ListenOptions::default());
        let mut socket = connected(&server).await;
        let tasks: Vec<_> = (0..8_u8)
            .map(|number| {
                let writer = socket.writer();
                tokio_uring::spawn(async move {
                    for _ in 0..10 {
                        writer.binary(&vec![number; 100_000]).await.unwrap();
                        writer.write(Message::Ping(vec![number])).await.unwrap();
                    }
                })
            })
            .collect();
        let (mut messages, mut pongs) = (0, 0);
        while messages < 80 || pongs < 80 {
            match socket.read().await.unwrap().unwrap() {
                Message::Binary(bytes) => {
                    assert!(bytes.len() == 100_000 && bytes.iter().all(|byte| *byte == bytes[0]));
                    messages += 1;
                }
                Message::Pong(_) => pongs += 1,
                other => panic!("{other:?}"),
            }
        }
        for task in tasks {
            task.await.unwrap();
        }
    });
}

#[test]
fn a_slow_peer_holds_back_its_writer_and_not_the_thread() {
    let (go_on, may_read) = std::sync::mpsc::channel::<()>();
    let (address, slow) = raw_server(move |stream| {
        accept_upgrade(stream);
        may_read.recv().unwrap();
        let mut everything = Vec::new();
        stream.read_to_end(&mut everything).unwrap();
        everything.len()
    });
    run(async move {
        let socket = connect(&format!("ws://{address}"), &ConnectOptions::default()).await.unwrap();
        let (writer, written) = (socket.writer(), Rc::new(Cell::new(0)));
        let counter = Rc::clone(&written);
        let writing = tokio_uring::spawn(async move {
            for _ in 0..1000 {
                writer.binary(&[0; 60_000]).await.unwrap();
                counter.set(counter.get() + 1);
            }
            writer.flush().await.unwrap();
        });
        // Others on this thread are served; when these many round trips are over, the writer waits.
        let server = echo_server(ListenOptions::default());
        let mut other = connected(&server).await;
        let (mut before, mut unchanged) = (0, 0);
        while unchanged < 200 {
            other.write("x").await.unwrap();
            assert_eq!(other.read().await.unwrap(), Some(Message::text("x")));
            unchanged = if written.get() == before { unchanged + 1 } else { 0 };
            before = written.get();
        }
        assert!(before < 500, "{before} messages of 60 kB were taken from a peer that reads none");
        // What is given up while it waits is not sent.
        let given_up = timeout(Duration::from_millis(20), socket.write("never")).await;
        assert!(given_up.is_err());
        go_on.send(()).unwrap();
        writing.await.unwrap();
        drop(socket);
        let bytes = beside(move || slow.join().unwrap()).await;
        assert_eq!(bytes, 1000 * (60_000 + 8) + CLOSE_BYTES);
    });
}

#[test]
fn a_busy_writer_lets_others_have_their_turn() {
    let (address, reader) = raw_server(|stream| {
        accept_upgrade(stream);
        let mut buffer = vec![0; 100_000];
        while stream.read(&mut buffer).unwrap() > 0 {}
    });
    run(async move {
        let socket = connect(&format!("ws://{address}"), &ConnectOptions::default()).await.unwrap();
        let (busy, written) = (socket.writer(), Rc::new(Cell::new(0_u64)));
        let (counter, (waits, waited)) = (Rc::clone(&written), tokio::sync::oneshot::channel());
        let writing = tokio_uring::spawn(async move {
            let mut waits = Some(waits);
            while busy.binary(&[0; 10_000]).await.is_ok() {
                counter.set(counter.get() + 1);
                if counter.get() == 100 {
                    waits.take().unwrap().send(()).unwrap();
                }
            }
        });
        // From when it has to wait for room again and again.
        waited.await.unwrap();
        let before = written.get();
        socket.write("mine").await.unwrap();
        socket.write(Message::Ping(Vec::new())).await.unwrap();
        // One for each turn that was waited for.
        assert!(written.get() - before < 100, "{} came in between", written.get() - before);
        socket.writer().flush().await.unwrap();
        drop(socket);
        writing.await.unwrap();
        beside(move || reader.join().unwrap()).await;
    });
}

#[test]
fn what_a_control_frame_cannot_hold_is_refused_with_the_limit() {
    run(async {
        let server = echo_server(ListenOptions::default());
        let mut socket = connected(&server).await;
        for message in [Message::Ping(vec![0; 126]), Message::Pong(vec![0; 126])] {
            let error = socket.write(message).await.unwrap_err();
            assert!(
                error.to_string().contains("126 bytes are too many for a control frame, which holds 125")
            );
        }
        let error = socket.write(Message::close(1000, "x".repeat(124))).await.unwrap_err();
        assert!(matches!(error, WriteError::ControlTooLong { bytes: 126 }), "{error}");
        for code in [0, 999, 1004, 1005, 1006, 1015, 2999, 5000] {
            let error = socket.write(Message::close(code, "")).await.unwrap_err();
            assert!(matches!(error, WriteError::CloseCode(given) if given == code), "{error}");
        }
        // Nothing of that has left.
        socket.write(Message::Ping(vec![1; 125])).await.unwrap();
        assert_eq!(socket.read().await.unwrap(), Some(Message::Pong(vec![1; 125])));
    });
}

#[test]
fn a_writer_of_an_ended_socket_is_refused() {
    run(async {
        let server = echo_server(ListenOptions::default());
        let socket = connected(&server).await;
        let writer = socket.writer();
        drop(socket);
        let error = writer.text("hello").await.unwrap_err();
        assert!(matches!(error, WriteError::Closed), "{error}");
    });
}

#[test]
fn what_was_written_leaves_though_the_socket_is_dropped() {
    let (address, server) = raw_server(|stream| {
        accept_upgrade(stream);
        let mut everything = Vec::new();
        stream.read_to_end(&mut everything).unwrap();
        everything.len()
    });
    run(async move {
        let socket = connect(&format!("ws://{address}"), &ConnectOptions::default()).await.unwrap();
        socket.write(vec![1; 3_000_000]).await.unwrap();
        drop(socket);
        let bytes = beside(move || server.join().unwrap()).await;
        assert_eq!(bytes, 3_000_000 + 45 * 14 + 8 + CLOSE_BYTES);
    });
}
