//! A connection, on either side, under any bytes, cuts, times and short sends. It asks for one send at a time, ends once
//! and in time, and keeps within its limits; what it sends is what was pushed, as a peer reads it.
//!
//! The input is a program: a byte says what happens, the next ones how much of it.

#![no_main]

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use uproar_protocol::connection::{
    Action, BATCH_ENTRIES_MAX, Batch, ClosingTimes, Config, Connection, ControlOrder, Due, Event, KeepAlive,
    QueueLimits,
};
use uproar_protocol::frames::{self, MessageKind, Opcode, Reader, Role, append_message, frame};

const MASK: [u8; 4] = [1, 2, 3, 4];
const MESSAGE_BYTES_MAX: usize = 4096;
const QUEUE_BYTES_MAX: usize = 8192;
const PONG_BYTES_MAX: usize = 300;
const OVERHEAD_BYTES: usize = 10;
/// The longest control frame: header, mask, payload.
const CONTROL_FRAME_BYTES_MAX: usize = 2 + 4 + 125;
const HEADER_BYTES_MAX: usize = 14;
const KEEP_ALIVE: KeepAlive = KeepAlive { ping_interval_ms: 1_000, idle_timeout_ms: 3_000 };
const TIMES: ClosingTimes =
    ClosingTimes { answer_ms: 2_000, fin_ms: 1_000, stall_ms: 5_000, total_ms: 30_000 };

/// What the input has left.
struct Program<'a>(&'a [u8]);

