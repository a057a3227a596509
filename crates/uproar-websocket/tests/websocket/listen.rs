//! Servers: addresses, options, requests, subprotocols, HTTP on the same port, and how they close.

use std::time::Duration;

use tokio_uring::net::TcpListener;
use uproar_websocket::{
    ConnectError, ConnectOptions, Heartbeat, ListenOptions, Message, OpenSockets, Options, Refusal, Request,
    Response, StatusCode, Stream, connect, listen, receive_head, serve, upgrade,
};

use crate::harness::{REQUEST, RawClient, beside, connected, echo, echo_server, run, url};

#[test]
fn addresses_are_taken_in_every_form() {
    run(async {
        for (address, reached) in [
            ("127.0.0.1:0", "127.0.0.1"),
            ("[::1]:0", "[::1]"),
            ("localhost:0", "localhost"),
            (":0", "127.0.0.1"),
        ] {
            let server = listen(address, ListenOptions::default(), echo).unwrap();
            let url = format!("ws://{reached}:{}/", server.local_addr().port());
            let mut socket = connect(&url, &ConnectOptions::default()).await.unwrap();
            socket.write(address).await.unwrap();
            assert_eq!(socket.read().await.unwrap(), Some(Message::text(address)));
        }
        for address in ["127.0.0.1", ":", ":65536", "nowhere.invalid:1", ""] {
            let error = listen(address, ListenOptions::default(), echo).unwrap_err().to_string();
            assert!(error.contains(&format!("{address:?} is no address to listen on")), "{error}");
        }
    });
}

#[test]
fn a_port_that_is_taken_is_refused_in_every_form() {
    run(async {
        let first = echo_server(ListenOptions::default());
        let taken = first.local_addr();
        let error = listen(&taken.to_string(), ListenOptions::default(), echo).unwrap_err().to_string();
        assert_eq!(error, format!("cannot listen on {taken}: Address already in use (os error 98)"));

        // Half of what was asked for is not enough: IPv4 is free, and IPv6 is not.
        let holder = std::net::TcpListener::bind("[::1]:0").unwrap();
        let port = holder.local_addr().unwrap().port();
        let error = listen(&format!(":{port}"), ListenOptions::default(), echo).unwrap_err().to_string();
        assert_eq!(error, format!("cannot listen on [::]:{port}: Address already in use (os error 98)"));
    });
}

#[test]
fn a_port_is_shared_by_those_who_all_ask_for_that() {
    run(async {
        let shared = || ListenOptions { reuse_port: true, ..ListenOptions::default() };
        let first = echo_server(shared());
        let address = first.local_addr().to_string();
        let second = listen(&address, shared(), echo).unwrap();
        let error = listen(&address, ListenOptions::default(), echo).unwrap_err().to_string();
        assert_eq!(error, format!("cannot listen on {address}: Address already in use (os error 98)"));
        // The kernel chooses by the client's port, so a few clients are enough for each to get one.
        let mut sockets = Vec::new();
        while first.connections() == 0 || second.connections() == 0 {
            assert!(sockets.len() < 100, "{} and {}", first.connections(), second.connections());
            sockets.push(connected(&first).await);
        }
    });
}

#[test]
fn clients_over_ipv4_have_addresses_of_ipv4_on_a_port_of_both_families() {
    run(async {
        let server = listen(":0", ListenOptions::default(), |socket| async move {
            socket.write(socket.peer_address().ip().to_string()).await.unwrap();
        })
        .unwrap();
        for host in ["127.0.0.1", "[::1]"] {
            let url = format!("ws://{host}:{}/", server.local_addr().port());
            let mut socket = connect(&url, &ConnectOptions::default()).await.unwrap();
            let seen = socket.read().await.unwrap();
            assert_eq!(seen, Some(Message::text(host.trim_matches(['[', ']']))));
        }
    });
}

