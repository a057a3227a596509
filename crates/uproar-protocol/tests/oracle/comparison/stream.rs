//! A stream of frames as RFC 6455 describes it: where its frames lie, and the first one that breaks a rule.
//!
//! Written from the text of the standard, byte by byte. It shares no code with either reader, because it judges both: our
//! reader takes its headers from tungstenite, so a mistake there would be common to them.

use uproar_protocol::frames::Role;

/// A stream, its cuts, and the endpoint that reads it.
#[derive(Clone, Copy)]
pub(crate) struct Stream<'s> {
    pub(crate) role: Role,
    /// The longest message, at least 125 bytes: tungstenite's limit holds for control frames, too.
    pub(crate) message_bytes_max: usize,
    pub(crate) bytes: &'s [u8],
    /// Where each piece ends, in ascending order; the last one at the end of the stream.
    pub(crate) cuts: &'s [usize],
}

impl<'s> Stream<'s> {
    pub(crate) fn pieces(self) -> impl Iterator<Item = &'s [u8]> {
        let mut begin = 0;
        self.cuts.iter().map(move |&end| &self.bytes[std::mem::replace(&mut begin, end)..end])
    }

    /// The index of the piece with which the first `count` bytes have come.
    pub(crate) fn piece_with(self, count: usize) -> usize {
        self.cuts.partition_point(|&cut| cut < count)
    }
}

/// A rule that a frame can break, with its clause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rule {
    /// 5.2: reserved bits are 0 unless an extension defines them.
    ReservedBits,
    /// 5.2: opcodes 3 to 7 and 11 to 15 are reserved.
    Opcode,
    /// 5.1: a client masks, a server does not.
    Mask,
    /// 5.5: control frames must not be fragmented.
    ControlFragmented,
    /// 5.5: control frames have at most 125 bytes.
    ControlTooLong,
    /// 5.2: the length has the fewest bytes, and a first bit of 0.
    LengthNotMinimal,
    /// 5.4: a continuation has a beginning.
    Continuation,
    /// 5.4: fragments of one message are not interleaved with those of another.
    NewMessage,
    /// 10.4: a limit of the endpoint.
    MessageTooLong,
    /// 8.1: text is UTF-8, and so is the reason of a close.
    Utf8,
    /// 7.4: a code that may stand in a close frame.
    CloseCode,
    /// 5.5.1: the body of a close begins with a code of two bytes.
    CloseBody,
}

/// The rules that one frame breaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rules(u16);

impl Rules {
    pub(crate) fn of(rules: &[Rule]) -> Self {
        let mut all = Self::default();
        rules.iter().for_each(|&rule| all.add_if(true, rule));
        all
    }

    pub(crate) fn has(self, rule: Rule) -> bool {
        self.0 & 1 << rule as u16 != 0
    }

    pub(crate) fn is_empty(self) -> bool {
        self.0 == 0
    }

    fn add_if(&mut self, is_broken: bool, rule: Rule) {
        self.0 |= u16::from(is_broken) << rule as u16;
    }
}

/// A frame whose header is complete.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Frame {
    pub(crate) begin: usize,
    pub(crate) header_end: usize,
    /// The bytes of the extended length: 0, 2 or 8.
    pub(crate) length_bytes: usize,
    pub(crate) length: u64,
    pub(crate) mask: Option<[u8; 4]>,
    first: u8,
}

impl Frame {
    pub(crate) fn read(stream: &[u8], begin: usize) -> Option<Self> {
        let header = &stream[begin..];
        let (first, second) = (*header.first()?, *header.get(1)?);
        let length_bytes = match second & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let length = match length_bytes {
            0 => u64::from(second & 0x7f),
            _ => {
                header.get(2..2 + length_bytes)?.iter().fold(0, |length, &byte| length << 8 | u64::from(byte))
            }
        };
        let mut header_bytes = 2 + length_bytes;
        let mask = match second & 0x80 {
            0 => None,
            _ => Some(*header[header_bytes..].first_chunk()?),
        };
        header_bytes += mask.map_or(0, |mask| mask.len());
        Some(Self { begin, header_end: begin + header_bytes, length_bytes, length, mask, first })
    }

    pub(crate) fn opcode(&self) -> u8 {
        self.first & 0x0f
    }

    fn is_final(&self) -> bool {
        self.first & 0x80 != 0
    }

    fn is_control(&self) -> bool {
        self.opcode() >= 8
    }

    /// Where it ends, if it does.
    pub(crate) fn end(&self, stream: &[u8]) -> Option<usize> {
        let rest = (stream.len() - self.header_end) as u64;
        (self.length <= rest).then(|| self.header_end + self.length as usize)
    }

    /// The fewest bytes for its length.
    pub(crate) fn length_bytes_min(&self) -> usize {
        match self.length {
            0..=125 => 0,
            126..=0xffff => 2,
            _ => 8,
        }
    }