impl<'a> Program<'a> {
    fn byte(&mut self) -> u8 {
        let Some((byte, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *byte
    }

    fn word(&mut self) -> usize {
        usize::from(u16::from_be_bytes([self.byte(), self.byte()]))
    }

    fn bytes(&mut self, count: usize) -> &'a [u8] {
        let (bytes, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        bytes
    }
}

struct Tested {
    connection: Connection<Bytes>,
    is_ahead: bool,
    now_ms: u64,
    under_way: Option<Batch<Bytes>>,
    /// How much of HTTP was pushed ahead of all frames.
    http_bytes: usize,
    sent: Vec<u8>,
    /// The messages that were taken, in order.
    messages: VecDeque<Vec<u8>>,
    /// The payloads of the pings that were read, in order.
    pings: VecDeque<Vec<u8>>,
    /// What may exceed the limit beside the frames that always fit.
    excess_bytes: usize,
    is_paused: bool,
    fins: usize,
    has_closed: bool,
    left_at_ms: Option<u64>,
}

impl Tested {
    fn new(role: Role, is_ahead: bool, http: &[u8]) -> Self {
        let config = Config {
            new_mask: (role == Role::Client).then_some(|| MASK),
            message_bytes_max: MESSAGE_BYTES_MAX,
            queue: QueueLimits {
                charged_bytes_max: QUEUE_BYTES_MAX,
                overhead_bytes: OVERHEAD_BYTES,
                control: match is_ahead {
                    true => ControlOrder::Ahead { pong_bytes_max: PONG_BYTES_MAX },
                    false => ControlOrder::Queued,
                },
            },
            closing: TIMES,
        };
        let mut connection = Connection::new(&Arc::new(config), None, 0);
        connection.push_http(http);
        Self {
            connection,
            is_ahead,
            now_ms: 0,
            under_way: None,
            http_bytes: http.len(),
            sent: Vec::new(),
            messages: VecDeque::new(),
            pings: VecDeque::new(),
            excess_bytes: http.len() + OVERHEAD_BYTES,
            is_paused: false,
            fins: 0,
            has_closed: false,
            left_at_ms: None,
        }
    }

    fn mask(&self) -> Option<[u8; 4]> {
        self.connection.config().new_mask.map(|new_mask| new_mask())
    }

    /// One step of the program.
    fn step(&mut self, program: &mut Program<'_>) {
        match program.byte() % 16 {
            0..=2 => {
                let count = usize::from(program.byte());
                self.receive(program.bytes(count), program.byte());
            }
            3 | 4 => {
                let opcode =
                    [Opcode::Continuation, Opcode::Text, Opcode::Binary, Opcode::Ping, Opcode::Close]
                        [usize::from(program.byte() % 5)];
                let count = usize::from(program.byte() % 126);
                // The peer masks where we do not.
                let mask = self.mask().is_none().then_some(MASK);
                let mut frame = frame(opcode, program.bytes(count), mask);
                frame[0] &= 0x7f | program.byte();
                self.receive(&frame, program.byte());
            }
            5 => self.read_pending(program.byte()),
            6 => {
                self.connection.handle_end_of_stream(program.byte() % 2 == 1, self.now_ms);
            }
            7 => {
                let payload = vec![program.byte(); program.word() % (2 * QUEUE_BYTES_MAX)];
                let is_open = self.connection.is_open();
                if self.connection.push_message(MessageKind::Binary, &payload).is_ok() && is_open {
                    self.excess_bytes = self.excess_bytes.max(payload.len() + 2 * HEADER_BYTES_MAX);
                    self.messages.push_back(payload);
                }
            }
            8 => {
                let payload = vec![program.byte(); program.word() % QUEUE_BYTES_MAX];
                let mut encoded = Vec::new();
                append_message(&mut encoded, MessageKind::Binary, &payload, || self.mask());
                let is_open = self.connection.is_open();
                if self.connection.push(encoded.into()).is_ok() && is_open {
                    self.messages.push_back(payload);
                }
            }
            9 if self.connection.has_room() => self.connection.push_control(Opcode::Ping, b"own"),
            9 => {}
            10 | 11 => {
                if let Some(batch) = self.under_way.take() {
                    let sent_bytes = program.word().min(batch.remaining_bytes());
                    let slices = (0..batch.entry_count()).flat_map(|index| batch.slice(index));
                    self.sent.extend(slices.take(sent_bytes));
                    self.connection.handle_sent(batch, sent_bytes, self.now_ms);
                }
            }
            12 => {
                let ms = program.word() as u64;
                self.wait(ms);
            }
            13 => match program.byte() % 4 {
                0 => self.connection.close(1000, "bye", self.now_ms),
                1 => self.connection.close_without_code(self.now_ms),
                2 => self.connection.leave(1001, "", self.now_ms),
                _ => self.connection.finish(self.now_ms),
            },
            14 => self.connection.evict(None, 1013, "slow", self.now_ms),
            _ => match program.byte() % 8 {
                0 => self.connection.abort(),
                1 if self.under_way.take().is_some() => self.connection.handle_send_failed(),
                _ => {}
            },
        }
    }

    /// Takes bytes as they come from a socket, and reads at most so many events.
    fn receive(&mut self, bytes: &[u8], events_max: u8) {
        if !self.connection.is_reading() || self.is_paused {
            return;
        }
        self.connection.note_alive(self.now_ms);
        if self.connection.has_pending() {
            return self.connection.keep(bytes);
        }
        let read_bytes = self.read(bytes, events_max);
        if self.connection.is_reading() {
            self.connection.keep(&bytes[read_bytes..]);
        }
    }

    fn read_pending(&mut self, events_max: u8) {
        let pending = self.connection.take_pending();
        let read_bytes = self.read(&pending, events_max);
        let read_bytes = if self.connection.is_reading() { read_bytes } else { pending.len() };
        self.connection.put_back(pending, read_bytes);
    }

    fn read(&mut self, bytes: &[u8], events_max: u8) -> usize {
        let mut rest = bytes;
        let now_ms = self.now_ms;
        for _ in 0..events_max {
            if !self.connection.is_reading() {
                break;
            }
            let was_open = self.connection.is_open();
            match self.connection.poll_event(&mut rest, || now_ms) {
                None => {
                    assert!(rest.is_empty(), "the drain rule");
                    break;
                }
                Some(Event::Text(text)) => assert!(text.len() <= MESSAGE_BYTES_MAX),
                Some(Event::Binary(bytes)) => assert!(bytes.len() <= MESSAGE_BYTES_MAX),
                Some(Event::Ping(payload)) if was_open => self.pings.push_back(payload.into_owned()),
                Some(Event::Ping(_) | Event::Pong(_)) => {}
                Some(Event::Closed(_) | Event::Failed(_)) => assert!(!self.connection.is_reading()),
            }
        }
        bytes.len() - rest.len()
    }

    fn wait(&mut self, ms: u64) {
        self.now_ms += ms;
        match self.connection.handle_timeout(&KEEP_ALIVE, self.now_ms) {
            Due::Nothing => {}
            Due::Ping => self.connection.push_control(Opcode::Ping, b"here?"),
            Due::Idle => self.connection.close(1001, "idle timeout", self.now_ms),
        }
        assert!(self.connection.next_due_ms(&KEEP_ALIVE) > self.now_ms, "a deadline is done with");
    }

    /// Follows the drain rule, and checks what must always hold.
    fn drain(&mut self) {
        while let Some(action) = self.connection.poll_action(&mut Vec::new()).expect("there is no TLS") {
            assert!(!self.has_closed, "{action:?} behind the close");
            match action {
                Action::Send(batch) => {
                    assert_eq!(self.fins, 0, "a send behind the FIN");
                    assert!((1..=BATCH_ENTRIES_MAX).contains(&batch.entry_count()));
                    assert!(!self.is_ahead || batch.entry_count() == 1);
                    assert!((0..batch.entry_count()).all(|index| !batch.slice(index).is_empty()));
                    assert!(self.under_way.replace(batch).is_none(), "two sends at once");
                }
                Action::ShutdownWrite => self.fins += 1,
                Action::PauseReceive | Action::ResumeReceive => {
                    assert_eq!(action == Action::ResumeReceive, self.is_paused);
                    self.is_paused = !self.is_paused;
                }
                Action::Close(_) => self.has_closed = true,
            }
        }
        assert!(self.fins <= 1);
        assert_eq!(self.has_closed, self.connection.has_ended());
        // A pong, a close and a ping always fit; the answers to pings may have a limit of their own.
        let always_fit_bytes = 4 * (CONTROL_FRAME_BYTES_MAX + OVERHEAD_BYTES) + PONG_BYTES_MAX;
        let queued_bytes_max = QUEUE_BYTES_MAX + always_fit_bytes + self.excess_bytes;
        assert!(self.connection.queued_bytes() <= queued_bytes_max);
        assert_eq!(self.connection.queued_bytes() == 0, self.connection.queued_entries() == 0);
        if !self.connection.is_open() {
            let left_at_ms = *self.left_at_ms.get_or_insert(self.now_ms);
            assert!(self.has_closed || self.now_ms < left_at_ms + TIMES.total_ms);
        }
    }

    /// Lets a peer read what was sent.
    fn check_sent(mut self) {
        let role = if self.mask().is_some() { Role::Server } else { Role::Client };
        let mut reader = Reader::new(role, 1 << 20);
        let mut sent = &self.sent[self.http_bytes.min(self.sent.len())..];
        let mut is_closed = false;
        while let Some(event) = reader.next(&mut sent).expect("we break the protocol") {
            assert!(!is_closed, "a frame behind the close");
            match event {
                frames::Event::Binary(message) => {
                    assert_eq!(Some(&*message), self.messages.pop_front().as_deref(), "the order");
                }
                frames::Event::Pong(payload) => {
                    while self.pings.pop_front().expect("a pong for a ping") != *payload {}
                }
                frames::Event::Ping(payload) => assert!(*payload == *b"own" || *payload == *b"here?"),
                frames::Event::Close(_) => is_closed = true,
                frames::Event::Text(_) => panic!("nobody said that"),
            }
        }
    }
}

fuzz_target!(|input: &[u8]| {
    let mut program = Program(input);
    let settings = program.byte();
    let role = if settings & 1 == 0 { Role::Server } else { Role::Client };
    let http = if settings & 4 == 0 { &b""[..] } else { b"HTTP/1.1 101 Switching Protocols\r\n\r\n" };
    let mut tested = Tested::new(role, settings & 2 != 0, http);
    while !program.0.is_empty() {
        tested.step(&mut program);
        tested.drain();
    }
    tested.connection.close(1000, "", tested.now_ms);
    for _ in 0..=TIMES.total_ms / 1_000 + TIMES.fin_ms / 1_000 {
        tested.drain();
        tested.wait(1_000);
    }
    tested.drain();
    assert!(tested.has_closed, "it stays for ever");
    tested.check_sent();
});
