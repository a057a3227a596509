//! WebSocket frames as a client sees them (RFC 6455, section 5), written independently of the server.
//!
//! [`Reader`] checks what it reads: no reserved bits, no masks, shortest lengths, whole and short
//! control frames, fragments in order. A frame that lies whole in the received bytes is lent from there
//! without a copy; only what is cut is kept. The other half of this file writes masked frames.

/// The longest message that is taken from a server.
pub const MESSAGE_BYTES_MAX: usize = 16 << 20;
/// The memory that a reader keeps for the next message that comes in pieces. Messages of a run are
/// smaller; what a join sends is larger and comes once.
const KEPT_BYTES_MAX: usize = 4096;

/// What a server did that RFC 6455 forbids.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// 5.2: reserved bits must be 0 unless an extension defines them.
    #[error("reserved bits are set")]
    ReservedBits,
    /// 5.2: opcodes 3 to 7 and 11 to 15 are reserved.
    #[error("unknown opcode {0}")]
    UnknownOpcode(u8),
    /// 5.1: a server must not mask.
    #[error("a masked frame")]
    Masked,
    /// 5.2: the minimal number of bytes must be used for the length.
    #[error("a length that is not written in the fewest bytes")]
    LengthNotMinimal,
    /// 5.5: control frames have at most 125 bytes and are not fragmented.
    #[error("a control frame that is long or fragmented")]
    ControlFrame,
    /// 5.4: a continuation needs a beginning.
    #[error("a continuation of nothing")]
    UnexpectedContinuation,
    /// 5.4: fragments of one message are not interleaved with those of another.
    #[error("a new message amid a fragmented one")]
    InterleavedMessage,
    /// 5.6, 8.1: text is UTF-8.
    #[error("text that is not UTF-8")]
    InvalidUtf8,
    /// 5.5.1, 7.4.1: a close has no body, or a code that may be sent and UTF-8.
    #[error("an invalid close frame")]
    InvalidClose,
    /// Longer than [`MESSAGE_BYTES_MAX`].
    #[error("a message over 16 MiB")]
    TooLong,
}

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Opcode {
    /// The next part of a message.
    Continuation = 0,
    /// UTF-8.
    Text = 1,
    /// Any bytes.
    Binary = 2,
    /// The last frame of its sender.
    Close = 8,
    /// To be answered by a pong.
    Ping = 9,
    /// The answer to a ping.
    Pong = 10,
}

/// A parsed frame header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Header {
    fin: bool,
    opcode: Opcode,
    header_bytes: usize,
    payload_bytes: usize,
}

impl Header {
    /// Parses what stands at the beginning of `bytes`; `None` when the header is not complete.
    fn parse(bytes: &[u8]) -> Result<Option<Self>, Violation> {
        let &[first, second, ..] = bytes else {
            return Ok(None);
        };
        if first & 0x70 != 0 {
            return Err(Violation::ReservedBits);
        }
        let opcode = match first & 0x0f {
            0 => Opcode::Continuation,
            1 => Opcode::Text,
            2 => Opcode::Binary,
            8 => Opcode::Close,
            9 => Opcode::Ping,
            10 => Opcode::Pong,
            other => return Err(Violation::UnknownOpcode(other)),
        };
        if second & 0x80 != 0 {
            return Err(Violation::Masked);
        }
        let fin = first & 0x80 != 0;
        if opcode as u8 >= 8 && (!fin || second > 125) {
            return Err(Violation::ControlFrame);
        }
        let (header_bytes, length) = match second {
            126 => {
                let Some(&[_, _, a, b]) = bytes.first_chunk() else { return Ok(None) };
                (4, u64::from(u16::from_be_bytes([a, b])))
            }
            127 => {
                let Some(&[_, _, a, b, c, d, e, f, g, h]) = bytes.first_chunk() else { return Ok(None) };
                (10, u64::from_be_bytes([a, b, c, d, e, f, g, h]))
            }
            short => (2, u64::from(short)),
        };
        if (header_bytes == 4 && length < 126) || (header_bytes == 10 && length < 65_536) {
            return Err(Violation::LengthNotMinimal);
        }
        match usize::try_from(length) {
            Ok(payload_bytes) if payload_bytes <= MESSAGE_BYTES_MAX => {
                Ok(Some(Self { fin, opcode, header_bytes, payload_bytes }))
            }
            _ => Err(Violation::TooLong),
        }
    }

