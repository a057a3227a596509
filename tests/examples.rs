//! Each example runs and does what it says. They are built by `cargo test`, not by `cargo test --test examples`.

#![allow(clippy::unwrap_used)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use tungstenite::{Message, WebSocket};

const PATIENCE: Duration = Duration::from_secs(20);

/// An example at work, with what it prints.
struct Example {
    child: Child,
    lines: Receiver<String>,
}

impl Example {
    fn start(name: &str, arguments: &[&str]) -> Self {
        let deps = std::env::current_exe().unwrap();
        let program: PathBuf = deps.parent().unwrap().parent().unwrap().join("examples").join(name);
        let mut child = Command::new(&program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}; run `cargo build --examples`", program.display()));
        let output = BufReader::new(child.stdout.take().unwrap());
        let (said, lines) = channel();
        std::thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|line| said.send(line)));
        Self { child, lines }
    }

    /// The next line that it prints.
    fn line(&self) -> String {
        self.lines.recv_timeout(PATIENCE).expect("the example says nothing")
    }

    /// A server: where it listens.
    fn serve(name: &str, arguments: &[&str]) -> (Self, String) {
        let example = Self::start(name, arguments);
        let line = example.line();
        let url =
            line.strip_prefix("listening on ").unwrap_or_else(|| panic!("{name} says {line}")).to_owned();
        (example, url)
    }

    /// A client: what it prints until it has ended well.
    fn run(name: &str, arguments: &[&str]) -> Vec<String> {
        let mut example = Self::start(name, arguments);
        let mut lines = Vec::new();
        while let Ok(line) = example.lines.recv_timeout(PATIENCE) {
            lines.push(line);
        }
        assert!(example.child.wait().unwrap().success(), "{name}: {lines:?}");
        lines
    }

    fn signal(&self, signal: &str) {
        let status = Command::new("kill").args([signal, &self.child.id().to_string()]).status().unwrap();
        assert!(status.success());
    }
}

