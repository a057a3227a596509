//! Clients that come back.

use std::cell::RefCell;
use std::io::Read;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use uproar_websocket::{
    Backoff, ConnectError, ConnectOptions, ListenOptions, Message, OpenSockets, Reconnecting, listen,
};

use crate::harness::{beside, echo, echo_server, raw_server, read_head, run, url};

fn quick() -> Backoff {
    Backoff { first: Duration::from_millis(20), max: Duration::from_millis(80) }
}

#[test]
fn a_client_comes_back_when_its_server_does() {
    run(async {
        let server = echo_server(ListenOptions::default());
        let address = server.local_addr();
        let has_failed = Rc::new(Notify::new());
        let failed = Rc::clone(&has_failed);
        let mut client = Reconnecting::new(url(&server), ConnectOptions::default())
            .unwrap()
            .backoff(quick())
            .unwrap()
            .stop_when(move |_, _| {
                failed.notify_one();
                false
            });
        let mut socket = client.next().await.unwrap();
        server.close(OpenSockets::Close, Duration::ZERO).await;
        while let Ok(Some(_)) = socket.read().await {}
        let restarting = tokio_uring::spawn(async move {
            has_failed.notified().await;
            listen(&address.to_string(), ListenOptions::default(), echo).unwrap()
        });
        let mut socket = client.next().await.unwrap();
        socket.write("back").await.unwrap();
        assert_eq!(socket.read().await.unwrap(), Some(Message::text("back")));
        restarting.await.unwrap();
    });
}

#[test]
fn a_client_gives_up_when_it_is_told_to() {
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    run(async move {
        let asked = Rc::new(RefCell::new(Vec::new()));
        let noted = Rc::clone(&asked);
        let begin = Instant::now();
        let mut client = Reconnecting::new(format!("ws://{address}"), ConnectOptions::default())
            .unwrap()
            .backoff(quick())
            .unwrap()
            .stop_when(move |failures, error| {
                noted.borrow_mut().push((failures, error.to_string()));
                failures == 4
            });
        assert!(client.next().await.is_none());
        // Half of 20, 40 and 80 ms at the least.
        assert!(begin.elapsed() >= Duration::from_millis(70));
        let numbers: Vec<u32> = asked.borrow().iter().map(|(failures, _)| *failures).collect();
        assert_eq!(numbers, [1, 2, 3, 4]);
        assert!(asked.borrow()[0].1.starts_with("cannot reach "));
    });
}

#[test]
fn who_stops_waiting_for_a_client_ends_its_attempt() {
    let (asked, has_asked) = tokio::sync::oneshot::channel();
    let (address, server) = raw_server(move |stream| {
        read_head(stream);
        asked.send(()).unwrap();
        // Until the connection has ended.
        stream.read(&mut [0]).unwrap()
    });
    run(async move {
        let mut client = Reconnecting::new(format!("ws://{address}"), ConnectOptions::default()).unwrap();
        tokio::select! {
            socket = client.next() => panic!("{socket:?}"),
            () = async { has_asked.await.unwrap() } => {}
        }
        assert_eq!(beside(move || server.join().unwrap()).await, 0);
    });
}

#[test]
fn what_no_attempt_could_succeed_with_is_refused_before_the_first() {
    let refused = |url: &str, options| Reconnecting::new(url, options).unwrap_err();
    assert!(matches!(refused("http://here", ConnectOptions::default()), ConnectError::Url { .. }));
    // A name has at most 253 characters (RFC 1035, section 2.3.4).
    let long = format!("wss://{}", "a.".repeat(127) + "a");
    assert!(matches!(refused(&long, ConnectOptions::default()), ConnectError::ServerName(_)));
    let fields = vec![("Connection".to_owned(), "close".to_owned())];
    let options = ConnectOptions { fields, ..ConnectOptions::default() };
    assert!(matches!(refused("ws://here", options), ConnectError::ReservedField(_)));
    let options = ConnectOptions { timeout: Duration::ZERO, ..ConnectOptions::default() };
    assert!(matches!(refused("ws://here", options), ConnectError::Option(_)));
    let client = Reconnecting::new("ws://here", ConnectOptions::default()).unwrap();
    let backwards = Backoff { first: Duration::from_secs(2), max: Duration::from_secs(1) };
    assert!(matches!(client.backoff(backwards), Err(ConnectError::Option(_))));
}
