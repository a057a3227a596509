//! Compares our reader of frames, and `Connection` around it, with tungstenite's state machine on one stream.
//!
//! Both get the same bytes in the same pieces. Where both accept, they report the same events, each with the same piece,
//! and `Connection` sends the same answers. Where they differ, [`judge`] must say from the bytes alone that it is one of
//! the cases of [`Difference`]. Anything else is an error.

mod difference;
mod readers;
mod stream;

use tungstenite::Error;
use uproar_protocol::frames::{Role, Violation};

pub(crate) use difference::Difference;
use difference::{rule_of_error, rule_of_violation};
use readers::{End, Kind, Transcript, read_with_connection, read_with_ours, read_with_theirs};
pub(crate) use stream::Stream;
use stream::{Frame, Rule, Rules, Verdict, judge};

/// The code and reason with which tungstenite replaces those of a close that it does not allow.
const REPLACED_CLOSE: (u16, &[u8]) = (1002, b"Protocol violation");

/// Compares, and keeps its memory for the next stream.
#[derive(Default)]
pub(crate) struct Comparison {
    ours: Transcript<Violation>,
    theirs: Transcript<Error>,
    connection: Transcript<Violation>,
}

impl Comparison {
    /// Compares both readers on a stream, and returns the differences, which are proved.
    ///
    /// # Errors
    ///
    /// What is different without being listed.
    pub(crate) fn compare(&mut self, stream: Stream<'_>) -> Result<Vec<Difference>, String> {
        read_with_ours(stream, &mut self.ours);
        read_with_theirs(stream, &mut self.theirs);
        read_with_connection(stream, &mut self.connection);
        let verdict = judge(stream);
        self.compare_read(stream, verdict).map_err(|difference| {
            let Self { ours, theirs, connection } = self;
            format!(
                "{difference}\n{verdict:?}\nours: {ours:?}\nours, as a connection: {connection:?}\n\
                 theirs: {theirs:?}\n{:?}, limit {}, cuts {:?}\nstream: {:02x?}",
                stream.role, stream.message_bytes_max, stream.cuts, stream.bytes
            )
        })
    }

    fn compare_read(&mut self, stream: Stream<'_>, verdict: Verdict) -> Result<Vec<Difference>, String> {
        check_connection(stream.role, &self.ours, &self.connection)?;
        match verdict {
            Verdict::Open => {
                require(matches!(self.ours.end, End::Open), "ours has ended without a reason")?;
                require(matches!(self.theirs.end, End::Open), "theirs has ended without a reason")?;
                require(self.ours.has_same_events(&self.theirs), "events differ")?;
                self.check_answers(stream, None)?;
                Ok(Vec::new())
            }
            Verdict::Closed { end, code } => self.compare_closed(stream, end, code),
            Verdict::Broken { frame, rules, certain_at } => {
                self.compare_broken(stream, frame, rules, certain_at)
            }
        }
    }

    /// The stream ends with a close that is as it should be.
    fn compare_closed(
        &mut self,
        stream: Stream<'_>,
        end: usize,
        code: Option<u16>,
    ) -> Result<Vec<Difference>, String> {
        require(matches!(self.ours.end, End::Closed), "ours is not closed")?;
        require(matches!(self.theirs.end, End::Closed), "theirs is not closed")?;
        self.check_answers(
            stream,
            Some(code.map(|code| if code == 1014 { REPLACED_CLOSE.0 } else { code })),
        )?;
        if code != Some(1014) {
            require(self.ours.has_same_events(&self.theirs), "events differ")?;
            return Ok(Vec::new());
        }
        let piece = stream.piece_with(end);
        let ours = self.ours.pop();
        require(
            ours.is_some_and(|(kind, at, _)| (kind, at) == (Kind::Close(code), piece)),
            "ours has another close",
        )?;
        self.pop_replaced_close(piece)?;
        require(self.ours.has_same_events(&self.theirs), "events differ")?;
        Ok(vec![Difference::BadGateway])
    }

