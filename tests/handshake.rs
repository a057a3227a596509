//! An acceptor over real sockets: raw clients on one side, a collector of admissions on the other.

mod acceptor;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::Ordering;
use std::time::Duration;

use uproar::address::{AddressLimits, ClientAddress};
use uproar::handshake::route::Endpoint;
use uproar::handshake::{ADMISSIONS_MAX, HandshakeEvent, ProxyPolicy};
use uproar_protocol::response::StatusCode;

use acceptor::{
    AcceptorSettings, OpenAcceptor, PAGE, exchange, raise_descriptor_limit, read_to_end, upgrade,
};

/// The address of a client, as the server sees it.
fn address(client: &TcpStream) -> ClientAddress {
    client.local_addr().expect("an address").into()
}

#[test]
fn every_row_of_the_table_is_answered_completely() {
    let acceptor = OpenAcceptor::with(AcceptorSettings::default());
    for (request, status, body) in [
        ("GET / HTTP/1.1\r\nHost: here\r\n\r\n", "200 OK", PAGE),
        ("GET /chat?room=x HTTP/1.0\r\n\r\n", "200 OK", PAGE),
        ("GET /healthz HTTP/1.0\r\n\r\n", "200 OK", "ok"),
        ("GET /metrics HTTP/1.0\r\n\r\n", "200 OK", "uproar_connections 0\n"),
        ("GET /nowhere HTTP/1.0\r\n\r\n", "404 Not Found", "Not Found"),
        (
            "GET /ws HTTP/1.0\r\n\r\n",
            "426 Upgrade Required",
            "Upgrade Required: connect here with a WebSocket client",
        ),
        (
            "POST /chat HTTP/1.0\r\nContent-Length: 2\r\n\r\n{}",
            "405 Method Not Allowed",
            "Method Not Allowed",
        ),
        ("GET / HTTP/1.0\r\nContent-Length: 5\r\n\r\nhello", "200 OK", PAGE),
        ("\x16\x03\x01 not HTTP at all", "400 Bad Request", "Bad Request"),
        (&upgrade("/nowhere"), "404 Not Found", "Not Found"),
        (&upgrade("/chat").replace("13", "8"), "426 Upgrade Required", "Sec-WebSocket-Version must be 13"),
        (
            &upgrade("/chat").replace("Host: here", "Host: here\r\nOrigin: http://there"),
            "403 Forbidden",
            "Forbidden origin",
        ),
    ] {
        let answer = exchange(&acceptor, request.as_bytes());
        let (head, answered_body) = answer.split_once("\r\n\r\n").expect("a complete head");
        assert!(head.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{request}\n{head}");
        assert!(head.contains("\r\nConnection: close"), "{request}\n{head}");
        assert!(head.contains(&format!("\r\nContent-Length: {}", body.len())), "{request}\n{head}");
        assert_eq!(answered_body, body, "{request}");
    }
    assert!(acceptor.events().contains(&HandshakeEvent::Responded(StatusCode::FORBIDDEN)));
}

#[test]
fn head_is_answered_as_get_without_the_body() {
    let acceptor = OpenAcceptor::with(AcceptorSettings::default());
    for path in ["/", "/metrics", "/ws", "/nowhere"] {
        let get = exchange(&acceptor, format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes());
        let head = exchange(&acceptor, format!("HEAD {path} HTTP/1.0\r\n\r\n").as_bytes());
        let end_of_head = get.find("\r\n\r\n").expect("a complete head") + 4;
        // A second may begin between the two.
        let fields = |head: &str| {
            let lines = head.split("\r\n").filter(|line| !line.starts_with("Date: "));
            lines.map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(fields(&head), fields(&get[..end_of_head]), "{path}");
    }
}

#[test]
fn an_upgrade_is_handed_over_unanswered_with_what_was_received_behind_it() {
    let acceptor = OpenAcceptor::with(AcceptorSettings::default());
    let mut client = acceptor.connect();
    let mut request = upgrade("/broadcast/news").into_bytes();
    request.extend_from_slice(b"\x81\x80mask");
    client.write_all(&request).expect("written");

    let (socket, admission) = acceptor.admission();
    assert_eq!(admission.request.peer, address(&client));
    assert_eq!(admission.request.endpoint, Endpoint::Raw { topic: "news".to_owned() });
    assert!(admission.request.response.starts_with(b"HTTP/1.1 101 "));
    assert_eq!(&admission.received[..], b"\x81\x80mask");
    assert_eq!(acceptor.places.taken(), 1);

    // What the shard sends is the first that the client gets, and the shard gets what comes later.
    let mut shard = TcpStream::from(socket);
    shard.write_all(b"first").expect("written");
    let mut first = [0; 5];
    client.read_exact(&mut first).expect("read");
    assert_eq!(&first, b"first");
    client.write_all(b"later").expect("written");
    shard.read_exact(&mut first).expect("read");
    assert_eq!(&first, b"later");

    drop(admission.permit);
    assert_eq!(acceptor.places.taken(), 0);
}

#[test]
fn a_head_that_arrives_byte_by_byte_is_read_as_well() {
    let acceptor = OpenAcceptor::with(AcceptorSettings::default());
    let mut client = acceptor.connect();
    client.set_nodelay(true).expect("set");
    for byte in upgrade("/echo").bytes() {
        client.write_all(&[byte]).expect("written");
    }
    let (_, admission) = acceptor.admission();
    assert_eq!(admission.request.endpoint, Endpoint::Echo);
    assert!(admission.received.is_empty());
}

#[test]
fn a_head_larger_than_the_first_read_is_read_and_one_over_the_limit_is_refused() {
    let acceptor = OpenAcceptor::with(AcceptorSettings::default());
    let with_filler = |bytes: usize| format!("GET / HTTP/1.0\r\nFiller: {}\r\n\r\n", "x".repeat(bytes));
    assert!(exchange(&acceptor, with_filler(15_000).as_bytes()).starts_with("HTTP/1.1 200 "));
    // Far more than is looked at: the answer must survive what was left unread.
    for bytes in [16_384, 50_000] {
        assert!(exchange(&acceptor, with_filler(bytes).as_bytes()).starts_with("HTTP/1.1 431 "));
    }
}

#[test]
fn a_peer_that_has_ended_its_side_still_gets_its_answer() {
    let acceptor = OpenAcceptor::with(AcceptorSettings::default());
    for (request, expected) in [
        ("GET /healthz HTTP/1.0\r\n\r\n", "HTTP/1.1 200 OK\r\n"),
        ("GET /healthz HTTP/1.0\r\n", "HTTP/1.1 400 Bad Request\r\n"),
        ("", ""),
    ] {
        let mut client = acceptor.connect();
        client.write_all(request.as_bytes()).expect("written");
        client.shutdown(Shutdown::Write).expect("shut down");
        let answer = read_to_end(client);
        assert!(answer.starts_with(expected) && answer.is_empty() == expected.is_empty(), "{answer}");
    }
}

#[test]
fn a_head_that_is_not_complete_in_time_is_answered_with_408() {
    let acceptor = OpenAcceptor::with(AcceptorSettings {
        handshake_timeout: Duration::from_millis(200),
        ..AcceptorSettings::default()
    });
    for begun in ["", "GET / HTTP/1.1\r\nHost: he"] {
        let mut client = acceptor.connect();
        client.write_all(begun.as_bytes()).expect("written");
        assert!(read_to_end(client).starts_with("HTTP/1.1 408 Request Timeout\r\n"));
    }
}

#[test]
fn a_peer_that_ignores_its_answer_is_cut_off() {
    let acceptor = OpenAcceptor::with(AcceptorSettings::default());
    let mut client = acceptor.connect();
    client.write_all(b"GET /nowhere HTTP/1.0\r\n\r\n").expect("written");
    let sent = (0..10_000).take_while(|_| client.write_all(&[b'x'; 4096]).is_ok()).count();
    assert!(sent < 10_000, "40 MB were taken from a client that had been answered");
}

#[test]
fn a_client_without_a_place_is_told_so_and_closed_with_1013() {
    let acceptor = OpenAcceptor::with(AcceptorSettings { clients_max: 1, ..AcceptorSettings::default() });
    let mut member = acceptor.connect();
    member.write_all(upgrade("/chat").as_bytes()).expect("written");
    let admission = acceptor.admission();

    let answer = exchange(&acceptor, upgrade("/chat").as_bytes());
    let (head, frames) = answer.split_at(answer.find("\r\n\r\n").expect("a complete head") + 4);
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    assert!(head.contains("\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"), "{head}");
    // `exchange` writes bytes over 127 as their Latin-1 characters.
    assert_eq!(frames, "\u{81}\u{0e}Server is full\u{88}\u{02}\u{03}\u{f5}");
    assert!(acceptor.events().contains(&HandshakeEvent::Full));

    drop(admission);
    let mut next = acceptor.connect();
    next.write_all(upgrade("/chat").as_bytes()).expect("written");
    acceptor.admission();
}

#[test]
fn a_websocket_client_sees_the_full_server_as_a_message_and_a_close() {
    let acceptor = OpenAcceptor::with(AcceptorSettings { clients_max: 0, ..AcceptorSettings::default() });
    let address = format!("ws://{}/chat", acceptor.address);
    let (mut socket, _) = tungstenite::client(address, acceptor.connect()).expect("an accepted upgrade");
    assert_eq!(socket.read().expect("a message").to_text().expect("text"), "Server is full");
    let tungstenite::Message::Close(Some(close)) = socket.read().expect("a close") else { panic!() };
    assert_eq!(u16::from(close.code), 1013);
    assert!(socket.read().is_err_and(|error| matches!(error, tungstenite::Error::ConnectionClosed)));
}

#[test]
fn draining_is_the_answer_to_everything() {
    let acceptor = OpenAcceptor::with(AcceptorSettings::default());
    let mut early = acceptor.connect();
    early.write_all(b"GET /healthz HTTP/1.0\r\n").expect("written");
    acceptor.drain();
    early.write_all(b"\r\n").expect("written");
    let mut answers = vec![read_to_end(early)];
    for request in ["GET / HTTP/1.0\r\n\r\n", "GET /nowhere HTTP/1.0\r\n\r\n", &upgrade("/chat")] {
        answers.push(exchange(&acceptor, request.as_bytes()));
    }
    for answer in answers {
        assert!(answer.starts_with("HTTP/1.1 503 Service Unavailable\r\n"), "{answer}");
        assert!(answer.ends_with("\r\n\r\ndraining"), "{answer}");
    }
}

#[test]
fn an_upgrade_that_comes_to_its_end_while_the_server_drains_is_not_handed_over() {
    let acceptor = OpenAcceptor::with(AcceptorSettings::default());
    let request = upgrade("/chat");
    let (begun, rest) = request.split_at(request.len() - 2);
    let mut client = acceptor.connect();
    client.write_all(begun.as_bytes()).expect("written");
    acceptor.wait_for_accepted(1);
    acceptor.drain();
    client.write_all(rest.as_bytes()).expect("written");
    let answer = read_to_end(client);
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.ends_with("\r\n\r\ndraining"), "{answer}");
    assert!(acceptor.has_no_admission());
    assert_eq!(acceptor.places.taken(), 0);
}

/// Goal: a shard that is late delays those who come, and loses none of them.
#[test]
fn a_full_queue_delays_newcomers_and_loses_none() {
    const WAITING_MAX: usize = 8;
    raise_descriptor_limit();
    let acceptor = OpenAcceptor::with(AcceptorSettings {
        clients_max: 2 * ADMISSIONS_MAX,
        connections_max: WAITING_MAX,
        ..AcceptorSettings::default()
    });
    let enter = || {
        let mut client = acceptor.connect();
        client.write_all(upgrade("/echo").as_bytes()).expect("written");
        client
    };
    let mut clients = Vec::new();
    for count in 1..ADMISSIONS_MAX + WAITING_MAX {
        clients.push(enter());
        acceptor.wait_for_clients(count);
    }
    // A full queue, and those who wait for it, stop nobody who does not want to go through it.
    assert!(exchange(&acceptor, b"GET /healthz HTTP/1.0\r\n\r\n").starts_with("HTTP/1.1 200 "));
    clients.push(enter());
    acceptor.wait_for_clients(ADMISSIONS_MAX + WAITING_MAX);
    acceptor.events();
    // The accept that is under way is not given up; the others stay in the backlog.
    clients.extend((0..10).map(|_| enter()));
    acceptor.wait_for_clients(ADMISSIONS_MAX + WAITING_MAX + 1);
    assert_eq!(acceptor.events(), [HandshakeEvent::Accepted]);
    let mut arrived: Vec<_> = clients.iter().map(|_| acceptor.admission().1.request.peer).collect();
    let mut expected: Vec<_> = clients.iter().map(address).collect();
    arrived.sort();
    expected.sort();
    assert_eq!(arrived, expected);
    assert!(exchange(&acceptor, b"GET /healthz HTTP/1.0\r\n\r\n").starts_with("HTTP/1.1 200 "));
}

#[test]
fn a_connection_that_waits_for_a_shard_is_answered_when_the_server_drains() {
    raise_descriptor_limit();
    let acceptor = OpenAcceptor::with(AcceptorSettings {
        clients_max: 2 * ADMISSIONS_MAX,
        connections_max: 2 * ADMISSIONS_MAX,
        ..AcceptorSettings::default()
    });
    let mut clients = Vec::new();
    for count in 1..=ADMISSIONS_MAX + 1 {
        let mut client = acceptor.connect();
        client.write_all(upgrade("/echo").as_bytes()).expect("written");
        acceptor.wait_for_clients(count);
        clients.push(client);
    }
    acceptor.drain();
    let answer = read_to_end(clients.remove(ADMISSIONS_MAX));
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.ends_with("\r\n\r\ndraining"), "{answer}");
    for client in &clients {
        assert_eq!(acceptor.admission().1.request.peer, address(client));
    }
    assert!(acceptor.has_no_admission());
}

