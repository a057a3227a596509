//! Both readers, and our `Connection`, on one stream: what each reports, when, and what it answers.

use std::io::{self, Read, Write};
use std::sync::Arc;

use tungstenite::protocol::{WebSocketConfig, WebSocketContext};
use tungstenite::{Error, Message};
use uproar_protocol::connection::{
    self, Action, ClosingTimes, Config, Connection, ControlOrder, QueueLimits,
};
use uproar_protocol::frames::{self, Close, Reader, Role, Violation};

use super::stream::Stream;

/// The mask of our client.
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// tungstenite fills the rest of its buffer with zeros before each read; 128 KiB, its default, would take most of the time.
const READ_BUFFER_BYTES: usize = 256;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Text,
    Binary,
    Ping,
    Pong,
    /// With its code, if it has one. The reason is the payload.
    Close(Option<u16>),
}

/// What was reported, with which piece, and where its payload ends among all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) kind: Kind,
    pub(crate) piece: usize,
    pub(crate) payload_end: usize,
}

/// How reading ended.
#[derive(Debug)]
pub(crate) enum End<E> {
    /// It goes on with the next bytes.
    Open,
    /// With the peer's close.
    Closed,
    /// With an error, at a piece.
    Refused(E, usize),
}

/// Everything that a reader reported. Kept for the next stream, so that a million of them allocate little.
#[derive(Debug)]
pub(crate) struct Transcript<E> {
    pub(crate) events: Vec<Event>,
    /// The payloads, one behind the other.
    pub(crate) payloads: Vec<u8>,
    /// What was sent in answer.
    pub(crate) sent: Vec<u8>,
    pub(crate) end: End<E>,
}

impl<E> Default for Transcript<E> {
    fn default() -> Self {
        Self { events: Vec::new(), payloads: Vec::new(), sent: Vec::new(), end: End::Open }
    }
}

impl<E> Transcript<E> {
    pub(crate) fn has_same_events<O>(&self, other: &Transcript<O>) -> bool {
        self.events == other.events && self.payloads == other.payloads
    }

    /// True when all events of `earlier` are here, too.
    pub(crate) fn begins_with<O>(&self, earlier: &Transcript<O>) -> bool {
        self.events.starts_with(&earlier.events) && self.payloads.starts_with(&earlier.payloads)
    }

    pub(crate) fn payload(&self, index: usize) -> &[u8] {
        let begin = index.checked_sub(1).map_or(0, |before| self.events[before].payload_end);
        &self.payloads[begin..self.events[index].payload_end]
    }

    /// Takes the last event back.
    pub(crate) fn pop(&mut self) -> Option<(Kind, usize, Vec<u8>)> {
        let payload = self.payload(self.events.len().checked_sub(1)?).to_vec();
        let last = self.events.pop()?;
        self.payloads.truncate(self.payloads.len() - payload.len());
        Some((last.kind, last.piece, payload))
    }

    fn clear(&mut self) {
        self.events.clear();
        self.payloads.clear();
        self.sent.clear();
        self.end = End::Open;
    }

    fn push(&mut self, kind: Kind, piece: usize, payload: &[u8]) {
        self.payloads.extend_from_slice(payload);
        self.events.push(Event { kind, piece, payload_end: self.payloads.len() });
    }
}

/// Reads a stream with our reader. It takes everything, also behind a close.
pub(crate) fn read_with_ours(stream: Stream<'_>, transcript: &mut Transcript<Violation>) {
    transcript.clear();
    let mut reader = Reader::new(stream.role, stream.message_bytes_max);
    for (piece, mut rest) in stream.pieces().enumerate() {
        loop {
            match reader.next(&mut rest) {
                Err(violation) => {
                    transcript.end = End::Refused(violation, piece);
                    return;
                }
                Ok(None) => break,
                Ok(Some(event)) => {
                    assert!(matches!(transcript.end, End::Open), "{event:?} behind a close");
                    match &event {
                        frames::Event::Text(text) => transcript.push(Kind::Text, piece, text.as_bytes()),
                        frames::Event::Binary(payload) => transcript.push(Kind::Binary, piece, payload),
                        frames::Event::Ping(payload) => transcript.push(Kind::Ping, piece, payload),
                        frames::Event::Pong(payload) => transcript.push(Kind::Pong, piece, payload),
                        frames::Event::Close(close) => push_close(transcript, piece, close.as_ref()),
                    }
                }
            }
        }
        assert!(rest.is_empty(), "the drain rule");
    }
}

