//! WebSocket frames as a client writes and reads them, written independently of the server's code: it
//! accepts exactly what a server may send (RFC 6455, section 5).

use crate::violation::{Checked, ensure, violated};

pub(crate) const CONTINUATION: u8 = 0;
pub(crate) const TEXT: u8 = 1;
pub(crate) const BINARY: u8 = 2;
pub(crate) const CLOSE: u8 = 8;
pub(crate) const PING: u8 = 9;
pub(crate) const PONG: u8 = 10;

/// The answer to the upgrade, which comes before every frame.
pub(crate) const GREETING: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\n\r\n";

/// One frame, masked as a client must.
pub(crate) fn frame(opcode: u8, is_final: bool, payload: &[u8], mask: u32) -> Vec<u8> {
    let mut bytes = vec![if is_final { 0x80 | opcode } else { opcode }];
    match payload.len() {
        len @ 0..126 => bytes.push(0x80 | len as u8),
        len @ 126..=0xffff => {
            bytes.push(0x80 | 126);
            bytes.extend((len as u16).to_be_bytes());
        }
        len => {
            bytes.push(0x80 | 127);
            bytes.extend((len as u64).to_be_bytes());
        }
    }
    let mask = mask.to_be_bytes();
    bytes.extend(mask);
    bytes.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    bytes
}

/// What a server may say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Incoming {
    /// The upgrade was answered.
    Greeting,
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(u16, String),
}

/// Reads what a server sends, and accepts nothing that it must not.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    bytes: Vec<u8>,
    is_greeted: bool,
    is_closed: bool,
    /// The message whose fragments are coming.
    fragments: Option<(u8, Vec<u8>)>,
}

impl Reader {
    pub(crate) fn push(&mut self, bytes: impl IntoIterator<Item = u8>) {
        self.bytes.extend(bytes);
    }

    /// True when nothing but whole messages has come.
    pub(crate) fn is_between_messages(&self) -> bool {
        self.bytes.is_empty() && self.fragments.is_none()
    }

    pub(crate) fn poll(&mut self) -> Checked<Option<Incoming>> {
        if !self.is_greeted {
            let begun = &self.bytes[..self.bytes.len().min(GREETING.len())];
            ensure!(Protocol, GREETING.starts_with(begun), "the first bytes are no answer to the upgrade");
            if begun.len() < GREETING.len() {
                return Ok(None);
            }
            self.bytes.drain(..GREETING.len());
            self.is_greeted = true;
            return Ok(Some(Incoming::Greeting));
        }
        while let Some((first, payload)) = self.poll_frame()? {
            let (is_final, opcode) = (first & 0x80 != 0, first & 0x0f);
            ensure!(Protocol, first & 0x70 == 0, "a reserved bit in {first:#x}");
            if opcode >= CLOSE {
                ensure!(Protocol, is_final && payload.len() <= 125, "a control frame in parts or too long");
            }
            match (opcode, self.fragments.take()) {
                (TEXT | BINARY, None) if is_final => return message(opcode, payload).map(Some),
                (TEXT | BINARY, None) => self.fragments = Some((opcode, payload)),
                (CONTINUATION, Some((opcode, mut begun))) => {
                    begun.extend(payload);
                    if is_final {
                        return message(opcode, begun).map(Some);
                    }
                    self.fragments = Some((opcode, begun));
                }
                (PING, begun) => {
                    self.fragments = begun;
                    return Ok(Some(Incoming::Ping(payload)));
                }
                (PONG, begun) => {
                    self.fragments = begun;
                    return Ok(Some(Incoming::Pong(payload)));
                }
                (CLOSE, begun) => {
                    ensure!(Protocol, begun.is_none(), "a close frame within a message");
                    ensure!(Protocol, payload.len() >= 2, "a close frame without a code");
                    let code = u16::from_be_bytes([payload[0], payload[1]]);
                    let Ok(reason) = String::from_utf8(payload[2..].to_vec()) else {
                        violated!(Protocol, "a close reason that is no UTF-8")
                    };
                    self.is_closed = true;
                    return Ok(Some(Incoming::Close(code, reason)));
                }
                (opcode, begun) => {
                    violated!(Protocol, "opcode {opcode} while a message is begun: {}", begun.is_some())
                }
            }
        }
        Ok(None)
    }

    /// The next frame: its first byte and its payload.
    fn poll_frame(&mut self) -> Checked<Option<(u8, Vec<u8>)>> {
        ensure!(Protocol, !self.is_closed || self.bytes.is_empty(), "bytes behind a close frame");
        let [first, second, ..] = self.bytes[..] else { return Ok(None) };
        ensure!(Protocol, second & 0x80 == 0, "a masked frame from the server");
        let (header, len) = match second {
            len @ 0..126 => (2, u64::from(len)),
            126 => {
                let Some(len) = self.bytes.get(2..4) else { return Ok(None) };
                let len = u64::from(u16::from_be_bytes([len[0], len[1]]));
                ensure!(Protocol, len >= 126, "length {len} in two bytes");
                (4, len)
            }
            _ => {
                let Some(len) = self.bytes.get(2..10) else { return Ok(None) };
                let len = u64::from_be_bytes(len.try_into().expect("Bug: eight bytes are eight bytes"));
                ensure!(Protocol, len > 0xffff, "length {len} in eight bytes");
                (10, len)
            }
        };
        ensure!(Protocol, len <= 1 << 20, "a frame of {len} bytes");
        let end = header + len as usize;
        if self.bytes.len() < end {
            return Ok(None);
        }
        let payload = self.bytes[header..end].to_vec();
        self.bytes.drain(..end);
        Ok(Some((first, payload)))
    }
}

fn message(opcode: u8, payload: Vec<u8>) -> Checked<Incoming> {
    if opcode == BINARY {
        return Ok(Incoming::Binary(payload));
    }
    match String::from_utf8(payload) {
        Ok(text) => Ok(Incoming::Text(text)),
        Err(_) => violated!(Protocol, "a text message that is no UTF-8"),
    }
}