#[test]
fn a_shard_that_does_not_get_on_shows_in_readiness_first_and_then_in_health() {
    let acceptor = OpenAcceptor::with(AcceptorSettings::default());
    let asked = |path: &str| {
        let answer = exchange(&acceptor, format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes());
        let status = answer[9..12].to_owned();
        (status, answer.rsplit_once("\r\n\r\n").expect("a complete head").1.to_owned())
    };
    let stalled = || ("503".to_owned(), "shard stalled".to_owned());
    let ready = || ("200".to_owned(), "ready".to_owned());
    let healthy = || ("200".to_owned(), "ok".to_owned());
    for (turn_ms, readiness, health) in [
        (0, ready(), healthy()),
        (1_999, ready(), healthy()),
        (2_000, stalled(), healthy()),
        (29_999, stalled(), healthy()),
        (30_000, stalled(), stalled()),
        (5, ready(), healthy()),
    ] {
        acceptor.turn_ms.store(turn_ms, Ordering::SeqCst);
        assert_eq!((asked("/readyz"), asked("/healthz")), (readiness, health), "{turn_ms} ms");
    }
    // They are answers, and nobody is refused by them.
    assert!(!acceptor.events().iter().any(|event| matches!(event, HandshakeEvent::Responded(_))));
}

#[test]
fn where_too_many_are_pending_a_newcomer_takes_the_place_of_the_oldest_silent_connection() {
    let acceptor = OpenAcceptor::with(AcceptorSettings { connections_max: 3, ..AcceptorSettings::default() });
    let oldest = acceptor.connect();
    let mut begun = acceptor.connect();
    begun.write_all(b"GET /healthz HTTP/1.0\r\n").expect("written");
    let mut younger = acceptor.connect();
    acceptor.wait_for_accepted(3);
    assert!(exchange(&acceptor, b"GET /healthz HTTP/1.0\r\n\r\n").starts_with("HTTP/1.1 200 "));
    assert_eq!(read_to_end(oldest), "", "ended without a word");
    assert!(acceptor.events().contains(&HandshakeEvent::Displaced));
    // The others are still there.
    begun.write_all(b"\r\n").expect("written");
    younger.write_all(b"GET /healthz HTTP/1.0\r\n\r\n").expect("written");
    for client in [begun, younger] {
        assert!(read_to_end(client).starts_with("HTTP/1.1 200 "));
    }
}

