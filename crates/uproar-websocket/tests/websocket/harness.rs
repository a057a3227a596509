//! A runtime with a deadline, an echo server, and peers that speak raw bytes from a thread of their own.

use std::future::Future;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::time::timeout;
use uproar_websocket::{ConnectOptions, ListenOptions, Server, Socket, connect, listen, start};

/// How long a test may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Runs a test on a runtime of its own, and fails when it hangs.
pub(crate) fn run<F: Future<Output = ()>>(test: F) {
    start(async { timeout(PATIENCE, test).await.expect("the test hangs") });
}

/// Sends every text and binary message back until the socket ends.
pub(crate) async fn echo(mut socket: Socket) {
    while let Ok(Some(message)) = socket.read().await {
        if message.is_data() && socket.write(message).await.is_err() {
            return;
        }
    }
}

pub(crate) fn echo_server(options: ListenOptions) -> Server {
    listen("127.0.0.1:0", options, echo).unwrap()
}

pub(crate) fn url(server: &Server) -> String {
    format!("ws://{}/", server.local_addr())
}

pub(crate) async fn connected(server: &Server) -> Socket {
    connect(&url(server), &ConnectOptions::default()).await.unwrap()
}

/// The key of the standard's example, and the request with it.
pub(crate) const REQUEST: &str = "GET /here?x HTTP/1.1\r\nHost: there\r\nUpgrade: websocket\r\n\
    Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// A client that sends bytes as they are.
pub(crate) struct RawClient(pub(crate) TcpStream);

impl RawClient {
    pub(crate) fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Self(stream)
    }

    /// One that has completed its opening handshake.
    pub(crate) fn upgraded(address: SocketAddr) -> Self {
        let mut client = Self::connect(address);
        client.send(REQUEST);
        let head = client.read_head();
        assert!(head.starts_with("HTTP/1.1 101 ") && head.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{head}");
        client
    }

    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.write_all(bytes.as_ref()).unwrap();
    }

    /// Masked, with a mask of zeros.
    pub(crate) fn send_frame(&mut self, first: u8, payload: &[u8]) {
        self.send(masked(first, payload));
    }

    pub(crate) fn read_exact<const COUNT: usize>(&mut self) -> [u8; COUNT] {
        let mut bytes = [0; COUNT];
        self.0.read_exact(&mut bytes).unwrap();
        bytes
    }

    pub(crate) fn read_head(&mut self) -> String {
        read_head(&mut self.0)
    }

    /// Everything until the server ends.
    pub(crate) fn read_to_end(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.0.read_to_end(&mut bytes).unwrap();
        bytes
    }
}

pub(crate) fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match payload.len() {
        length @ 0..126 => frame.push(0x80 | length as u8),
        length @ 126..65_536 => {
            frame.push(0x80 | 126);
            frame.extend((length as u16).to_be_bytes());
        }
        length => {
            frame.push(0x80 | 127);
            frame.extend((length as u64).to_be_bytes());
        }
    }
    frame.extend([0; 4]);
    frame.extend(payload);
    frame
}

pub(crate) fn read_head(stream: &mut impl Read) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.extend(byte);
    }
    String::from_utf8(head).unwrap()
}

/// A server for one connection, which `conduct` conducts on a thread of its own.
pub(crate) fn raw_server<T: Send + 'static>(
    conduct: impl FnOnce(&mut TcpStream) -> T + Send + 'static,
) -> (SocketAddr, JoinHandle<T>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let thread = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        conduct(&mut stream)
    });
    (address, thread)
}

/// Reads a request and accepts it; then the connection speaks WebSocket. Yields the request.
pub(crate) fn accept_upgrade(stream: &mut (impl Read + Write)) -> String {
    accept_upgrade_with(stream, "")
}

/// The same, with further fields in the response.
pub(crate) fn accept_upgrade_with(stream: &mut (impl Read + Write), fields: &str) -> String {
    let head = read_head(stream);
    let key = head.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Key: ")).unwrap();
    let accept = tungstenite::handshake::derive_accept_key(key.as_bytes());
    let response = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\n{fields}\r\n"
    );
    stream.write_all(response.as_bytes()).unwrap();
    head
}

/// Runs what blocks beside the runtime, and waits for it.
pub(crate) async fn beside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.unwrap()
}
