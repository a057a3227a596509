//! From received bytes to messages.
//!
//! A frame that is complete in the received bytes is read in place: a client lends it without a copy, a server
//! copies it once, since it must be unmasked. An incomplete frame is kept until the rest arrives; nothing else is
//! kept, so an idle connection holds no buffer.

use std::borrow::Cow;
use std::mem;

use super::assembly::Assembly;
use super::close::{Close, read_close};
use super::header::{CONTROL_BYTES_MAX, HEADER_BYTES_MAX, Header, Mask};
use super::{MessageKind, Opcode, Role, Violation};

/// A message or a control frame of the peer.
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
    /// A close, with its code and reason if it has any. Nothing follows.
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
    /// True once a close frame was read.
    is_closed: bool,
    message_bytes_max: usize,
    /// What has come of a header, a frame or a message whose rest has not. Boxed, because most come whole; present only
    /// while something is incomplete.
    cut: Option<Box<Cut>>,
}

/// The state between two pieces of input.
#[derive(Debug, Default)]
struct Cut {
    /// The beginning of a header whose end has not been received.
    head: [u8; HEADER_BYTES_MAX],
    head_bytes: u8,
    /// The frame whose payload is being received. Only the bytes that are missing are counted in it.
    frame: Option<Header>,
    /// What has come of a message, if one has begun.
    message: Option<Assembly>,
    /// What has come of a control frame's payload.
    control: Vec<u8>,
}

impl Cut {
    fn is_empty(&self) -> bool {
        self.head_bytes == 0 && self.frame.is_none() && self.message.is_none() && self.control.is_empty()
    }
}

impl Reader {
    /// A reader for one side, which takes messages of so many bytes.
    #[must_use]
    pub fn new(role: Role, message_bytes_max: usize) -> Self {
        Self { role, is_closed: false, message_bytes_max, cut: None }
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
            let begun = self.cut.as_mut().and_then(|cut| cut.frame.take());
            let mut frame = match begun {
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
                self.cut.get_or_insert_default().frame = Some(frame);
                return Ok(None);
            }
            if frame.opcode.is_control() {
                let payload = self.cut.as_mut().map(|cut| mem::take(&mut cut.control)).unwrap_or_default();
                self.end_cut();
                return self.control(frame.opcode, Cow::Owned(payload)).map(Some);
            }
            if frame.is_final {
                let message = self.cut.as_mut().and_then(|cut| cut.message.take());
                self.end_cut();
                return Ok(Some(match message.expect("Bug: a frame of no message") {
                    Assembly::Binary(bytes) => Event::Binary(Cow::Owned(bytes)),
                    text => Event::Text(Cow::Owned(text.into_text()?)),
                }));
            }
        }
    }

    /// What has arrived of a message whose end has not, of a stream that is not read any further.
    #[must_use]
    pub fn take_unfinished(&mut self) -> Option<Unfinished> {
        let (kind, bytes) = self.cut.take()?.message?.into_parts();
        Some(Unfinished { kind, bytes })
    }

    /// Gives back what kept a frame or a message that is now complete.
    fn end_cut(&mut self) {
        if self.cut.as_ref().is_some_and(|cut| cut.is_empty()) {
            self.cut = None;
        }
    }

    /// The next whole header; what is cut is kept.
    fn next_header(&mut self, input: &mut &[u8]) -> Result<Option<Header>, Violation> {
        if self.cut.as_ref().is_none_or(|cut| cut.head_bytes == 0)
            && let Some((header, end)) = Header::parse(input, self.role)?
        {
            take(input, end);
            return Ok(Some(header));
        }
        if input.is_empty() {
            return Ok(None);
        }
        let cut = self.cut.get_or_insert_default();
        // Byte by byte: what is beyond the header does not belong to it.
        while let Some((&byte, rest)) = input.split_first() {
            *input = rest;
            cut.head[usize::from(cut.head_bytes)] = byte;
            cut.head_bytes += 1;
            if let Some((header, _)) = Header::parse(&cut.head[..usize::from(cut.head_bytes)], self.role)? {
                cut.head_bytes = 0;
                self.end_cut();
                return Ok(Some(header));
            }
        }
        Ok(None)
    }

    /// What has come of the message that has begun.
    fn message(&self) -> Option<&Assembly> {
        self.cut.as_ref()?.message.as_ref()
    }

    /// Checks whether a frame of this kind and length is allowed now.
    fn check_order(&self, frame: &Header) -> Result<(), Violation> {
        match (frame.opcode, self.message()) {
            (Opcode::Text | Opcode::Binary, Some(_)) => return Err(Violation::InterleavedMessage),
            (Opcode::Continuation, None) => return Err(Violation::UnexpectedContinuation),
            _ => {}
        }
        let earlier_bytes = match frame.opcode.is_control() {
            true => return Ok(()),
            false => self.message().map_or(0, |message| message.len()),
        };
        match frame.payload_bytes > (self.message_bytes_max - earlier_bytes) as u64 {
            true => Err(Violation::TooLong(self.message_bytes_max)),
            false => Ok(()),
        }
    }

    /// The event of a frame of which all has been received.
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
        let cut = self.cut.get_or_insert_default();
        let message = match frame.opcode {
            Opcode::Text => cut.message.get_or_insert_with(|| Assembly::new(MessageKind::Text)),
            Opcode::Binary => cut.message.get_or_insert_with(|| Assembly::new(MessageKind::Binary)),
            Opcode::Continuation => {
                cut.message.as_mut().expect("Bug: a continuation of nothing was let through")
            }
            Opcode::Close | Opcode::Ping | Opcode::Pong => {
                Mask::append(&mut frame.mask, &mut cut.control, piece);
                debug_assert!(cut.control.len() <= CONTROL_BYTES_MAX);
                return Ok(());
            }
        };
        message.push(piece, &mut frame.mask)
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
