//! Clients that come back.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use uproar::websocket::{Backoff, ConnectOptions, ListenOptions, Message, OpenSockets, Reconnecting, listen};

use crate::harness::{echo, echo_server, run, url};

fn quick() -> Backoff {
    Backoff { first: Duration::from_millis(20), max: Duration::from_millis(80) }
}

#[test]
fn a_client_comes_back_when_its_server_does() {
    run(async {
        let server = echo_server(ListenOptions::default());
        let address = server.local_addr();
        let mut client = Reconnecting::new(url(&server), ConnectOptions::default()).backoff(quick());
        let mut socket = client.next().await.unwrap();
        server.close(OpenSockets::Close, Duration::ZERO).await;
        while let Ok(Some(_)) = socket.read().await {}
        let restarting = tokio_uring::spawn(async move {
            tokio::time::sleep(Duration::from_millis(100)).await;
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
            .backoff(quick())
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