    /// A frame of the stream breaks some rules, which is certain after so many bytes.
    fn compare_broken(
        &mut self,
        stream: Stream<'_>,
        frame: Frame,
        rules: Rules,
        certain_at: usize,
    ) -> Result<Vec<Difference>, String> {
        let End::Refused(violation, piece) = self.ours.end else {
            return Err("ours accepts a broken frame".to_owned());
        };
        let rule = rule_of_violation(violation, rules);
        require(rules.has(rule), "ours names a rule that was kept")?;
        require(piece == stream.piece_with(certain_at), "ours refuses too early or too late")?;
        if rules == Rules::of(&[Rule::LengthNotMinimal]) {
            return self.compare_repaired(stream, frame);
        }
        if rules == Rules::of(&[Rule::CloseCode]) {
            self.check_answers(stream, Some(Some(REPLACED_CLOSE.0)))?;
            self.pop_replaced_close(piece)?;
            require(self.ours.has_same_events(&self.theirs), "events differ")?;
            return Ok(vec![Difference::CloseCode]);
        }
        require(self.ours.has_same_events(&self.theirs), "events differ")?;
        self.check_answers(stream, None)?;
        let frame_end_piece = frame.end(stream.bytes).map(|end| stream.piece_with(end));
        match &self.theirs.end {
            End::Closed => Err("theirs accepts a broken close".to_owned()),
            End::Open if frame_end_piece.is_some() => Err("theirs accepts a broken frame".to_owned()),
            End::Open => proved_early(rule),
            End::Refused(error, their_piece) => {
                let their_rule = rule_of_error(error, rules);
                require(their_rule.is_some_and(|rule| rules.has(rule)), "theirs names a rule that was kept")?;
                require(*their_piece >= piece, "ours is later")?;
                require(
                    frame_end_piece.is_none_or(|end| *their_piece <= end),
                    "theirs is later than the frame",
                )?;
                if *their_piece == piece { Ok(Vec::new()) } else { proved_early(rule) }
            }
        }
    }

    /// Proves that a length which is not minimal is all that is wrong: with this length in the fewest bytes, tungstenite
    /// reads the same, and the rest compares as everything else does.
    fn compare_repaired(&mut self, stream: Stream<'_>, frame: Frame) -> Result<Vec<Difference>, String> {
        require(self.theirs.begins_with(&self.ours), "events differ")?;
        let (bytes, cuts) = repaired(stream, frame);
        let stream = Stream { bytes: &bytes, cuts: &cuts, ..stream };
        let mut other = Self::default();
        let mut differences =
            other.compare(stream).map_err(|error| format!("with a minimal length: {error}"))?;
        // A close that was replaced was taken off.
        read_with_theirs(stream, &mut other.theirs);
        require(self.theirs.has_same_events(&other.theirs), "the length made a difference to theirs")?;
        require(
            format!("{:?}", self.theirs.end) == format!("{:?}", other.theirs.end),
            "the length made a difference to the end of theirs",
        )?;
        differences.push(Difference::LengthNotMinimal);
        Ok(differences)
    }

    /// Takes off their last event, a close that tungstenite made.
    fn pop_replaced_close(&mut self, piece: usize) -> Result<(), String> {
        let (code, reason) = REPLACED_CLOSE;
        let expected = (Kind::Close(Some(code)), piece, reason.to_vec());
        require(self.theirs.pop() == Some(expected), "theirs has not replaced the close")
    }

    /// Compares what our `Connection` and tungstenite sent: the same pongs, and a close with the same code. `their_close`
    /// is the code that tungstenite has to answer with, if it has to answer at all.
    ///
    /// Ours echoes a code without the reason, and tells a peer that broke a rule so; tungstenite leaves that to its caller.
    fn check_answers(&self, stream: Stream<'_>, their_close: Option<Option<u16>>) -> Result<(), String> {
        let mut ours = Answers::new(stream.role, &self.connection.sent);
        let mut theirs = Answers::new(stream.role, &self.theirs.sent);
        let (mut our_pongs, mut their_pongs) = (Vec::new(), Vec::new());
        require(
            matches!(self.ours.end, End::Open) != ours.read(&mut our_pongs).is_some(),
            "our close was not sent, or sent without a reason",
        )?;
        require(theirs.read(&mut their_pongs) == their_close, "their close was not sent as expected")?;
        require(our_pongs == their_pongs, "pongs differ")
    }
}