    fn frame_bytes(&self) -> usize {
        self.header_bytes + self.payload_bytes
    }
}

/// What a server said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// A whole text message, not yet checked to be UTF-8 (see [`check_utf8`]): who compares it with bytes
    /// known to be good need not look again.
    Text(&'a [u8]),
    /// A whole binary message.
    Binary(&'a [u8]),
    /// A ping, to be answered with the same payload.
    Ping(&'a [u8]),
    /// A pong.
    Pong,
    /// A close, with its code if it has one. Nothing follows.
    Close(Option<u16>),
}

/// Checks the payload of a text message.
///
/// # Errors
///
/// [`Violation::InvalidUtf8`].
pub fn check_utf8(text: &[u8]) -> Result<&str, Violation> {
    std::str::from_utf8(text).map_err(|_| Violation::InvalidUtf8)
}

/// Reads one connection's frames.
///
/// Drain rule: for each piece received, call [`Reader::next`] until `None`; the piece is then used up.
#[derive(Debug, Default)]
pub struct Reader {
    /// The beginning of a frame whose end has not been received, or (when `lent`) one that has.
    partial: Vec<u8>,
    /// The fragments so far of a message, when one has begun.
    message: Option<Box<Message>>,
    /// True exactly when the last event was lent from `partial` or `message`.
    lent: bool,
}

#[derive(Debug)]
struct Message {
    is_text: bool,
    bytes: Vec<u8>,
    complete: bool,
}

/// A whole frame: true and nothing when it lies in `partial`, false and its bytes when in the input.
type FrameAt<'i> = (bool, Header, &'i [u8]);

/// Where the payload of an event lies.
#[derive(Clone, Copy)]
enum Place {
    Input,
    Partial,
    Message,
}

impl Reader {
    /// The next event, taking bytes off the front of `input`.
    ///
    /// # Errors
    ///
    /// A [`Violation`], after which the connection is of no use.
    #[must_use = "an event left out is a message lost"]
    pub fn next<'a, 'i: 'a>(&'a mut self, input: &mut &'i [u8]) -> Result<Option<Event<'a>>, Violation> {
        self.take_back();
        let (place, header, lent_input) = loop {
            let Some((in_partial, header, frame)) = self.next_frame(input)? else {
                return Ok(None);
            };
            let payload = match in_partial {
                true => &self.partial[header.header_bytes..],
                false => &frame[header.header_bytes..],
            };
            match (header.opcode, &mut self.message) {
                (Opcode::Text | Opcode::Binary, Some(_)) => return Err(Violation::InterleavedMessage),
                (Opcode::Continuation, None) => return Err(Violation::UnexpectedContinuation),
                (Opcode::Text | Opcode::Binary, message @ None) if !header.fin => {
                    let is_text = header.opcode == Opcode::Text;
                    *message = Some(Box::new(Message { is_text, bytes: payload.to_vec(), complete: false }));
                }
                (Opcode::Continuation, Some(message)) => {
                    if message.bytes.len() + payload.len() > MESSAGE_BYTES_MAX {
                        return Err(Violation::TooLong);
                    }
                    message.bytes.extend_from_slice(payload);
                    message.complete = header.fin;
                    if header.fin {
                        let opcode = if message.is_text { Opcode::Text } else { Opcode::Binary };
                        self.partial.clear();
                        self.lent = true;
                        break (Place::Message, Header { opcode, header_bytes: 0, ..header }, frame);
                    }
                }
                _ => {
                    self.lent = in_partial;
                    break (if in_partial { Place::Partial } else { Place::Input }, header, frame);
                }
            }
            self.partial.clear();
        };
        let frame = match (place, &self.message) {
            (Place::Input, _) => lent_input,
            (Place::Partial, _) | (Place::Message, None) => &self.partial,
            (Place::Message, Some(message)) => &message.bytes,
        };
        let payload = &frame[header.header_bytes..];
        Ok(Some(match header.opcode {
            Opcode::Text => Event::Text(payload),
            Opcode::Binary => Event::Binary(payload),
            Opcode::Ping => Event::Ping(payload),
            Opcode::Pong => Event::Pong,
            Opcode::Close => Event::Close(close_code(payload)?),
            Opcode::Continuation => unreachable!("Bug: a continuation is joined, never lent"),
        }))
    }

    /// Gives up what the last event was lent from.
    fn take_back(&mut self) {
        if self.lent {
            self.lent = false;
            if self.message.as_ref().is_some_and(|message| message.complete) {
                self.message = None;
            } else if self.partial.capacity() > KEPT_BYTES_MAX {
                self.partial = Vec::new();
            } else {
                self.partial.clear();
            }
        }
    }

    /// The next whole frame: in `partial` (true), or in the slice returned. What is cut goes to `partial`.
    fn next_frame<'i>(&mut self, input: &mut &'i [u8]) -> Result<Option<FrameAt<'i>>, Violation> {
        if self.partial.is_empty() {
            if let Some(header) = Header::parse(input)? {
                if let Some((frame, rest)) = input.split_at_checked(header.frame_bytes()) {
                    *input = rest;
                    return Ok(Some((false, header, frame)));
                }
                self.partial.reserve_exact(header.frame_bytes());
            }
            self.partial.extend_from_slice(input);
            *input = &[];
            return Ok(None);
        }
        loop {
            let header = Header::parse(&self.partial)?;
            // Without a header, byte by byte: what is beyond it need not belong to this frame.
            let wanted = header.map_or(self.partial.len() + 1, |header| header.frame_bytes());
            let missing = wanted - self.partial.len();
            if let (Some(header), 0) = (header, missing) {
                return Ok(Some((true, header, &[])));
            }
            if input.is_empty() {
                return Ok(None);
            }
            self.partial.reserve_exact(missing);
            let (taken, rest) = input.split_at(missing.min(input.len()));
            self.partial.extend_from_slice(taken);
            *input = rest;
        }
    }
}

