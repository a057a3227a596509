//! From received bytes to messages.
//!
//! What lies whole in the received bytes is yielded from there: a client lends it without a copy, a server
//! copies it once, since it must be unmasked. What is cut is kept until the rest has come; nothing else is
//! kept, so an idle connection holds no buffer.

use std::borrow::Cow;

use super::assembly::Assembly;
use super::close::{Close, read_close};
use super::header::{CONTROL_BYTES_MAX, HEADER_BYTES_MAX, Header, Mask};
use super::{MessageKind, Opcode, Role, Violation};

/// What a peer said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event<'i> {
    /// A whole text message.
    Text(Cow<'i, str>),
    /// A whole binary message.
    Binary(Cow<'i, [u8]>),
    /// A ping, to be answered with the same payload.
    Ping(Cow<'i, [u8]>),
    /// A pong.
    Pong(Cow<'i, [u8]>),
    /// A close, with what it says if it says anything. Nothing follows.
    Close(Option<Close>),
}

/// What had arrived of a message whose end never came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unfinished {
    /// What kind of message it was to become.
    pub kind: MessageKind,
    /// Its beginning. That of a text may end within a character.
    pub bytes: Vec<u8>,
}

/// Reads one connection's frames.
///
/// Drain rule: for each piece received, call [`Reader::next`] until `None`; the piece is then used up.
#[derive(Debug)]
pub struct Reader {
    role: Role,
    message_bytes_max: usize,
    /// The beginning of a header whose end has not been received.
    head: [u8; HEADER_BYTES_MAX],
    head_bytes: u8,
    /// True once a close frame was read.
    is_closed: bool,
    /// The frame whose payload is being received. Only the bytes that are missing are counted in it.
    frame: Option<Header>,
    /// What has come of a message, if one has begun. Boxed, because most messages come whole.
    message: Option<Box<Assembly>>,
    /// What has come of a control frame's payload.
    control: Vec<u8>,
}

impl Reader {
    /// A reader for one side, which takes messages of so many bytes.
    #[must_use]
    pub fn new(role: Role, message_bytes_max: usize) -> Self {
        Self {
            role,
            message_bytes_max,
            head: [0; HEADER_BYTES_MAX],
            head_bytes: 0,
            is_closed: false,
            frame: None,
            message: None,
            control: Vec::new(),
        }
    }

    /// The next event, taking bytes off the front of `input`. After a close everything is taken off and
    /// ignored (RFC 6455, section 5.5.1).
    ///
    /// # Errors
    ///
    /// A [`Violation`], after which the connection is of no use.
    #[must_use = "an event left out is a message lost"]
    pub fn next<'i>(&mut self, input: &mut &'i [u8]) -> Result<Option<Event<'i>>, Violation> {
        if self.is_closed {
            *input = &[];
            return Ok(None);
        }
        loop {
            let mut frame = match self.frame.take() {
                Some(frame) => frame,
                None => {
                    let Some(frame) = self.next_header(input)? else { return Ok(None) };
                    self.check_order(&frame)?;
                    if let Some(event) = self.whole(&frame, input)? {
                        return Ok(Some(event));
                    }
                    frame
                }
            };
            let missing = usize::try_from(frame.payload_bytes).unwrap_or(usize::MAX);
            let piece = take(input, missing.min(input.len()));
            self.push(&mut frame, piece)?;
            frame.payload_bytes -= piece.len() as u64;
            if frame.payload_bytes > 0 {
                self.frame = Some(frame);
                return Ok(None);
            }
            if frame.opcode.is_control() {
                let payload = std::mem::take(&mut self.control);
                return self.control(frame.opcode, Cow::Owned(payload)).map(Some);
            }
            if frame.is_final {
                let message = self.message.take().expect("Bug: a frame of no message");
                return Ok(Some(match *message {
                    Assembly::Binary(bytes) => Event::Binary(Cow::Owned(bytes)),
                    text => Event::Text(Cow::Owned(text.into_text()?)),
                }));
            }
        }
    }

    /// What has arrived of a message whose end has not.
    #[must_use]
    pub fn take_unfinished(&mut self) -> Option<Unfinished> {
        let (kind, bytes) = self.message.take()?.into_parts();
        Some(Unfinished { kind, bytes })
    }

    /// The next whole header; what is cut is kept.
    fn next_header(&mut self, input: &mut &[u8]) -> Result<Option<Header>, Violation> {
        if self.head_bytes == 0
            && let Some((header, end)) = Header::parse(input, self.role)?
        {
            take(input, end);
            return Ok(Some(header));
        }
        // Byte by byte: what is beyond the header does not belong to it.
        while let Some((&byte, rest)) = input.split_first() {
            *input = rest;
            self.head[usize::from(self.head_bytes)] = byte;
            self.head_bytes += 1;
            if let Some((header, _)) = Header::parse(&self.head[..usize::from(self.head_bytes)], self.role)? {
                self.head_bytes = 0;
                return Ok(Some(header));
            }
        }
        Ok(None)
    }

    /// Says whether a frame may come now, and be as long as it is.
    fn check_order(&self, frame: &Header) -> Result<(), Violation> {
        match (frame.opcode, &self.message) {
            (Opcode::Text | Opcode::Binary, Some(_)) => return Err(Violation::InterleavedMessage),
            (Opcode::Continuation, None) => return Err(Violation::UnexpectedContinuation),
            _ => {}
        }
        let earlier_bytes = match frame.opcode.is_control() {
            true => return Ok(()),
            false => self.message.as_ref().map_or(0, |message| message.len()),
        };
        match frame.payload_bytes > (self.message_bytes_max - earlier_bytes) as u64 {
            true => Err(Violation::TooLong(self.message_bytes_max)),
            false => Ok(()),
        }
    }

    /// What a frame says by itself, when all of it has been received.
    fn whole<'i>(&mut self, frame: &Header, input: &mut &'i [u8]) -> Result<Option<Event<'i>>, Violation> {
        if frame.payload_bytes > input.len() as u64 || !frame.is_final || frame.opcode == Opcode::Continuation
        {
            return Ok(None);
        }
        let received = take(input, frame.payload_bytes as usize);
        let payload = match frame.mask {
            None => Cow::Borrowed(received),
            mut mask => {
                let mut unmasked = Vec::with_capacity(received.len());
                Mask::append(&mut mask, &mut unmasked, received);
                Cow::Owned(unmasked)
            }
        };
        Ok(Some(match (frame.opcode, payload) {
            (Opcode::Text, Cow::Borrowed(bytes)) => {
                Event::Text(Cow::Borrowed(str::from_utf8(bytes).map_err(|_| Violation::InvalidUtf8)?))
            }
            (Opcode::Text, Cow::Owned(bytes)) => {
                Event::Text(Cow::Owned(String::from_utf8(bytes).map_err(|_| Violation::InvalidUtf8)?))
            }
            (Opcode::Binary, payload) => Event::Binary(payload),
            (control, payload) => self.control(control, payload)?,
        }))
    }

    /// Keeps a piece of a frame's payload.
    fn push(&mut self, frame: &mut Header, piece: &[u8]) -> Result<(), Violation> {
        let kind = match frame.opcode {
            Opcode::Text => MessageKind::Text,
            Opcode::Binary => MessageKind::Binary,
            Opcode::Continuation => {
                let message = self.message.as_mut().expect("Bug: a continuation of nothing was let through");
                return message.push(piece, &mut frame.mask);
            }
            Opcode::Close | Opcode::Ping | Opcode::Pong => {
                Mask::append(&mut frame.mask, &mut self.control, piece);
                debug_assert!(self.control.len() <= CONTROL_BYTES_MAX);
                return Ok(());
            }
        };
        self.message.get_or_insert_with(|| Box::new(Assembly::new(kind))).push(piece, &mut frame.mask)
    }

    fn control<'i>(&mut self, opcode: Opcode, payload: Cow<'i, [u8]>) -> Result<Event<'i>, Violation> {
        Ok(match opcode {
            Opcode::Ping => Event::Ping(payload),
            Opcode::Pong => Event::Pong(payload),
            _ => {
                self.is_closed = true;
                Event::Close(read_close(&payload)?)
            }
        })
    }
}

fn take<'i>(input: &mut &'i [u8], count: usize) -> &'i [u8] {
    let (taken, rest) = input.split_at(count);
    *input = rest;
    taken
}

#[cfg(test)]
mod tests;