#[test]
fn options_that_cannot_be_followed_are_refused_at_once() {
    run(async {
        let zero = Duration::ZERO;
        let refused = |options| listen("127.0.0.1:0", options, echo).unwrap_err().to_string();
        let named = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        for (options, option) in [
            (ListenOptions { backlog: 0, ..Default::default() }, "backlog is 0"),
            (ListenOptions { connections_max: 0, ..Default::default() }, "connections_max is 0"),
            (ListenOptions { handshake_timeout: zero, ..Default::default() }, "handshake_timeout is 0ns"),
            (
                ListenOptions { subprotocols: named(&["a b"]), ..Default::default() },
                "subprotocols is \"a b\"",
            ),
            (
                ListenOptions { subprotocols: named(&["a", "a"]), ..Default::default() },
                "subprotocols is \"a\"",
            ),
            (
                ListenOptions {
                    socket: Options { queue_bytes_max: 0, ..Default::default() },
                    ..Default::default()
                },
                "queue_bytes_max is 0",
            ),
        ] {
            let error = refused(options);
            assert!(error.starts_with(&format!("the option {option}: it must be ")), "{error}");
        }
        // As many as there can be.
        let server = echo_server(ListenOptions { connections_max: usize::MAX, ..Default::default() });
        for options in [
            ConnectOptions { timeout: zero, ..Default::default() },
            ConnectOptions { subprotocols: named(&[""]), ..Default::default() },
            ConnectOptions {
                socket: Options { close_timeout: zero, ..Default::default() },
                ..Default::default()
            },
        ] {
            let error = connect(&url(&server), &options).await.unwrap_err();
            assert!(matches!(error, ConnectError::Option(_)), "{error}");
        }
        connected(&server).await;
    });
}

/// Says yes to who has a token and comes from no page or ours, and greets by the name that the token is for.
async fn guard(request: Request) {
    // Whose token it is takes some asking.
    tokio::task::yield_now().await;
    let head = request.head();
    let is_ours = head.only_value("origin").is_none_or(|origin| origin == "https://ours");
    let name = head.only_value("authorization").and_then(|token| token.strip_prefix("Bearer "));
    let response = match (head.path(), is_ours, name.map(str::to_owned)) {
        ("/page", ..) => Response::text(StatusCode::OK, "a page"),
        ("/chat", true, Some(name)) => {
            let peer = request.peer_address();
            if let Some(socket) = request.upgrade().await {
                socket.write(format!("{name} from {peer} at {}", socket.target())).await.unwrap();
            }
            return;
        }
        ("/chat", ..) => Response::text(StatusCode::FORBIDDEN, "no"),
        ("/old", ..) => Response::empty(StatusCode::FOUND).with_field("Location", "/page"),
        // An end without an answer.
        ("/nothing", ..) => return,
        _ => Response::text(StatusCode::NOT_FOUND, "nowhere"),
    };
    request.respond(&response).await;
}

#[test]
fn a_handler_of_requests_decides_by_path_origin_and_field_and_keeps_what_it_finds() {
    run(async {
        let server = serve("127.0.0.1:0", ListenOptions::default(), guard).unwrap();
        let asking = async |path: &str, fields: &[(&str, &str)]| {
            let fields =
                fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
            let options = ConnectOptions { fields, ..ConnectOptions::default() };
            connect(&format!("ws://{}{path}", server.local_addr()), &options).await
        };
        let token = ("Authorization", "Bearer guest");
        for origin in [None, Some(("Origin", "https://ours"))] {
            let fields: Vec<_> = [token].into_iter().chain(origin).collect();
            let mut socket = asking("/chat?x", &fields).await.unwrap();
            let Some(Message::Text(greeting)) = socket.read().await.unwrap() else { panic!("no greeting") };
            assert!(greeting.starts_with("guest from 127.0.0.1:"), "{greeting}");
            assert!(greeting.ends_with(" at /chat?x"), "{greeting}");
        }
        for (path, fields, refused) in [
            ("/chat", &[token, ("Origin", "https://theirs")][..], 403),
            ("/chat", &[], 403),
            ("/nowhere", &[token], 404),
        ] {
            match asking(path, fields).await {
                Err(ConnectError::Refused(Refusal::Status { status, .. })) => assert_eq!(status, refused),
                other => panic!("{other:?}"),
            }
        }
        let address = server.local_addr();
        let answer = async |request: &'static str| {
            beside(move || {
                let mut client = RawClient::connect(address);
                client.send(request);
                String::from_utf8(client.read_to_end()).unwrap()
            })
            .await
        };
        let page = answer("GET /page HTTP/1.1\r\nHost: here\r\n\r\n").await;
        assert!(page.starts_with("HTTP/1.1 200 OK\r\n") && page.ends_with("\r\n\r\na page"), "{page}");
        let head = answer("HEAD /page HTTP/1.1\r\nHost: here\r\n\r\n").await;
        let page = page.strip_suffix("a page").unwrap();
        // A second may begin between the two.
        assert_eq!(without_date(page), without_date(&head));
        assert_eq!(
            without_date(&answer("GET /old HTTP/1.1\r\nHost: here\r\n\r\n").await),
            "HTTP/1.1 302 Found\r\nContent-Length: 0\r\nConnection: close\r\nLocation: /page\r\n\r\n"
        );
        // What asks for no socket gets none, and is told why.
        let told = answer("GET /chat HTTP/1.1\r\nHost: here\r\nAuthorization: Bearer guest\r\n\r\n").await;
        assert!(told.starts_with("HTTP/1.1 426 Upgrade Required\r\n"), "{told}");
        assert_eq!(answer("GET /nothing HTTP/1.1\r\nHost: here\r\n\r\n").await, "");
    });
}

