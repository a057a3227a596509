//! Servers that break the rules: the client says what is wrong, and waits for nothing without end.

use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;

use uproar_websocket::{ConnectError, ConnectOptions, Options, ReadError, connect};

use crate::harness::{accept_upgrade, accept_upgrade_with, beside, raw_server, read_head, run};

/// What connecting comes to with a server of such conduct.
fn refused(conduct: impl FnOnce(&mut TcpStream) + Send + 'static) -> ConnectError {
    let (address, server) = raw_server(conduct);
    let mut error = None;
    run(async {
        let timeout = Duration::from_secs(2);
        let options = ConnectOptions { timeout, ..ConnectOptions::default() };
        error = Some(connect(&format!("ws://{address}/"), &options).await.unwrap_err());
    });
    let _ = server.join();
    error.unwrap()
}

fn answering(response: &'static str) -> String {
    refused(move |stream| {
        read_head(stream);
        stream.write_all(response.as_bytes()).unwrap();
    })
    .to_string()
}

#[test]
fn answers_that_are_no_yes_are_named() {
    for (response, error) in [
        (
            "HTTP/1.1 404 Not Found\r\n\r\n",
            "the server answered 404 Not Found instead of 101 Switching Protocols",
        ),
        (
            "HTTP/1.1 302 Found\r\nLocation: wss://there/\r\n\r\n",
            "the server answered 302 with a redirect to wss://there/, which is not followed",
        ),
        (
            "HTTP/1.1 101 S\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n",
            "the server answered 101 with a wrong or missing Sec-WebSocket-Accept",
        ),
        (
            "HTTP/1.1 101 S\r\nConnection: Upgrade\r\n\r\n",
            "the server answered 101 with a wrong or missing Upgrade",
        ),
        (
            "SSH-2.0-OpenSSH\r\n\r\n",
            "the server answered what is not HTTP: it does not begin with HTTP/1.0 or HTTP/1.1",
        ),
        ("\x15\x03\x03\0\x02\x02\x46", "the server answered in TLS"),
        (
            "HTTP/1.1 101",
            "the server did not answer the upgrade: the peer ended the connection without a close",
        ),
    ] {
        assert_eq!(answering(response), error);
    }
}

#[test]
fn an_oversized_head_is_refused() {
    let error = refused(|stream| {
        read_head(stream);
        let _ = stream.write_all(b"HTTP/1.1 101 S\r\nA: ");
        // It ends when the client does.
        while stream.write_all(&[b'x'; 4096]).is_ok() {}
    });
    assert_eq!(error.to_string(), "the server answered with a head over 16384 bytes or 64 fields");
}

#[test]
fn a_server_that_does_not_answer_is_given_up() {
    let error = refused(|stream| {
        read_head(stream);
        // Until the client has gone.
        let _ = std::io::Read::read(stream, &mut [0]);
    });
    assert_eq!(error.to_string(), "not connected within 2s: the answer to the upgrade did not come");
}

#[test]
fn nobody_there_is_said_with_the_address() {
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    run(async move {
        let error = connect(&format!("ws://{address}"), &ConnectOptions::default()).await.unwrap_err();
        assert_eq!(error.to_string(), format!("cannot reach {address}: Connection refused (os error 111)"));
        for (url, what) in [
            ("http://here/", "http://here/: only ws:// and wss:// are spoken"),
            ("ws://nowhere.invalid/", "nowhere.invalid has no address: "),
        ] {
            let error = connect(url, &ConnectOptions::default()).await.unwrap_err().to_string();
            assert!(error.starts_with(what), "{error}");
        }
    });
}

/// Options with such fields.
fn with_fields(fields: &[(&str, &str)]) -> ConnectOptions {
    let fields = fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    ConnectOptions { fields, ..ConnectOptions::default() }
}

#[test]
fn fields_that_would_change_the_request_are_refused() {
    run(async {
        // Nobody is there; it is not asked for.
        let refusal = async |fields: &[(&str, &str)]| {
            connect("ws://nowhere.invalid", &with_fields(fields)).await.unwrap_err().to_string()
        };
        for (name, value) in [("X", "a\r\nEvil: b"), ("X\r\nEvil", "b"), ("", "a"), ("a b", "c"), ("X", "\0")]
        {
            let error = refusal(&[(name, value)]).await;
            assert_eq!(error, format!("the field {name:?} has a name or a value that cannot be sent"));
        }
        for name in [
            "Connection",
            "upgrade",
            "Content-Length",
            "TRANSFER-ENCODING",
            "Sec-WebSocket-Key",
            "Sec-WebSocket-Version",
            "sec-websocket-protocol",
            "Sec-WebSocket-Extensions",
        ] {
            let error = refusal(&[("Origin", "https://here"), (name, "1")]).await;
            assert_eq!(
                error,
                format!("the field {name:?} cannot be given: the client writes it itself, once")
            );
        }
        let error = refusal(&[("Host", "a"), ("host", "b")]).await;
        assert_eq!(error, "the field \"host\" cannot be given: the client writes it itself, once");
    });
}

