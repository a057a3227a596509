//! Our reader of frames beside tungstenite's state machine, on generated streams.
//!
//! Where both accept a stream, they report the same events. They differ only in the cases that [`Listed`] names, and in
//! all but one of them ours is the stricter one. `ORACLE_STREAMS` is how many streams are read, and `ORACLE_SEED` which one
//! comes first; `scripts/oracle` reads a million.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::env;
use std::io::{self, Read, Write};

use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use tungstenite::protocol::{WebSocketConfig, WebSocketContext};
use tungstenite::{Error, Message};
use uproar_protocol::frames::{self, Reader, Role, Violation};

/// The longest message of both readers.
const MESSAGE_BYTES_MAX: usize = 1_000;

const STREAMS: u64 = 20_000;

/// The differences, with their clauses of RFC 6455.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Listed {
    /// 5.2: "the minimal number of bytes MUST be used to encode the length". tungstenite takes any.
    LengthNotMinimal,
    /// 7.4.1, 7.4.2: a close with a code that must not be sent. tungstenite answers it with 1002 as we do, and reports a
    /// close instead of an error.
    CloseCode,
    /// 8.1, 5.4, 5.5 and others: the same violation, found in the header or at the byte that is wrong, where tungstenite
    /// waits for the end of the frame. In a stream that ends before, it reports nothing, and no event either.
    Earlier,
    /// 7.4.2, 11.7: 1014 (bad gateway) was registered with IANA later. We take it, tungstenite does not.
    BadGateway,
}

impl Listed {
    const ALL: [Self; 4] = [Self::LengthNotMinimal, Self::CloseCode, Self::Earlier, Self::BadGateway];
}

/// What either reports.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Event {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<(u16, String)>),
}

/// Reads pieces with our reader, up to a close.
fn read_with_ours(role: Role, pieces: &[Vec<u8>]) -> (Vec<Event>, Option<Violation>) {
    let mut reader = Reader::new(role, MESSAGE_BYTES_MAX);
    let mut events = Vec::new();
    for piece in pieces {
        let mut rest = &piece[..];
        loop {
            events.push(match reader.next(&mut rest) {
                Err(violation) => return (events, Some(violation)),
                Ok(None) => break,
                Ok(Some(frames::Event::Text(text))) => Event::Text(text.into_owned()),
                Ok(Some(frames::Event::Binary(bytes))) => Event::Binary(bytes.into_owned()),
                Ok(Some(frames::Event::Ping(payload))) => Event::Ping(payload.into_owned()),
                Ok(Some(frames::Event::Pong(payload))) => Event::Pong(payload.into_owned()),
                Ok(Some(frames::Event::Close(close))) => {
                    events.push(Event::Close(close.map(|close| (close.code, close.reason))));
                    return (events, None);
                }
            });
        }
    }
    (events, None)
}

/// A socket on which one piece has arrived, and that takes everything.
struct Piece<'a>(&'a [u8]);

impl Read for Piece<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.0.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.0.read(buffer)
    }
}

impl Write for Piece<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Reads pieces with tungstenite, up to a close.
fn read_with_theirs(role: Role, pieces: &[Vec<u8>]) -> (Vec<Event>, Option<Error>) {
    let role = match role {
        Role::Server => tungstenite::protocol::Role::Server,
        Role::Client => tungstenite::protocol::Role::Client,
    };
    let config = WebSocketConfig::default()
        .max_message_size(Some(MESSAGE_BYTES_MAX))
        .max_frame_size(Some(MESSAGE_BYTES_MAX));
    let mut context = WebSocketContext::new(role, Some(config));
    let mut events = Vec::new();
    for piece in pieces {
        let mut socket = Piece(piece);
        loop {
            events.push(match context.read(&mut socket) {
                Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return (events, Some(error)),
                Ok(Message::Text(text)) => Event::Text(text.to_string()),
                Ok(Message::Binary(bytes)) => Event::Binary(bytes.to_vec()),
                Ok(Message::Ping(payload)) => Event::Ping(payload.to_vec()),
                Ok(Message::Pong(payload)) => Event::Pong(payload.to_vec()),
                Ok(Message::Close(close)) => {
                    let close = close.map(|close| (close.code.into(), close.reason.to_string()));
                    events.push(Event::Close(close));
                    return (events, None);
                }
                Ok(Message::Frame(_)) => unreachable!("it is never read"),
            });
        }
    }
    (events, None)
}

/// Makes streams. Those without faults are of frames that follow each other as they should.
struct Generator {
    random: SmallRng,
    role: Role,
    /// Of a hundred choices, how many are wrong.
    faults: u32,
    is_within_message: bool,
}