/// A response without its `Date`, which it must have.
fn without_date(response: &str) -> String {
    let (start, rest) = response.split_once("Date: ").expect("a Date");
    let (date, rest) = rest.split_once("\r\n").unwrap();
    assert!(date.len() == "Sun, 06 Nov 1994 08:49:37 GMT".len() && date.ends_with(" GMT"), "{date}");
    [start, rest].concat()
}

#[test]
fn a_client_that_does_not_take_its_response_is_given_up() {
    run(async {
        let handshake_timeout = Duration::from_millis(100);
        let options = ListenOptions { handshake_timeout, ..ListenOptions::default() };
        let (answered, mut has_answered) = tokio::sync::mpsc::unbounded_channel();
        let server = serve("127.0.0.1:0", options, move |request| {
            let answered = answered.clone();
            async move {
                let long = Response::new(StatusCode::OK, "text/plain", vec![b'x'; 50_000_000].into());
                request.respond(&long).await;
                answered.send(()).unwrap();
            }
        })
        .unwrap();
        let address = server.local_addr();
        let client = beside(move || {
            let mut client = RawClient::connect(address);
            client.send("GET / HTTP/1.1\r\nHost: here\r\n\r\n");
            client
        })
        .await;
        has_answered.recv().await.unwrap();
        // Its connection, and the response with it, goes as soon.
        assert_eq!(server.close(OpenSockets::Finish, Duration::from_secs(5)).await, 0);
        drop(client);
    });
}

#[test]
fn the_first_common_subprotocol_of_the_server_is_agreed_on() {
    run(async {
        let subprotocols = ["two", "three"].map(str::to_owned).to_vec();
        let server = listen(
            "127.0.0.1:0",
            ListenOptions { subprotocols, ..Default::default() },
            |socket| async move {
                socket.write(format!("{:?}", socket.subprotocol())).await.unwrap();
            },
        )
        .unwrap();
        for (offered, agreed) in [
            (&["one", "three", "two"][..], Some("two")),
            (&["three"], Some("three")),
            (&["one"], None),
            (&[], None),
        ] {
            let subprotocols = offered.iter().map(|name| (*name).to_owned()).collect();
            let options = ConnectOptions { subprotocols, ..ConnectOptions::default() };
            let mut socket = connect(&url(&server), &options).await.unwrap();
            assert_eq!(socket.subprotocol(), agreed);
            assert_eq!(socket.read().await.unwrap(), Some(Message::text(format!("{agreed:?}"))));
            assert!(socket.peer_address() == server.local_addr() && socket.tls().is_none());
        }
    });
}