impl Drop for Example {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn connected(url: &str) -> WebSocket<TcpStream> {
    let tcp = TcpStream::connect(url.split_once("://").unwrap().1).unwrap();
    tcp.set_read_timeout(Some(PATIENCE)).unwrap();
    tungstenite::client(url.replace("http", "ws") + "/time", tcp).unwrap().0
}

/// A server for one client, which pings before each message that it sends back, and expects the pong in front of
/// the next one. Yields where it is.
fn pinging_echo() -> (String, std::thread::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("ws://{}", listener.local_addr().unwrap());
    let server = std::thread::spawn(move || {
        let tcp = listener.accept().unwrap().0;
        tcp.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut socket = tungstenite::accept(tcp).unwrap();
        let said = socket.read().unwrap();
        socket.send(Message::Ping("still there?".into())).unwrap();
        let pong = Message::Pong("still there?".into());
        assert_eq!(socket.read().unwrap(), pong);
        let answer = match said {
            Message::Binary(piece) => {
                let length = u32::try_from(piece.len()).unwrap();
                Message::binary([1_u32.to_be_bytes(), length.to_be_bytes()].concat())
            }
            text => text,
        };
        socket.send(answer).unwrap();
        // It closes when it has had its answer, which reading on answers.
        assert!(matches!(socket.read().unwrap(), Message::Close(Some(close)) if close.code == 1000.into()));
        assert!(matches!(socket.read(), Err(tungstenite::Error::ConnectionClosed)));
    });
    (url, server)
}

#[test]
fn clients_answer_pings_and_wait_on() {
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().write_all(&[5; 1000]).unwrap();
    let file = file.path().to_str().unwrap();
    for (name, arguments, says) in [
        ("client", &["URL", "hello"][..], "hello"),
        ("clients", &["URL", "1"], "all 1 had their answer"),
        ("transfer", &["send", "URL", file], "1000 bytes sent and acknowledged"),
    ] {
        let (url, server) = pinging_echo();
        let arguments: Vec<_> =
            arguments.iter().map(|argument| if *argument == "URL" { &*url } else { argument }).collect();
        assert_eq!(Example::run(name, &arguments), [says]);
        server.join().unwrap();
    }
}

#[test]
fn servers_answer_pings_and_closes() {
    for (name, arguments) in [
        ("echo", &["127.0.0.1:0"][..]),
        ("heartbeat", &["127.0.0.1:0"]),
        ("broadcast", &["127.0.0.1:0"]),
        ("json", &["127.0.0.1:0"]),
        ("transfer", &["serve", "127.0.0.1:0"]),
        ("http", &["127.0.0.1:0"]),
    ] {
        let (_server, url) = Example::serve(name, arguments);
        let mut socket = connected(&url);
        socket.send(Message::Ping("?".into())).unwrap();
        expect(&mut socket, name, &|message| *message == Message::Pong("?".into()));
        socket.close(None).unwrap();
        expect(&mut socket, name, &Message::is_close);
    }
}

/// Waits for such a message. Who speaks unasked, as some servers do, is heard out for a while.
fn expect(socket: &mut WebSocket<TcpStream>, name: &str, is_expected: &dyn Fn(&Message) -> bool) {
    let mut messages = (0..5).map(|_| socket.read().unwrap_or_else(|error| panic!("{name}: {error}")));
    assert!(messages.any(|message| is_expected(&message)), "{name} does not answer");
}

fn ask(socket: &mut WebSocket<TcpStream>, text: &str) -> String {
    socket.send(Message::text(text)).unwrap();
    socket.read().unwrap().into_text().unwrap().to_string()
}

#[test]
fn echo_client_and_clients() {
    let (echo, url) = Example::serve("echo", &["127.0.0.1:0"]);
    assert_eq!(Example::run("client", &[&url, "hello there"]), ["hello there"]);
    assert_eq!(Example::run("clients", &[&url, "50"]), ["all 50 had their answer"]);
    // It ends when it is asked to.
    echo.signal("-INT");
    assert!(echo.lines.recv_timeout(PATIENCE).is_err());
}

#[test]
fn heartbeat() {
    let (server, url) = Example::serve("heartbeat", &["127.0.0.1:0"]);
    // A thread of its own answers no ping: tungstenite does only while it reads.
    let silent = connected(&url);
    let address = silent.get_ref().local_addr().unwrap();
    assert_eq!(server.line(), format!("{address}: the peer has not been heard of for 1s"));
}

#[test]
fn broadcast() {
    let (_server, url) = Example::serve("broadcast", &["127.0.0.1:0"]);
    let mut members: Vec<_> = (0..3).map(|_| connected(&url)).collect();
    // Who has heard itself is a member; then all are.
    for (number, member) in members.iter_mut().enumerate() {
        let own = Message::text(number.to_string());
        member.send(own.clone()).unwrap();
        while member.read().unwrap() != own {}
    }
    members[2].send(Message::text("to all")).unwrap();
    for member in &mut members {
        while member.read().unwrap() != Message::text("to all") {}
    }
}

#[test]
fn json() {
    let (_server, url) = Example::serve("json", &["127.0.0.1:0"]);
    let mut socket = connected(&url);
    let sum = ask(&mut socket, r#"{"id": 1, "method": "add", "numbers": [1, 2, 3]}"#);
    assert_eq!(sum, r#"{"id":1,"result":6}"#);
    let text = ask(&mut socket, r#"{"id": 2, "method": "reverse", "text": "abc"}"#);
    assert_eq!(text, r#"{"id":2,"result":"cba"}"#);
    assert!(ask(&mut socket, "nonsense").starts_with(r#"{"error":"expected"#));
}

#[test]
fn tls_server_and_client() {
    let directory = tempfile::tempdir().unwrap();
    let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (certificate, key) = (directory.path().join("cert.pem"), directory.path().join("key.pem"));
    std::fs::write(&certificate, certified.cert.pem()).unwrap();
    std::fs::write(&key, certified.signing_key.serialize_pem()).unwrap();
    let (certificate, key) = (certificate.to_str().unwrap(), key.to_str().unwrap());
    let (_server, url) = Example::serve("wss_server", &[certificate, key, "127.0.0.1:0"]);
    let url = url.replace("127.0.0.1", "localhost");
    let lines = Example::run("wss_client", &[&url, certificate]);
    assert_eq!(lines, ["connected by TLSv1_3 TLS13_AES_256_GCM_SHA384", "hello over TLS"]);
}

#[test]
fn transfer() {
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().write_all(&vec![5; 2_500_000]).unwrap();
    let (server, url) = Example::serve("transfer", &["serve", "127.0.0.1:0"]);
    let lines = Example::run("transfer", &["send", &url, file.path().to_str().unwrap()]);
    assert_eq!(lines, ["2500000 bytes sent and acknowledged"]);
    assert_eq!(server.line(), "2500000 bytes received");
    let mut socket = connected(&url);
    socket.send(Message::binary(vec![0; 258])).unwrap();
    assert_eq!(socket.read().unwrap().into_data()[..], [0, 0, 0, 1, 0, 0, 1, 2]);
}

#[test]
fn reconnect() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let client = Example::start("reconnect", &[&format!("ws://{address}")]);
    for _ in 0..2 {
        let mut socket = tungstenite::accept(listener.accept().unwrap().0).unwrap();
        assert_eq!(client.line(), format!("connected to {address}"));
        socket.send(Message::text("hello")).unwrap();
        assert_eq!(client.line(), r#"Text("hello")"#);
        drop(socket);
        assert_eq!(client.line(), "lost: the peer ended the connection without a close");
    }
}

#[test]
fn http_and_websocket_on_one_port() {
    let (_server, url) = Example::serve("http", &["127.0.0.1:0"]);
    let mut http = TcpStream::connect(url.strip_prefix("http://").unwrap()).unwrap();
    http.set_read_timeout(Some(PATIENCE)).unwrap();
    http.write_all(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n").unwrap();
    let mut page = String::new();
    http.read_to_string(&mut page).unwrap();
    assert!(page.starts_with("HTTP/1.1 200 OK\r\n") && page.contains("new WebSocket"), "{page}");
    assert_eq!(connected(&url).read().unwrap(), Message::text("0 s"));
}

#[test]
fn embedded_server() {
    for signal in ["-INT", "-TERM"] {
        let (mut server, url) = Example::serve("embedded", &["127.0.0.1:0"]);
        assert_eq!(server.line(), r#"general: System: "The doors are open.""#);
        let tcp = TcpStream::connect(url.strip_prefix("http://").unwrap()).unwrap();
        tcp.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut member = tungstenite::client(url.replace("http", "ws") + "/chat", tcp).unwrap().0;
        member.send(Message::text(r#"{"type":"message","content":"/time"}"#)).unwrap();
        assert_eq!(server.line(), r#"general: User1: "/time""#);
        assert!(server.line().starts_with("general: System: \"Up for "));
        let mut messages = (0..100).map(|_| member.read().unwrap());
        assert!(messages.any(|message| message.to_text().unwrap().contains(r#""content":"Up for "#)));
        server.signal(signal);
        assert!(server.lines.recv_timeout(PATIENCE).is_err(), "it says nothing more");
        assert!(server.child.wait().unwrap().success(), "{signal} ends it in order");
    }
}