fn require(is_true: bool, difference: &str) -> Result<(), String> {
    if is_true { Ok(()) } else { Err(difference.to_owned()) }
}

fn proved_early(rule: Rule) -> Result<Vec<Difference>, String> {
    Difference::early(rule).map(|difference| vec![difference]).ok_or(format!("ours is earlier by {rule:?}"))
}

/// Checks that `Connection` reports what its reader does, and answers it (RFC 6455, 5.5.2, 5.5.1 and 7.1.7).
fn check_connection(
    role: Role,
    ours: &Transcript<Violation>,
    connection: &Transcript<Violation>,
) -> Result<(), String> {
    require(connection.has_same_events(ours), "the connection has other events")?;
    let (mut pongs, mut close) = (Vec::new(), None);
    for (index, event) in ours.events.iter().enumerate() {
        match event.kind {
            Kind::Ping => pongs.push(ours.payload(index).to_vec()),
            Kind::Close(code) => close = Some(code),
            _ => {}
        }
    }
    match (&ours.end, &connection.end) {
        (End::Open, End::Open) | (End::Closed, End::Closed) => {}
        (End::Refused(violation, piece), End::Refused(same, at)) if (violation, piece) == (same, at) => {
            close = Some(Some(violation.close_code()));
        }
        _ => return Err("the connection ends otherwise".to_owned()),
    }
    let mut sent_pongs = Vec::new();
    let sent_close = Answers::new(role, &connection.sent).read(&mut sent_pongs);
    require(sent_pongs == pongs && sent_close == close, "the connection sends other answers")
}

/// The frames that an endpoint sent in answer.
struct Answers<'s> {
    role: Role,
    sent: &'s [u8],
}

impl<'s> Answers<'s> {
    fn new(role: Role, sent: &'s [u8]) -> Self {
        Self { role, sent }
    }

    /// Collects the pongs, and returns the code of the close behind them, if there is one.
    fn read(&mut self, pongs: &mut Vec<Vec<u8>>) -> Option<Option<u16>> {
        let mut begin = 0;
        while begin < self.sent.len() {
            let frame = Frame::read(self.sent, begin).expect("a whole header was sent");
            assert_eq!(frame.mask.is_some(), self.role == Role::Client, "only a client masks");
            begin = frame.end(self.sent).expect("a whole frame was sent");
            let payload: Vec<u8> = frame.payload(self.sent).collect();
            match frame.opcode() {
                10 => pongs.push(payload),
                8 => {
                    assert_eq!(begin, self.sent.len(), "nothing follows a close");
                    return Some(payload.first_chunk().map(|&code| u16::from_be_bytes(code)));
                }
                opcode => panic!("an answer with opcode {opcode}"),
            }
        }
        None
    }
}

/// A stream with the length of one frame in the fewest bytes. The pieces stay, though one may become empty.
fn repaired(stream: Stream<'_>, frame: Frame) -> (Vec<u8>, Vec<usize>) {
    let length_begin = frame.begin + 2;
    let minimal = frame.length_bytes_min();
    let removed = frame.length_bytes - minimal;
    let mut bytes = stream.bytes.to_vec();
    bytes.drain(length_begin..length_begin + removed);
    bytes[frame.begin + 1] =
        bytes[frame.begin + 1] & 0x80 | if minimal == 2 { 126 } else { frame.length as u8 };
    // The pieces that brought the end of the header, and everything behind it, still do.
    let header_end = frame.header_end - removed;
    let cuts = stream.cuts.iter().map(|&cut| match cut >= frame.header_end {
        true => cut - removed,
        false => cut.min(header_end - 1),
    });
    (bytes, cuts.collect())
}
