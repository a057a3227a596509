//! A client that decides about each byte, and about how the connection ends.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use serde_json::Value;
use socket2::{Domain, SockRef, Socket, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use super::frame::{CLOSE, CONTINUATION, Frame, TEXT, take};
use super::{Server, Transport, within};

pub(crate) struct Wire {
    stream: Transport,
    received: Vec<u8>,
}

/// An HTTP response, the body as far as it belongs to it.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Wire {
    pub(crate) async fn connect(server: &Server) -> Self {
        Self::over(server.connect().await, server).await
    }

    /// Connects from another address of this machine.
    pub(crate) async fn connect_from(server: &Server, address: IpAddr) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::new(address, 0)).unwrap();
        let stream = within("connection", socket.connect(server.address()));
        Self::over(stream.await.expect("the server accepts"), server).await
    }

    /// Connects with a receive buffer so small that the server soon feels it not being read.
    pub(crate) async fn connect_narrow(server: &Server) -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        socket.set_nonblocking(true).unwrap();
        let socket = TcpSocket::from_std_stream(socket.into());
        Self::over(server.connect_with(socket).await, server).await
    }

    async fn over(tcp: TcpStream, server: &Server) -> Self {
        Self::of(Transport::over(tcp, server).await)
    }

    /// Uses an existing connection.
    pub(crate) fn of(stream: Transport) -> Self {
        Self { stream, received: Vec::new() }
    }

    pub(crate) fn transport(&self) -> &Transport {
        &self.stream
    }

    pub(crate) fn transport_mut(&mut self) -> &mut Transport {
        &mut self.stream
    }

    /// Connects and completes the opening handshake.
    pub(crate) async fn upgrade(server: &Server, path: &str) -> Self {
        let mut wire = Self::connect(server).await;
        wire.upgrade_to(path).await;
        wire
    }

    pub(crate) async fn upgrade_to(&mut self, path: &str) {
        self.send(upgrade_request(path)).await;
        assert_eq!(self.head().await.status, 101);
    }

    /// The address and port that the server sees.
    pub(crate) fn local_address(&self) -> SocketAddr {
        self.stream.tcp().local_addr().unwrap()
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let written = within("room to write", write(&mut self.stream, bytes.as_ref()));
        written.await.expect("the server still reads");
    }

    /// Sends what the server may well have stopped to read.
    pub(crate) async fn send_anyway(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = within("room to write", write(&mut self.stream, bytes.as_ref())).await;
    }

    /// Sends one byte a segment.
    pub(crate) async fn dribble(&mut self, bytes: impl AsRef<[u8]>) {
        for byte in bytes.as_ref() {
            self.send([*byte]).await;
            tokio::task::yield_now().await;
        }
    }

    /// Ends the sending half: the server reads an end of file, and may still answer.
    pub(crate) async fn half_close(&mut self) {
        self.stream.shutdown().await.unwrap();
    }

    /// Ends the connection with a reset, as a crashing peer does.
    pub(crate) fn reset(self) {
        let linger = SockRef::from(self.stream.tcp()).set_linger(Some(Duration::ZERO));
        linger.expect("a socket can linger");
    }

    /// The next response's status line and headers; what follows stays unread.
    pub(crate) async fn head(&mut self) -> Response {
        loop {
            if let Some(end) = find(&self.received, b"\r\n\r\n") {
                let head: Vec<u8> = self.received.drain(..end + 4).collect();
                return Response::parse(&String::from_utf8(head).unwrap());
            }
            assert!(
                self.receive().await,
                "ended within the head {:?}",
                String::from_utf8_lossy(&self.received)
            );
        }
    }

    /// The response, whole, with the end of the connection behind it.
    pub(crate) async fn response(&mut self) -> Response {
        let mut response = self.head().await;
        while self.receive().await {}
        let body = std::mem::take(&mut self.received);
        response.body = String::from_utf8(body).unwrap();
        response
    }

    /// The next frame, or `None` once the connection has ended.
    pub(crate) async fn frame(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = take(&mut self.received) {
                return Some(frame);
            }
            if !self.receive().await {
                assert!(self.received.is_empty(), "ended within a frame");
                return None;
            }
        }
    }

    /// The next frame, which must be a whole text message.
    pub(crate) async fn text(&mut self) -> String {
        let frame = self.frame().await.expect("a text message");
        assert_eq!((frame.opcode, frame.is_final), (TEXT, true), "{frame:?}");
        String::from_utf8(frame.payload).unwrap()
    }

    /// The next frame, which must be a text message that is JSON.
    pub(crate) async fn json(&mut self) -> Value {
        let text = self.text().await;
        serde_json::from_str(&text).expect(&text)
    }

    /// The next text message, be it whole or in fragments.
    pub(crate) async fn whole_text(&mut self) -> String {
        let mut payload = Vec::new();
        loop {
            let frame = self.frame().await.expect("a text message");
            let expected = if payload.is_empty() { TEXT } else { CONTINUATION };
            assert_eq!(frame.opcode, expected, "{:?}", String::from_utf8_lossy(&frame.payload));
            payload.extend(frame.payload);
            if frame.is_final {
                return String::from_utf8(payload).unwrap();
            }
        }
    }

    /// Skips to the close frame, and returns its code and reason.
    pub(crate) async fn close(&mut self) -> (u16, String) {
        loop {
            let frame = self.frame().await.expect("a close frame before the end");
            if frame.opcode == CLOSE {
                let (code, reason) = frame.payload.split_at(2);
                let reason = String::from_utf8(reason.to_vec()).unwrap();
                return (u16::from_be_bytes([code[0], code[1]]), reason);
            }
        }
    }

    /// Waits until the server has ended the connection, which says nothing more.
    pub(crate) async fn end(&mut self) {
        while self.receive().await {}
        assert!(self.received.is_empty(), "{:?} before the end", String::from_utf8_lossy(&self.received));
    }

    /// How reading fails, which it must.
    pub(crate) async fn failure(&mut self) -> String {
        loop {
            match within("failure", self.stream.read_buf(&mut self.received)).await {
                Ok(0) => panic!("an orderly end"),
                Ok(_) => {}
                Err(error) => return error.to_string(),
            }
        }
    }

    /// Reads more. False at the end of the connection, be it orderly or a reset. Over TLS an orderly one has
    /// its `close_notify`.
    pub(crate) async fn receive(&mut self) -> bool {
        let read = within("bytes", self.stream.read_buf(&mut self.received)).await;
        if let Err(error) = &read {
            assert_ne!(error.kind(), ErrorKind::UnexpectedEof, "ended without close_notify");
        }
        read.is_ok_and(|count| count > 0)
    }
}

