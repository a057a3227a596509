//! A reader of `/api/v1/events`, which takes the stream apart itself: chunks (RFC 9112, 7.1), and the events in them (HTML,
//! 9.2.6).

use std::collections::VecDeque;

use serde_json::Value;
use socket2::{Domain, Socket, Type};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

use super::{Backend, within};

/// A stream of events.
pub(crate) struct EventStream {
    stream: TcpStream,
    received: Vec<u8>,
    /// What was in chunks, and is not taken apart yet.
    text: String,
    /// The field `id` that came last.
    pub(crate) last_id: String,
    is_over: bool,
    ready: VecDeque<SentEvent>,
}

/// An event, as it was sent.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct SentEvent {
    pub(crate) id: String,
    pub(crate) kind: String,
    pub(crate) data: Value,
}

impl Backend {
    /// Opens a stream, and returns once it has begun. The query begins with `?`, or is empty.
    pub(crate) async fn events(&self, query: &str, last_event_id: Option<&str>) -> EventStream {
        EventStream::open(self.connect().await, self, query, last_event_id).await
    }

    /// As [`Backend::events`], with a receive buffer so small that the server soon feels it not being read.
    pub(crate) async fn narrow_events(&self, query: &str) -> EventStream {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        socket.set_nonblocking(true).unwrap();
        let socket = TcpSocket::from_std_stream(socket.into());
        let stream = within("connection", socket.connect(self.address())).await.expect("the API accepts");
        EventStream::open(stream, self, query, None).await
    }
}

impl EventStream {
    async fn open(
        mut stream: TcpStream,
        backend: &Backend,
        query: &str,
        last_event_id: Option<&str>,
    ) -> Self {
        let mut head = backend.head("GET", &format!("/api/v1/events{query}"));
        if let Some(id) = last_event_id {
            head += &format!("Last-Event-ID: {id}\r\n");
        }
        stream.write_all(format!("{head}\r\n").as_bytes()).await.unwrap();
        let mut opened = Self {
            stream,
            received: Vec::new(),
            text: String::new(),
            last_id: String::new(),
            is_over: false,
            ready: VecDeque::new(),
        };
        let head = opened.read_head().await;
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        for field in [
            "content-type: text/event-stream",
            "cache-control: no-store",
            "x-accel-buffering: no",
            "transfer-encoding: chunked",
        ] {
            assert!(head.to_ascii_lowercase().lines().any(|line| line == field), "{field} is not in {head}");
        }
        // From its first comment on, nothing that happens is missed.
        while opened.last_id.is_empty() {
            opened.read_more().await;
        }
        opened
    }

    async fn read_head(&mut self) -> String {
        loop {
            if let Some(end) = self.received.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                let head = self.received.drain(..end + 4).collect();
                return String::from_utf8(head).unwrap();
            }
            assert!(self.receive().await, "no head");
        }
    }

    /// The next event.
    pub(crate) async fn next(&mut self) -> SentEvent {
        self.next_or_end().await.expect("an event before the end")
    }

    /// Skips to the next event of this kind.
    pub(crate) async fn until(&mut self, kind: &str) -> SentEvent {
        loop {
            let event = self.next().await;
            if event.kind == kind {
                return event;
            }
        }
    }

    /// The next event, or `None` at the orderly end of the stream.
    pub(crate) async fn next_or_end(&mut self) -> Option<SentEvent> {
        // Comments keep the stream alive for ever.
        within("event", self.read_event()).await
    }

    async fn read_event(&mut self) -> Option<SentEvent> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            if self.is_over {
                assert!(self.text.is_empty(), "an event broke off: {:?}", self.text);
                return None;
            }
            self.read_more().await;
        }
    }

    /// Reads a chunk at least.
    async fn read_more(&mut self) {
        while !self.take_chunks() {
            assert!(self.receive().await, "the stream broke off");
        }
        while let Some((block, rest)) = self.text.split_once("\n\n") {
            let (mut id, mut kind, mut data) = (None, None, None);
            for line in block.lines() {
                match line.split_once(": ") {
                    Some(("id", value)) => id = Some(value.to_owned()),
                    Some(("event", value)) => kind = Some(value.to_owned()),
                    Some(("data", value)) => data = Some(serde_json::from_str(value).expect(value)),
                    _ => assert!(line.starts_with(':'), "neither a field nor a comment: {line}"),
                }
            }
            self.last_id = id.unwrap_or_else(|| self.last_id.clone());
            if let Some(data) = data {
                let kind = kind.expect("the kind of an event");
                self.ready.push_back(SentEvent { id: self.last_id.clone(), kind, data });
            }
            self.text = rest.to_owned();
        }
    }

    /// Takes the chunks that are whole. False if there is none.
    fn take_chunks(&mut self) -> bool {
        let mut taken = false;
        while let Some(end) = self.received.windows(2).position(|bytes| bytes == b"\r\n") {
            let size = std::str::from_utf8(&self.received[..end]).unwrap();
            let size = usize::from_str_radix(size, 16).expect("the size of a chunk");
            let behind = end + 2 + size + 2;
            if self.received.len() < behind {
                break;
            }
            self.text += std::str::from_utf8(&self.received[end + 2..end + 2 + size]).unwrap();
            self.received.drain(..behind);
            taken = true;
            if size == 0 {
                self.is_over = true;
                break;
            }
        }
        taken
    }

    async fn receive(&mut self) -> bool {
        within("bytes of a stream", self.stream.read_buf(&mut self.received))
            .await
            .is_ok_and(|count| count > 0)
    }
}
