//! Makes streams: valid ones, valid ones with one fault, with several, and random bytes; each cut into pieces.

use std::ops::Range;

use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use uproar_protocol::frames::Role;

use crate::comparison::Stream;

/// The limit of most streams: low enough that messages often reach it.
const MESSAGE_BYTES_MAX: usize = 1_000;

/// Characters at the borders of each length, and some others.
const CHARACTERS: [&str; 14] = [
    "a",
    "hello ",
    "\0",
    "\u{7f}",
    "\u{80}",
    "\u{e9}",
    "\u{7ff}",
    "\u{800}",
    "\u{d7ff}",
    "\u{e000}",
    "\u{ffff}",
    "\u{10000}",
    "\u{1f600}",
    "\u{10ffff}",
];

/// What is no UTF-8: overlong, surrogates, beyond U+10FFFF, bytes that are never used, cut and broken characters.
pub(crate) const WRONG_UTF8: [&[u8]; 21] = [
    b"\xc0\x80",
    b"\xc1\xbf",
    b"\xe0\x9f\xbf",
    b"\xed\xa0\x80",
    b"\xed\xbf\xbf",
    b"\xf0\x8f\xbf\xbf",
    b"\xf4\x90\x80\x80",
    b"\xf5\x80\x80\x80",
    b"\xf8\x88\x80\x80\x80",
    b"\xfe",
    b"\xff",
    b"\x80",
    b"\xbf",
    b"\xc3",
    b"\xe2\x82",
    b"\xf0\x9f\x98",
    b"\xc3\x28",
    b"\xe2\x28\xa1",
    b"\xe2\x82\x28",
    b"\xf0\x28\x8c\xbc",
    b"\xf0\x9f\x28\x80",
];

/// A frame to be written, right or wrong.
#[derive(Clone)]
pub(crate) struct Plan {
    pub(crate) first: u8,
    pub(crate) mask: Option<[u8; 4]>,
    /// The bytes of the extended length, where they are not the fewest: 2 or 8.
    pub(crate) length_bytes: Option<usize>,
    /// The length that the header claims, where it is not that of the payload.
    pub(crate) claimed: Option<u64>,
    pub(crate) payload: Vec<u8>,
}