/// Reads a stream with our [`Connection`], with everything sent that it asks for.
pub(crate) fn read_with_connection(stream: Stream<'_>, transcript: &mut Transcript<Violation>) {
    transcript.clear();
    let config = Config {
        new_mask: (stream.role == Role::Client).then_some(|| MASK),
        message_bytes_max: stream.message_bytes_max,
        queue: QueueLimits { charged_bytes_max: 1 << 20, overhead_bytes: 0, control: ControlOrder::Queued },
        closing: ClosingTimes::default(),
    };
    let mut connection: Connection<Vec<u8>> = Connection::new(&Arc::new(config), None, 0);
    for (piece, mut rest) in stream.pieces().enumerate() {
        while let Some(event) = connection.poll_event(&mut rest, || 0) {
            match &event {
                connection::Event::Text(text) => transcript.push(Kind::Text, piece, text.as_bytes()),
                connection::Event::Binary(payload) => transcript.push(Kind::Binary, piece, payload),
                connection::Event::Ping(payload) => transcript.push(Kind::Ping, piece, payload),
                connection::Event::Pong(payload) => transcript.push(Kind::Pong, piece, payload),
                connection::Event::Closed(close) => push_close(transcript, piece, close.as_ref()),
                connection::Event::Failed(violation) => transcript.end = End::Refused(*violation, piece),
            }
            while let Some(action) = connection.poll_action(&mut Vec::new()).expect("there is no TLS") {
                if let Action::Send(batch) = action {
                    (0..batch.entry_count())
                        .for_each(|index| transcript.sent.extend_from_slice(batch.slice(index)));
                    let sent_bytes = batch.remaining_bytes();
                    connection.handle_sent(batch, sent_bytes, 0);
                }
            }
            if !matches!(transcript.end, End::Open) {
                return;
            }
        }
    }
}

fn push_close(transcript: &mut Transcript<Violation>, piece: usize, close: Option<&Close>) {
    let (code, reason) = close.map_or((None, ""), |close| (Some(close.code), &close.reason));
    transcript.push(Kind::Close(code), piece, reason.as_bytes());
    transcript.end = End::Closed;
}

/// A socket on which one piece has arrived, and that takes everything.
struct Socket<'a> {
    received: &'a [u8],
    sent: &'a mut Vec<u8>,
}

impl Read for Socket<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.received.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.received.read(buffer)
    }
}

impl Write for Socket<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.sent.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Reads a stream with tungstenite, up to a close.
pub(crate) fn read_with_theirs(stream: Stream<'_>, transcript: &mut Transcript<Error>) {
    transcript.clear();
    let role = match stream.role {
        Role::Server => tungstenite::protocol::Role::Server,
        Role::Client => tungstenite::protocol::Role::Client,
    };
    let config = WebSocketConfig::default()
        .read_buffer_size(READ_BUFFER_BYTES)
        .max_message_size(Some(stream.message_bytes_max))
        .max_frame_size(Some(stream.message_bytes_max));
    let mut context = WebSocketContext::new(role, Some(config));
    let mut sent = std::mem::take(&mut transcript.sent);
    for (piece, received) in stream.pieces().enumerate() {
        let mut socket = Socket { received, sent: &mut sent };
        loop {
            match context.read(&mut socket) {
                Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => {
                    transcript.end = End::Refused(error, piece);
                    break;
                }
                Ok(Message::Text(text)) => transcript.push(Kind::Text, piece, text.as_bytes()),
                Ok(Message::Binary(payload)) => transcript.push(Kind::Binary, piece, &payload),
                Ok(Message::Ping(payload)) => transcript.push(Kind::Ping, piece, &payload),
                Ok(Message::Pong(payload)) => transcript.push(Kind::Pong, piece, &payload),
                Ok(Message::Close(close)) => {
                    let code = close.as_ref().map(|close| close.code.into());
                    let reason = close.as_ref().map_or(&b""[..], |close| close.reason.as_bytes());
                    transcript.push(Kind::Close(code), piece, reason);
                    transcript.end = End::Closed;
                    // A server's flush says that the connection is closed, and a client's that all is sent.
                    let flushed = context.flush(&mut socket);
                    assert!(matches!(flushed, Ok(()) | Err(Error::ConnectionClosed)), "{flushed:?}");
                    break;
                }
                Ok(Message::Frame(_)) => unreachable!("it is never read"),
            }
        }
        if !matches!(transcript.end, End::Open) {
            break;
        }
    }
    transcript.sent = sent;
}