    /// As much of its payload as has come, unmasked.
    pub(crate) fn payload<'s>(&self, stream: &'s [u8]) -> impl Iterator<Item = u8> + use<'s> {
        let mask = self.mask.unwrap_or_default();
        let received = &stream[self.header_end..self.end(stream).unwrap_or(stream.len())];
        received.iter().zip(mask.into_iter().cycle()).map(|(byte, mask)| byte ^ mask)
    }

    /// What is wrong with a header, in this place of a stream.
    fn broken_by_header(&self, stream: Stream<'_>, message: Option<&Message>) -> Rules {
        let mut rules = Rules::default();
        let is_continuation = self.opcode() == 0;
        let earlier_bytes = if is_continuation { message.map_or(0, |message| message.bytes) } else { 0 };
        let length_max = (stream.message_bytes_max - earlier_bytes) as u64;
        rules.add_if(self.first & 0x70 != 0, Rule::ReservedBits);
        rules.add_if(!matches!(self.opcode(), 0..=2 | 8..=10), Rule::Opcode);
        rules.add_if(self.mask.is_some() != (stream.role == Role::Server), Rule::Mask);
        rules.add_if(self.is_control() && !self.is_final(), Rule::ControlFragmented);
        rules.add_if(self.is_control() && self.length > 125, Rule::ControlTooLong);
        rules.add_if(
            self.length_bytes != self.length_bytes_min() || self.length >> 63 != 0,
            Rule::LengthNotMinimal,
        );
        rules.add_if(is_continuation && message.is_none(), Rule::Continuation);
        rules.add_if(!self.is_control() && !is_continuation && message.is_some(), Rule::NewMessage);
        rules.add_if(!self.is_control() && self.length > length_max, Rule::MessageTooLong);
        rules
    }
}

/// A message whose last fragment has not come.
#[derive(Default)]
struct Message {
    bytes: usize,
    /// Of a text.
    utf8: Option<Utf8>,
}

/// What the standard says about a stream.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Verdict {
    /// Nothing is wrong with it, and more may follow.
    Open,
    /// It ends properly, with a close of this code.
    Closed { end: usize, code: Option<u16> },
    /// A frame breaks these rules, which is certain after so many bytes of the stream.
    Broken { frame: Frame, rules: Rules, certain_at: usize },
}

/// Judges a stream by its first frame that breaks a rule, or by its close.
pub(crate) fn judge(stream: Stream<'_>) -> Verdict {
    let bytes = stream.bytes;
    let mut message: Option<Message> = None;
    let mut begin = 0;
    while let Some(frame) = Frame::read(bytes, begin) {
        let rules = frame.broken_by_header(stream, message.as_ref());
        if !rules.is_empty() {
            return Verdict::Broken { frame, rules, certain_at: frame.header_end };
        }
        let end = frame.end(bytes);
        if frame.is_control() {
            let Some(end) = end else { return Verdict::Open };
            if frame.opcode() == 8 {
                return judge_close(frame, bytes, end);
            }
        } else {
            let message = message
                .get_or_insert_with(|| Message { bytes: 0, utf8: (frame.opcode() == 1).then(Utf8::default) });
            if let Some(utf8) = &mut message.utf8 {
                let wrong = frame.payload(bytes).position(|byte| !utf8.push(byte));
                let ends_cut = wrong.is_none() && frame.is_final() && !utf8.is_whole();
                let cut = end.filter(|_| ends_cut);
                if let Some(certain_at) = wrong.map(|index| frame.header_end + index + 1).or(cut) {
                    return Verdict::Broken { frame, rules: Rules::of(&[Rule::Utf8]), certain_at };
                }
            }
            message.bytes += frame.length as usize;
        }
        let Some(end) = end else { return Verdict::Open };
        if frame.is_final() && !frame.is_control() {
            message = None;
        }
        begin = end;
    }
    Verdict::Open
}

fn judge_close(frame: Frame, bytes: &[u8], end: usize) -> Verdict {
    let mut payload = frame.payload(bytes);
    let code = match (payload.next(), payload.next()) {
        (Some(high), Some(low)) => Some(u16::from_be_bytes([high, low])),
        _ => None,
    };
    // 7.4.1: 1004 is reserved; 1005, 1006 and 1015 must not be sent. 7.4.2: below 1000 unused, up to 2999 for the
    // standard and what IANA registers (1012 to 1014), up to 3999 for libraries, up to 4999 for applications.
    let may_be_sent = |code| match code {
        1004..=1006 | 1015 => false,
        1000..=1014 | 3000..=4999 => true,
        _ => false,
    };
    let mut utf8 = Utf8::default();
    let mut rules = Rules::default();
    rules.add_if(frame.length == 1, Rule::CloseBody);
    rules.add_if(code.is_some_and(|code| !may_be_sent(code)), Rule::CloseCode);
    rules.add_if(!payload.all(|byte| utf8.push(byte)) || !utf8.is_whole(), Rule::Utf8);
    match rules.is_empty() {
        true => Verdict::Closed { end, code },
        false => Verdict::Broken { frame, rules, certain_at: end },
    }
}

/// The syntax of UTF-8 (RFC 3629, section 4), a byte at a time.
#[derive(Default)]
struct Utf8 {
    missing: u8,
    /// What the next byte may be, where one is missing.
    low: u8,
    high: u8,
}

impl Utf8 {
    /// False when the text can be no text any more.
    fn push(&mut self, byte: u8) -> bool {
        (self.missing, self.low, self.high) = match (self.missing, byte) {
            (0, 0x00..=0x7f) => (0, 0, 0),
            (0, 0xc2..=0xdf) => (1, 0x80, 0xbf),
            (0, 0xe0) => (2, 0xa0, 0xbf),
            (0, 0xed) => (2, 0x80, 0x9f),
            (0, 0xe1..=0xef) => (2, 0x80, 0xbf),
            (0, 0xf0) => (3, 0x90, 0xbf),
            (0, 0xf1..=0xf3) => (3, 0x80, 0xbf),
            (0, 0xf4) => (3, 0x80, 0x8f),
            (0, _) => return false,
            (missing, byte) if (self.low..=self.high).contains(&byte) => (missing - 1, 0x80, 0xbf),
            _ => return false,
        };
        true
    }

    fn is_whole(&self) -> bool {
        self.missing == 0
    }
}