async fn write(stream: &mut Transport, bytes: &[u8]) -> std::io::Result<()> {
    stream.write_all(bytes).await?;
    stream.flush().await
}

impl Response {
    fn parse(head: &str) -> Self {
        let mut lines = head.trim_end().split("\r\n");
        let status_line = lines.next().unwrap();
        let status = status_line.strip_prefix("HTTP/1.1 ").expect(status_line);
        let headers = lines.map(|line| {
            let (name, value) = line.split_once(':').expect(line);
            (name.to_ascii_lowercase(), value.trim().to_owned())
        });
        Self { status: status[..3].parse().unwrap(), headers: headers.collect(), body: String::new() }
    }

    /// The value of a header that occurs at most once.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.iter().filter(|(key, _)| key == name);
        let value = values.next().map(|(_, value)| value.as_str());
        assert_eq!(values.next(), None, "{name} is there twice");
        value
    }
}

/// A plain request without a body.
pub(crate) fn request(server: &Server, method: &str, path: &str, headers: &str) -> String {
    let host = server.address();
    format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\n{headers}\r\n")
}

/// The opening handshake, with the key of RFC 6455, 1.3.
pub(crate) fn upgrade_request(path: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
}

fn find(bytes: &[u8], pattern: &[u8]) -> Option<usize> {
    bytes.windows(pattern.len()).position(|window| window == pattern)
}