#[test]
fn a_crowd_that_says_nothing_keeps_nobody_out() {
    let acceptor = OpenAcceptor::with(AcceptorSettings { connections_max: 5, ..AcceptorSettings::default() });
    let mut crowd: Vec<TcpStream> = (0..100).map(|_| acceptor.connect()).collect();
    acceptor.wait_for_accepted(100);
    for _ in 0..10 {
        assert!(exchange(&acceptor, b"GET /healthz HTTP/1.0\r\n\r\n").starts_with("HTTP/1.1 200 "));
    }
    let mut client = acceptor.connect();
    client.write_all(upgrade("/chat").as_bytes()).expect("written");
    assert_eq!(acceptor.admission().1.request.endpoint, Endpoint::Chat);
    // Those at the end of the order are all that is left of it.
    for client in crowd.drain(..80) {
        assert_eq!(read_to_end(client), "");
    }
}

#[test]
fn an_address_with_too_many_handshakes_makes_place_for_itself() {
    let limits = AddressLimits { handshakes_max: 2, ..AddressLimits::default() };
    let acceptor = OpenAcceptor::with(AcceptorSettings { addresses: limits, ..AcceptorSettings::default() });
    let neighbour = acceptor.connect_from("127.0.0.2");
    acceptor.wait_for_accepted(1);
    let [oldest, mut younger] = [acceptor.connect(), acceptor.connect()];
    acceptor.wait_for_accepted(2);
    assert!(exchange(&acceptor, b"GET /healthz HTTP/1.0\r\n\r\n").starts_with("HTTP/1.1 200 "));
    assert_eq!(read_to_end(oldest), "", "ended without a word");
    assert!(acceptor.events().contains(&HandshakeEvent::AddressDisplaced));
    for mut client in [&neighbour, &younger] {
        client.write_all(b"GET /healthz HTTP/1.0\r\n").expect("written");
    }
    younger.write_all(b"\r\n").expect("written");
    assert!(read_to_end(younger).starts_with("HTTP/1.1 200 "));
}