impl Plan {
    pub(crate) fn append_to(&self, bytes: &mut Vec<u8>) {
        let claimed = self.claimed.unwrap_or(self.payload.len() as u64);
        let fewest = match claimed {
            0..=125 => 0,
            126..=0xffff => 2,
            _ => 8,
        };
        let mask_bit = u8::from(self.mask.is_some()) << 7;
        bytes.push(self.first);
        match self.length_bytes.unwrap_or(fewest).max(fewest) {
            0 => bytes.push(mask_bit | claimed as u8),
            2 => {
                bytes.push(mask_bit | 126);
                bytes.extend_from_slice(&(claimed as u16).to_be_bytes());
            }
            _ => {
                bytes.push(mask_bit | 127);
                bytes.extend_from_slice(&claimed.to_be_bytes());
            }
        }
        let begin = bytes.len() + self.mask.map_or(0, |mask| mask.len());
        bytes.extend(self.mask.into_iter().flatten());
        bytes.extend_from_slice(&self.payload);
        if let Some(mask) = self.mask {
            bytes[begin..].iter_mut().zip(mask.into_iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
        }
    }
}

/// Makes one stream after the other, in the same memory.
pub(crate) struct Generator {
    random: SmallRng,
    role: Role,
    message_bytes_max: usize,
    bytes: Vec<u8>,
    cuts: Vec<usize>,
    frames: Vec<Plan>,
    /// Where frames begin, and where their payloads do.
    borders: Vec<usize>,
}

impl Default for Generator {
    fn default() -> Self {
        Self {
            random: SmallRng::seed_from_u64(0),
            role: Role::Server,
            message_bytes_max: MESSAGE_BYTES_MAX,
            bytes: Vec::new(),
            cuts: Vec::new(),
            frames: Vec::new(),
            borders: Vec::new(),
        }
    }
}

impl Generator {
    /// The stream of a seed.
    pub(crate) fn stream(&mut self, seed: u64) -> Stream<'_> {
        self.random = SmallRng::seed_from_u64(seed);
        self.role = if self.random.random() { Role::Server } else { Role::Client };
        self.message_bytes_max = match self.random.random_range(0..200) {
            0 => 70_000,
            1..20 => self.random.random_range(125..300),
            _ => MESSAGE_BYTES_MAX,
        };
        self.bytes.clear();
        self.borders.clear();
        self.frames.clear();
        match self.random.random_range(0..10) {
            0 => self.append_random(),
            kind => {
                self.plan_valid();
                let faults = match kind {
                    1..4 => 0,
                    4..8 => 1,
                    _ => self.random.random_range(1..5),
                };
                (0..faults).for_each(|_| self.spoil_frame());
                self.append_frames();
                if faults > 0 && self.random.random_ratio(1, 4) {
                    self.spoil_bytes();
                }
            }
        }
        self.cut();
        Stream {
            role: self.role,
            message_bytes_max: self.message_bytes_max,
            bytes: &self.bytes,
            cuts: &self.cuts,
        }
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.random.random_range(0..from.len())]
    }

    fn one_in(&mut self, count: u32) -> bool {
        self.random.random_ratio(1, count)
    }

    /// A length: mostly short, often at the border of another form of header, or of the limit.
    fn payload_bytes(&mut self) -> usize {
        match self.random.random_range(0..100) {
            0..75 => self.random.random_range(0..20),
            75..88 => self.random.random_range(0..150),
            88..95 => self.random.random_range(124..129),
            95..98 => self.random.random_range(0..=self.message_bytes_max),
            98 if self.message_bytes_max > 1 << 16 => self.random.random_range(65_533..65_539),
            _ => self.message_bytes_max + self.random.random_range(0..3) - 1,
        }
    }

    fn text(&mut self, bytes: usize) -> Vec<u8> {
        let mut text = String::with_capacity(bytes + 6);
        while text.len() < bytes {
            text.push_str(self.pick(&CHARACTERS));
        }
        // To this length exactly: borders count.
        while text.len() > bytes {
            text.pop();
        }
        text.extend(std::iter::repeat_n('x', bytes - text.len()));
        text.into_bytes()
    }

    fn binary(&mut self, bytes: usize) -> Vec<u8> {
        let mut payload = vec![0; bytes];
        self.random.fill(&mut payload[..]);
        payload
    }

    fn push(&mut self, first: u8, payload: Vec<u8>) {
        let mask = (self.role == Role::Server).then(|| self.random.random());
        self.frames.push(Plan { first, mask, length_bytes: None, claimed: None, payload });
    }

    /// Frames that follow each other as they should.
    fn plan_valid(&mut self) {
        for _ in 0..self.random.random_range(1..6) {
            match self.random.random_range(0..20) {
                0..5 => self.plan_control(),
                5 | 6 => self.plan_close(),
                7..14 => self.plan_message(1),
                _ => self.plan_message(2),
            }
        }
    }

    fn plan_control(&mut self) {
        let bytes = self.payload_bytes().min(125);
        let payload = self.binary(bytes);
        let opcode = self.pick(&[9, 10]);
        self.push(0x80 | opcode, payload);
    }

    fn plan_close(&mut self) {
        let mut payload = Vec::new();
        if !self.one_in(6) {
            let code: u16 = match self.random.random_range(0..20) {
                0 => 1014,
                1..4 => self.random.random_range(3000..5000),
                _ => self.pick(&[1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013]),
            };
            payload.extend_from_slice(&code.to_be_bytes());
            let reason_bytes = self.payload_bytes().min(123);
            payload.extend(self.text(reason_bytes));
        }
        self.push(0x88, payload);
    }

    /// A message, whole or in fragments with control frames among them.
    fn plan_message(&mut self, opcode: u8) {
        let bytes = self.payload_bytes();
        let payload = if opcode == 1 { self.text(bytes) } else { self.binary(bytes) };
        let fragments = if self.random.random() { 1 } else { self.random.random_range(2..6) };
        let mut begin = 0;
        for index in 1..=fragments {
            let is_last = index == fragments;
            let end = if is_last { bytes } else { self.random.random_range(begin..=bytes) };
            let fin = if is_last { 0x80 } else { 0 };
            self.push(fin | if index == 1 { opcode } else { 0 }, payload[begin..end].to_vec());
            begin = end;
            if !is_last && self.one_in(3) {
                self.plan_control();
            }
        }
    }

    /// Makes one frame wrong, or puts it into a wrong place.
    fn spoil_frame(&mut self) {
        let index = self.random.random_range(0..self.frames.len());
        match self.random.random_range(0..15) {
            0 => self.frames[index].first ^= self.pick(&[0x10, 0x20, 0x40, 0x70]),
            1 => {
                let opcode = self.random.random_range(0..16);
                let frame = &mut self.frames[index];
                frame.first = frame.first & 0xf0 | opcode;
            }
            2 => self.frames[index].first ^= 0x80,
            3 => {
                self.frames[index].mask = match self.frames[index].mask {
                    None => Some(self.random.random()),
                    Some(_) => None,
                }
            }
            4 => self.frames[index].length_bytes = Some(self.pick(&[2, 8])),
            5 => {
                let off = self.random.random_range(-2..3);
                let frame = &mut self.frames[index];
                frame.claimed = (frame.payload.len() as u64).checked_add_signed(off);
            }
            6 => {
                let length = self.pick(&[126, 65_535, 65_536, 1 << 31, 1 << 32, 1 << 62, 1 << 63, u64::MAX]);
                self.frames[index].claimed = Some(length);
            }
            7 => self.replace_payload(index, |random, payload| {
                let place = random.random_range(0..payload.len());
                payload[place] = random.random();
            }),
            8 | 9 => {
                let wrong = self.pick(&WRONG_UTF8);
                self.replace_payload(index, |random, payload| {
                    let place = random.random_range(0..=payload.len());
                    payload.splice(place..place, wrong.iter().copied());
                });
            }
            10 => {
                let bytes = self.random.random_range(124..130);
                self.frames[index].payload = self.text(bytes);
            }
            11 => {
                let frame = self.frames[index].clone();
                let place = self.random.random_range(0..=self.frames.len());
                self.frames.insert(place, frame);
            }
            12 => drop(self.frames.remove(index)),
            13 => {
                let other = self.random.random_range(0..self.frames.len());
                self.frames.swap(index, other);
            }
            _ => {
                let bytes = self.random.random_range(1..5);
                let mut payload = self.binary(bytes);
                if self.random.random() {
                    let code: u16 = self.pick(&[0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, u16::MAX]);
                    payload = code.to_be_bytes().to_vec();
                    payload.extend(self.text(bytes));
                }
                self.push(0x88, payload);
            }
        }
        if self.frames.is_empty() {
            self.plan_control();
        }
    }

    fn replace_payload(&mut self, index: usize, replace: impl FnOnce(&mut SmallRng, &mut Vec<u8>)) {
        let payload = &mut self.frames[index].payload;
        if !payload.is_empty() {
            replace(&mut self.random, payload);
        }
    }

    fn append_frames(&mut self) {
        for frame in &self.frames {
            self.borders.push(self.bytes.len());
            frame.append_to(&mut self.bytes);
            self.borders.push(self.bytes.len() - frame.payload.len());
        }
    }

    /// Changes the stream without regard to frames.
    fn spoil_bytes(&mut self) {
        let place = self.random.random_range(0..self.bytes.len());
        match self.random.random_range(0..5) {
            0 => self.bytes[place] ^= 1 << self.random.random_range(0..8),
            1 => self.bytes[place] = self.random.random(),
            2 => self.bytes.truncate(place),
            3 => drop(self.bytes.remove(place)),
            _ => self.bytes.insert(place, self.random.random()),
        }
    }

    /// Random bytes, or headers of random bytes with payloads of the right length.
    fn append_random(&mut self) {
        if self.one_in(3) {
            let bytes = self.random.random_range(0..60);
            self.bytes = self.binary(bytes);
            return;
        }
        for _ in 0..self.random.random_range(1..6) {
            let bytes = self.payload_bytes().min(300);
            let payload = if self.random.random() { self.text(bytes) } else { self.binary(bytes) };
            // Reserved bits and opcodes are most of all bytes, and would end each stream at once.
            let first = self.random.random::<u8>() & if self.one_in(4) { 0xff } else { 0x8b };
            self.push(first, payload);
        }
        self.append_frames();
    }

    /// Cuts the stream into pieces: none, all, some, or close to the borders of frames.
    fn cut(&mut self) {
        let len = self.bytes.len();
        self.cuts.clear();
        match self.random.random_range(0..10) {
            0 | 1 => {}
            2 | 3 if len <= 400 => self.cuts.extend(1..len),
            4 => self.cut_within(1..4),
            5 => self.cut_within(1..100),
            6 | 7 => {
                let borders = std::mem::take(&mut self.borders);
                for &border in &borders {
                    let cut = (border + self.random.random_range(0..5)).saturating_sub(2);
                    if self.random.random() && cut < len && self.cuts.last().is_none_or(|&last| last < cut) {
                        self.cuts.push(cut);
                    }
                }
                self.borders = borders;
            }
            _ if len > 0 => self.cuts.push(self.random.random_range(0..len)),
            _ => {}
        }
        self.cuts.push(len);
    }

    /// Pieces of such lengths, and longer ones where there would be too many of them.
    fn cut_within(&mut self, lengths: Range<usize>) {
        let scale = 1 + self.bytes.len() / 1_000;
        let mut cut = 0;
        loop {
            cut += self.random.random_range(lengths.clone()) * scale;
            if cut >= self.bytes.len() {
                return;
            }
            self.cuts.push(cut);
        }
    }
}