fn close_code(payload: &[u8]) -> Result<Option<u16>, Violation> {
    let Some((&code, reason)) = payload.split_first_chunk() else {
        return if payload.is_empty() { Ok(None) } else { Err(Violation::InvalidClose) };
    };
    let code = u16::from_be_bytes(code);
    // 7.4.1 and 7.4.2: 1004 to 1006 and 1015 must not be sent; 1012 to 1014 are registered with IANA.
    let allowed = matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999);
    if !allowed || std::str::from_utf8(reason).is_err() {
        return Err(Violation::InvalidClose);
    }
    Ok(Some(code))
}

/// Encodes one unfragmented, masked frame (RFC 6455, 5.3).
#[must_use]
pub fn encode(opcode: Opcode, payload: &[u8], mask: [u8; 4]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(14 + payload.len());
    frame.push(0x80 | opcode as u8);
    match payload.len() {
        length @ 0..126 => frame.push(0x80 | length as u8),
        length @ 126..65_536 => {
            frame.push(0x80 | 126);
            frame.extend_from_slice(&(length as u16).to_be_bytes());
        }
        length => {
            frame.push(0x80 | 127);
            frame.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(&mask);
    frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Owned events, to compare.
    fn read(reader: &mut Reader, mut input: &[u8]) -> Result<Vec<(u8, Vec<u8>)>, Violation> {
        let mut events = Vec::new();
        while let Some(event) = reader.next(&mut input)? {
            events.push(match event {
                Event::Text(payload) => (1, payload.to_vec()),
                Event::Binary(payload) => (2, payload.to_vec()),
                Event::Close(code) => (8, code.map_or(Vec::new(), |code| code.to_be_bytes().to_vec())),
                Event::Ping(payload) => (9, payload.to_vec()),
                Event::Pong => (10, Vec::new()),
            });
        }
        assert!(input.is_empty());
        Ok(events)
    }

    fn server_frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![first];
        match payload.len() {
            length @ 0..126 => frame.push(length as u8),
            length @ 126..65_536 => {
                frame.push(126);
                frame.extend((length as u16).to_be_bytes());
            }
            length => {
                frame.push(127);
                frame.extend((length as u64).to_be_bytes());
            }
        }
        frame.extend(payload);
        frame
    }

    #[test]
    fn each_violation_is_named() {
        let cases: [(&[u8], Violation); 11] = [
            (&[0xc1, 0], Violation::ReservedBits),
            (&[0x83, 0], Violation::UnknownOpcode(3)),
            (&[0x81, 0x80], Violation::Masked),
            (&[0x81, 126, 0, 125], Violation::LengthNotMinimal),
            (&[0x81, 127, 0, 0, 0, 0, 0, 0, 255, 255], Violation::LengthNotMinimal),
            (&[0x81, 127, 1, 0, 0, 0, 0, 0, 0, 0], Violation::TooLong),
            (&[0x89, 126, 0, 126], Violation::ControlFrame),
            (&[0x09, 0], Violation::ControlFrame),
            (&[0x80, 0], Violation::UnexpectedContinuation),
            (&[0x01, 0, 0x81, 0], Violation::InterleavedMessage),
            (&[0x88, 2, 0x03, 0xed], Violation::InvalidClose),
        ];
        for (bytes, violation) in cases {
            assert_eq!(read(&mut Reader::default(), bytes), Err(violation), "{bytes:x?}");
        }
    }

    #[test]
    fn a_ping_amid_fragments_does_not_disturb_them() {
        let mut bytes = server_frame(0x01, b"he");
        bytes.extend(server_frame(0x89, b"?"));
        bytes.extend(server_frame(0x00, b"ll"));
        bytes.extend(server_frame(0x80, b"o"));
        bytes.extend(server_frame(0x82, b"next"));
        let expected = vec![(9, b"?".to_vec()), (1, b"hello".to_vec()), (2, b"next".to_vec())];
        assert_eq!(read(&mut Reader::default(), &bytes), Ok(expected.clone()));
        let mut reader = Reader::default();
        let one_by_one: Vec<_> =
            bytes.iter().flat_map(|&byte| read(&mut reader, &[byte]).expect("valid")).collect();
        assert_eq!(one_by_one, expected);
    }

    #[test]
    fn a_client_frame_is_masked() {
        assert_eq!(
            encode(Opcode::Text, b"Hello", [0x37, 0xfa, 0x21, 0x3d]),
            [
                // The example of RFC 6455, 5.7.
                0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58
            ]
        );
        assert_eq!(encode(Opcode::Binary, &[0; 126], [1; 4])[..4], [0x82, 0xfe, 0, 126]);
        assert_eq!(
            encode(Opcode::Binary, &vec![0; 65_536], [1; 4])[..10],
            [0x82, 0xff, 0, 0, 0, 0, 0, 1, 0, 0]
        );
    }

    proptest! {
        #[test]
        fn any_cut_of_the_stream_reads_the_same(
            messages in prop::collection::vec((prop::bool::ANY, prop::collection::vec(any::<u8>(), 0..300)), 1..8),
            pieces in prop::collection::vec(1..200usize, 1..50),
        ) {
            let mut bytes = Vec::new();
            let mut expected = Vec::new();
            for (binary, payload) in messages {
                let opcode = if binary { 2 } else { 1 };
                bytes.extend(server_frame(0x80 | opcode, &payload));
                expected.push((opcode, payload));
            }
            let mut reader = Reader::default();
            let mut read_back = Vec::new();
            let mut rest = &bytes[..];
            let mut pieces = pieces.iter().cycle();
            while !rest.is_empty() {
                let (piece, after) = rest.split_at(rest.len().min(*pieces.next().expect("endless")));
                rest = after;
                read_back.extend(read(&mut reader, piece).expect("valid"));
            }
            prop_assert_eq!(read_back, expected);
        }

        #[test]
        fn no_bytes_make_it_panic(pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..20)) {
            let mut reader = Reader::default();
            for piece in pieces {
                if read(&mut reader, &piece).is_err() {
                    break;
                }
            }
        }
    }
}