/// Goal: one client's unfinished handshakes behind a proxy cost its own, and neither the proxy nor another client.
#[test]
fn handshakes_count_for_the_address_that_the_proxy_protocol_tells() {
    let proxies =
        ProxyPolicy { trusted: vec!["127.0.0.1".parse().expect("an address")], has_proxy_protocol: true };
    let limits =
        AddressLimits { handshakes_max: 2, unlimited: proxies.trusted.clone(), ..AddressLimits::default() };
    let settings = AcceptorSettings { addresses: limits, proxies, ..AcceptorSettings::default() };
    let acceptor = OpenAcceptor::with(settings);
    let connect = |address: &str| {
        let mut client = acceptor.connect();
        let header = format!("PROXY TCP4 {address} 127.0.0.1 4711 80\r\n");
        client.write_all(header.as_bytes()).expect("written");
        client
    };
    let neighbour = connect("192.0.2.2");
    // These are counted for nobody yet.
    let silent: Vec<TcpStream> = (0..5).map(|_| acceptor.connect()).collect();
    let oldest = connect("192.0.2.1");
    let younger = connect("192.0.2.1");
    acceptor.wait_for_accepted(8);
    let newest = connect("192.0.2.1");
    assert_eq!(read_to_end(oldest), "", "ended without a word");
    assert_eq!(acceptor.events(), [HandshakeEvent::Accepted, HandshakeEvent::AddressDisplaced]);
    for mut client in [neighbour, younger, newest] {
        client.write_all(b"GET /healthz HTTP/1.0\r\n\r\n").expect("written");
        assert!(read_to_end(client).starts_with("HTTP/1.1 200 "));
    }
    drop(silent);
}

#[test]
fn an_address_with_too_many_clients_is_answered_429_ahead_of_a_full_server() {
    let addresses = AddressLimits { clients_max: 1, ..AddressLimits::default() };
    let acceptor =
        OpenAcceptor::with(AcceptorSettings { clients_max: 2, addresses, ..AcceptorSettings::default() });
    let enter = |client: &mut TcpStream| client.write_all(upgrade("/chat").as_bytes()).expect("written");
    let (mut first, mut other) = (acceptor.connect(), acceptor.connect_from("127.0.0.2"));
    enter(&mut first);
    let admission = acceptor.admission();
    enter(&mut other);
    let _other = acceptor.admission();
    let refused = exchange(&acceptor, upgrade("/chat").as_bytes());
    assert!(refused.starts_with("HTTP/1.1 429 Too Many Requests\r\n"), "{refused}");
    assert!(refused.ends_with("\r\n\r\nToo many connections from your address"), "{refused}");
    let mut third = acceptor.connect_from("127.0.0.3");
    enter(&mut third);
    assert!(read_to_end(third).contains("Server is full"));
    // A client's place and its address's are free together.
    drop(admission);
    let mut again = acceptor.connect();
    enter(&mut again);
    acceptor.admission();
}
