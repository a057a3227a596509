//! One client: its upgrade, what it says, and the one call that everything is about.

use std::io::{self, Cursor, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use tungstenite::handshake::derive_accept_key;
use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};

/// How long a request may take; accepting waits meanwhile.
const REQUEST_TIME_MAX: Duration = Duration::from_secs(2);
/// The longest request head.
const HEAD_BYTES_MAX: usize = 8 * 1024;

/// A client that has upgraded.
pub(crate) struct Member {
    stream: TcpStream,
    /// Received and not yet a whole frame. Empty, and without memory, for those who never speak.
    received: Vec<u8>,
}

/// What a client says.
pub(crate) enum Said {
    Message(Data, Vec<u8>),
    Ping(Vec<u8>),
    Pong,
    Close(Vec<u8>),
}

impl Member {
    /// Reads the request and answers it. `None` when it is no upgrade: it has been answered with `ok`
    /// then, since the only other thing that anybody asks for is whether the program is up.
    pub(crate) fn upgrade(mut stream: TcpStream) -> io::Result<Option<Self>> {
        stream.set_nonblocking(false)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(REQUEST_TIME_MAX))?;
        let mut head = Vec::with_capacity(512);
        let end = loop {
            let mut bytes = [0; 512];
            match stream.read(&mut bytes) {
                Ok(0) | Err(_) => return Ok(None),
                Ok(count) => head.extend_from_slice(&bytes[..count]),
            }
            if let Some(end) = head.windows(4).position(|window| window == b"\r\n\r\n") {
                break end + 4;
            }
            if head.len() > HEAD_BYTES_MAX {
                return Ok(None);
            }
        };
        let key = String::from_utf8_lossy(&head[..end]).lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("sec-websocket-key").then(|| value.trim().to_owned())
        });
        let Some(key) = key else {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok");
            return Ok(None);
        };
        write!(
            stream,
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: {}\r\n\r\n",
            derive_accept_key(key.as_bytes())
        )?;
        stream.set_nonblocking(true)?;
        let received = head.split_off(end);
        Ok(Some(Self { stream, received: if received.is_empty() { Vec::new() } else { received } }))
    }

    pub(crate) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Sends a frame with one `send(2)`.
    ///
    /// # Errors
    ///
    /// When the socket does not take all of it: there is no queue, and half a frame would spoil the rest.
    pub(crate) fn send(&mut self, frame: &[u8]) -> io::Result<()> {
        match self.stream.write(frame) {
            Ok(count) if count == frame.len() => Ok(()),
            Ok(_) => Err(io::Error::other("a receiver is behind; take fewer clients or a lower rate")),
            // It will be removed when its end is read.
            Err(error) if is_gone(&error) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                Err(io::Error::other("a receiver is behind; take fewer clients or a lower rate"))
            }
            Err(error) => Err(error),
        }
    }

    /// Takes what has arrived; false when nothing will follow.
    pub(crate) fn receive(&mut self) -> bool {
        let mut bytes = [0; 64 * 1024];
        match self.stream.read(&mut bytes) {
            Ok(0) => false,
            Ok(count) => {
                self.received.extend_from_slice(&bytes[..count]);
                true
            }
            Err(error) => error.kind() == io::ErrorKind::WouldBlock,
        }
    }

    /// The next thing that was said in full. Fragments pass as messages of their own.
    pub(crate) fn next_said(&mut self) -> Option<Said> {
        let mut cursor = Cursor::new(&self.received);
        let Ok(Some((header, payload_bytes))) = FrameHeader::parse(&mut cursor) else { return None };
        let start = cursor.position() as usize;
        let end = start + usize::try_from(payload_bytes).ok()?;
        let mask = header.mask.unwrap_or_default();
        let masked = self.received.get(start..end)?;
        let payload = masked.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect();
        self.received.drain(..end);
        Some(match header.opcode {
            OpCode::Data(kind) => Said::Message(kind, payload),
            OpCode::Control(Control::Ping) => Said::Ping(payload),
            OpCode::Control(Control::Close) => Said::Close(payload),
            OpCode::Control(_) => Said::Pong,
        })
    }
}

fn is_gone(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
}