impl Generator {
    fn is_faulty(&mut self) -> bool {
        self.random.random_ratio(self.faults, 100)
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.random.random_range(0..from.len())]
    }

    fn bytes(&mut self, max: usize) -> Vec<u8> {
        let len = self.random.random_range(0..=max);
        (0..len).map(|_| self.random.random()).collect()
    }

    fn text(&mut self, max: usize) -> Vec<u8> {
        let mut text = String::new();
        let len = self.random.random_range(0..=max);
        while text.len() < len {
            text.push_str(self.pick(&["a", "\u{e9}", "\u{20ac}", "\u{1f600}", "\0", "hello "]));
        }
        let mut bytes = text.into_bytes();
        if self.is_faulty() && !bytes.is_empty() {
            let place = self.random.random_range(0..bytes.len());
            bytes[place] = self.random.random();
        }
        bytes
    }

    fn close(&mut self) -> Vec<u8> {
        if self.random.random_ratio(1, 10) {
            return Vec::new();
        }
        if self.is_faulty() {
            return self.bytes(4);
        }
        let code = match self.is_faulty() {
            true => self.pick(&[0, 999, 1004, 1005, 1006, 1014, 1015, 1016, 2999, 5000, u16::MAX]),
            false => self.pick(&[1000, 1001, 1002, 1003, 1007, 1008, 1011, 1013, 3000, 4999]),
        };
        let mut payload = code.to_be_bytes().to_vec();
        payload.extend(self.text(100));
        payload
    }

    fn frame(&mut self, stream: &mut Vec<u8>) {
        let opcode: u8 = match self.is_faulty() {
            true => self.random.random_range(0..16),
            false if self.is_within_message => self.pick(&[0, 0, 0, 9, 10]),
            false => self.pick(&[1, 1, 2, 2, 9, 10, 8]),
        };
        let is_control = opcode & 8 != 0;
        let is_final = match self.is_faulty() {
            true => self.random.random(),
            false => is_control || self.random.random_ratio(2, 3),
        };
        if !is_control {
            self.is_within_message = !is_final;
        }
        let payload = match opcode {
            8 => self.close(),
            9 | 10 if self.is_faulty() => self.bytes(200),
            9 | 10 => self.bytes(125),
            2 if self.is_faulty() => self.bytes(1_500),
            _ => self.text(300),
        };
        let reserved = if self.is_faulty() { self.random.random_range(0..8) << 4 } else { 0 };
        stream.push(u8::from(is_final) << 7 | reserved | opcode);
        let is_masked = (self.role == Role::Server) != self.is_faulty();
        let mask_bit = u8::from(is_masked) << 7;
        let claimed_bytes = payload.len() + if self.is_faulty() { self.random.random_range(0..3) } else { 0 };
        let form = if self.is_faulty() { self.random.random_range(0..3) } else { 0 };
        match (form, claimed_bytes) {
            (0, 0..=125) => stream.push(mask_bit | claimed_bytes as u8),
            (0 | 1, _) => {
                stream.push(mask_bit | 126);
                stream.extend((claimed_bytes as u16).to_be_bytes());
            }
            _ => {
                stream.push(mask_bit | 127);
                stream.extend((claimed_bytes as u64).to_be_bytes());
            }
        }
        let mask: [u8; 4] = if is_masked { self.random.random() } else { [0; 4] };
        if is_masked {
            stream.extend(mask);
        }
        stream.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    }

    /// A stream, in the pieces in which it arrives.
    fn stream(&mut self) -> Vec<Vec<u8>> {
        let mut stream = Vec::new();
        for _ in 0..self.random.random_range(1..8) {
            self.frame(&mut stream);
        }
        if self.is_faulty() {
            let place = self.random.random_range(0..stream.len());
            stream[place] ^= 1 << self.random.random_range(0..8);
        }
        if self.is_faulty() {
            stream.truncate(self.random.random_range(1..=stream.len()));
        }
        let piece_bytes_max = self.pick(&[1, 3, 50, 5_000]);
        let mut pieces = Vec::new();
        while !stream.is_empty() {
            let len = self.random.random_range(1..=piece_bytes_max).min(stream.len());
            pieces.push(stream.drain(..len).collect());
        }
        pieces
    }
}

/// Compares both on one stream, and says in which listed case they differ, if they do.
fn compare(role: Role, pieces: &[Vec<u8>]) -> Result<Option<Listed>, String> {
    let (ours, violation) = read_with_ours(role, pieces);
    let (theirs, error) = read_with_theirs(role, pieces);
    let is_same = ours == theirs;
    let is_close_theirs =
        theirs.len() == ours.len() + 1 && matches!(theirs.last(), Some(Event::Close(Some(_))));
    match (violation, &error) {
        (None, None) | (Some(_), Some(_)) if is_same => Ok(None),
        (Some(Violation::LengthNotMinimal), _) if theirs.starts_with(&ours) => {
            Ok(Some(Listed::LengthNotMinimal))
        }
        (Some(Violation::InvalidClose), None) if theirs.starts_with(&ours) && is_close_theirs => {
            Ok(Some(Listed::CloseCode))
        }
        (Some(_), None) if is_same => Ok(Some(Listed::Earlier)),
        (None, None)
            if matches!(ours.last(), Some(Event::Close(Some((1014, _)))))
                && theirs.len() == ours.len()
                && theirs.starts_with(&ours[..ours.len() - 1]) =>
        {
            Ok(Some(Listed::BadGateway))
        }
        _ => Err(format!("ours {ours:?} then {violation:?}, theirs {theirs:?} then {error:?}")),
    }
}

#[test]
fn both_report_the_same_but_for_the_listed_cases() {
    let number = |name: &str, default| env::var(name).map_or(default, |text| text.parse().unwrap());
    let (streams, first) = (number("ORACLE_STREAMS", STREAMS), number("ORACLE_SEED", 0));
    let mut seen = BTreeMap::<Option<Listed>, u64>::new();
    for seed in first..first + streams {
        let mut random = SmallRng::seed_from_u64(seed);
        let role = if random.random() { Role::Server } else { Role::Client };
        let faults = [0, 1, 4, 10][random.random_range(0..4_usize)];
        let pieces = Generator { random, role, faults, is_within_message: false }.stream();
        match compare(role, &pieces) {
            Ok(case) => *seen.entry(case).or_default() += 1,
            Err(difference) => {
                panic!("ORACLE_SEED={seed} ORACLE_STREAMS=1, {role:?}: {difference}; {pieces:02x?}")
            }
        }
    }
    println!("{streams} streams from seed {first}: {seen:?}");
    if streams >= STREAMS {
        // The list stays true: what never occurs does not belong in it.
        for case in Listed::ALL {
            assert!(seen.contains_key(&Some(case)), "{case:?} never occurred");
        }
    }
}