#[test]
fn a_request_has_the_fields_of_the_caller_and_one_host() {
    for (given, host) in [(None, None), (Some("chat.example"), Some("chat.example"))] {
        let (address, server) = raw_server(accept_upgrade);
        run(async move {
            let mut fields = vec![("Cookie", "a=1"), ("Cookie", "b=2")];
            fields.extend(given.map(|given| ("hOST", given)));
            connect(&format!("ws://{address}/x?y"), &with_fields(&fields)).await.unwrap();
            let head = beside(move || server.join().unwrap()).await;
            let lines: Vec<&str> = head.lines().collect();
            assert_eq!(lines[0], "GET /x?y HTTP/1.1");
            let host = host.map_or_else(|| address.to_string(), str::to_owned);
            let hosts = lines.iter().filter(|line| line.to_ascii_lowercase().starts_with("host:"));
            assert_eq!(hosts.collect::<Vec<_>>(), [&format!("Host: {host}")]);
            assert!(lines.contains(&"Cookie: a=1") && lines.contains(&"Cookie: b=2"), "{head}");
        });
    }
}

#[test]
fn the_fields_of_the_response_can_be_read() {
    let (address, server) = raw_server(|stream| accept_upgrade_with(stream, "Set-Cookie: session=1\r\n"));
    run(async move {
        let socket = connect(&format!("ws://{address}"), &ConnectOptions::default()).await.unwrap();
        let cookie = ("Set-Cookie".to_owned(), "session=1".to_owned());
        assert!(socket.response_fields().contains(&cookie), "{:?}", socket.response_fields());
        beside(move || server.join().unwrap()).await;
    });
}

/// What reading comes to when a server says such things, and what the client tells it.
fn violation(bytes: impl AsRef<[u8]> + Send + 'static) -> (ReadError, u16) {
    let (address, server) = raw_server(move |stream| {
        accept_upgrade(stream);
        let _ = stream.write_all(bytes.as_ref());
        let mut told = Vec::new();
        let _ = std::io::Read::read_to_end(stream, &mut told);
        // A masked close: header, mask, code.
        u16::from_be_bytes([told[6] ^ told[2], told[7] ^ told[3]])
    });
    let mut came_to = None;
    run(async {
        let socket = Options { message_bytes_max: 100_000, ..Options::default() };
        let options = ConnectOptions { socket, ..ConnectOptions::default() };
        let mut socket = connect(&format!("ws://{address}/"), &options).await.unwrap();
        let error = socket.read().await.unwrap_err();
        drop(socket);
        came_to = Some((error, beside(move || server.join().unwrap()).await));
    });
    came_to.unwrap()
}

#[test]
fn broken_frames_are_named_and_the_server_is_told() {
    for (bytes, what, code) in [
        (&b"\x81\x82\0\0\0\0hi"[..], "a masked frame from a server", 1002),
        (b"\x81\x01\xff", "text that is not UTF-8", 1007),
        (b"\x80\x00", "a continuation of nothing", 1002),
        (b"\x81\x7e\x00\x05hello", "a length that is not written in the fewest bytes", 1002),
        (b"\x82\x7f\0\0\0\0\0\x10\0\0", "a message over 100000 bytes", 1009),
    ] {
        let (error, told) = violation(bytes);
        assert_eq!(error.to_string(), format!("the peer broke the WebSocket protocol: {what}"));
        assert_eq!(told, code, "{what}");
    }
}

#[test]
fn endless_fragments_end_at_the_limit() {
    let fragment = [&b"\x00\x7e\x10\x00"[..], &[0; 4096]].concat();
    let endless = [b"\x02\x00".to_vec(), fragment.repeat(100)].concat();
    let (error, code) = violation(endless);
    assert_eq!(code, 1009);
    assert_eq!(error.unfinished.unwrap().bytes.len(), 100_000 / 4096 * 4096);
}