#[test]
fn a_program_that_serves_http_itself_can_upgrade() {
    run(async {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let listener = TcpListener::from_std(listener);
        tokio_uring::spawn(async move {
            loop {
                let (tcp, peer) = listener.accept().await.unwrap();
                let mut stream = Stream::plain(tcp, peer).unwrap();
                if let Err(error) = receive_head(&mut stream).await {
                    let response = error.response().unwrap();
                    let said = Response::text(response.status(), error.to_string());
                    stream.respond(&said, true).await.unwrap();
                    continue;
                }
                match upgrade(stream, &["json"], &Default::default()) {
                    Ok(socket) => echo(socket).await,
                    Err(refused) => refused.stream.respond(&refused.response, true).await.unwrap(),
                }
            }
        });
        beside(move || {
            // The first frame comes with the request.
            let mut client = RawClient::connect(address);
            client.send([REQUEST.as_bytes(), b"\x81\x82\0\0\0\0hi"].concat());
            assert!(client.read_head().starts_with("HTTP/1.1 101 "));
            assert_eq!(&client.read_exact::<4>(), b"\x81\x02hi");
            drop(client);
            let mut client = RawClient::connect(address);
            client.send("GET / HTTP/1.1\r\nHost: here\r\n\r\n");
            assert!(client.read_head().starts_with("HTTP/1.1 426 Upgrade Required\r\n"));
            for (unreadable, status, said) in [
                ("SSH-2.0\r\n\r\n".to_owned(), "400 Bad Request", "an invalid HTTP/1 request"),
                (
                    format!("GET / HTTP/1.1\r\nA: {}", "a".repeat(16_384)),
                    "431 Request Header Fields Too Large",
                    "a request head that is too long",
                ),
            ] {
                let mut client = RawClient::connect(address);
                client.send(unreadable);
                let answer = String::from_utf8(client.read_to_end()).unwrap();
                assert!(answer.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{answer}");
                assert!(answer.ends_with(&format!("\r\n\r\nthe peer sent {said}")), "{answer}");
            }
        })
        .await;
    });
}

#[test]
fn options_that_an_upgrade_cannot_follow_are_an_error_and_500() {
    let refused = |subprotocols: &'static [&str], options: Options| {
        run(async move {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            let client = tokio::task::spawn_blocking(move || {
                let mut client = RawClient::connect(address);
                client.send(REQUEST);
                client.read_head()
            });
            let (tcp, peer) = TcpListener::from_std(listener).accept().await.unwrap();
            let mut stream = Stream::plain(tcp, peer).unwrap();
            receive_head(&mut stream).await.unwrap();
            let refused = upgrade(stream, subprotocols, &options).unwrap_err();
            assert!(refused.error.unwrap().to_string().starts_with("the option "));
            refused.stream.respond(&refused.response, true).await.unwrap();
            assert!(client.await.unwrap().starts_with("HTTP/1.1 500 Internal Server Error\r\n"));
        });
    };
    refused(&["a b"], Options::default());
    let same = Duration::from_secs(1);
    let heartbeat = Some(Heartbeat { interval: same, timeout: same });
    refused(&[], Options { heartbeat, ..Options::default() });
}

#[test]
fn a_server_that_closes_lets_open_sockets_finish_or_closes_them() {
    run(async {
        let server = echo_server(ListenOptions::default());
        let (address, mut socket) = (server.local_addr(), connected(&server).await);
        let finishing = tokio_uring::spawn(server.close(OpenSockets::Finish, Duration::from_secs(10)));
        socket.write("still served").await.unwrap();
        assert_eq!(socket.read().await.unwrap(), Some(Message::text("still served")));
        let refused = connect(&format!("ws://{address}"), &ConnectOptions::default()).await;
        assert!(matches!(refused, Err(ConnectError::Unreachable { .. })), "{refused:?}");
        socket.close(1000, "").await.unwrap();
        assert_eq!(finishing.await.unwrap(), 0);

        let server = echo_server(ListenOptions::default());
        let mut socket = connected(&server).await;
        let closing = tokio_uring::spawn(server.close(OpenSockets::Close, Duration::from_secs(10)));
        assert_eq!(socket.read().await.unwrap(), Some(Message::close(1001, "server shutting down")));
        assert_eq!(closing.await.unwrap(), 0);
    });
}

#[test]
fn who_does_not_leave_in_time_is_cut_off() {
    run(async {
        let server = echo_server(ListenOptions::default());
        let address = server.local_addr();
        let client = beside(move || RawClient::upgraded(address)).await;
        assert_eq!(server.connections(), 1);
        assert_eq!(server.close(OpenSockets::Finish, Duration::from_millis(50)).await, 1);
        assert_eq!(beside(move || { client }.read_to_end()).await, b"");
    });
}

#[test]
fn a_handler_that_panics_takes_nobody_with_it() {
    run(async {
        let server = listen("127.0.0.1:0", ListenOptions::default(), |mut socket| async move {
            assert_ne!(socket.read().await.unwrap(), Some(Message::text("panic")));
            socket.write("fine").await.unwrap();
        })
        .unwrap();
        let (mut bad, mut good) = (connected(&server).await, connected(&server).await);
        bad.write("panic").await.unwrap();
        assert_eq!(bad.read().await.unwrap(), Some(Message::close(1011, "")));
        good.write("go on").await.unwrap();
        assert_eq!(good.read().await.unwrap(), Some(Message::text("fine")));
    });
}
