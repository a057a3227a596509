//! From received bytes to messages: our reader of frames beside tungstenite's state machine, on the same pieces.
//!
//! A receive is a copy into a buffer, as the kernel makes it. Ours has one for all connections, tungstenite one for each.

use std::hint::black_box;
use std::io::{self, Read, Write};
use std::time::Duration;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, Throughput};
use tungstenite::protocol::{WebSocketConfig, WebSocketContext};
use tungstenite::{Error, Message};
use uproar_protocol::frames::{Event, Opcode, Reader, Role, frame};
use uproar_ring::give_back_ends;

/// The longest message of both, and the size of our buffer: one of 64 KiB comes with one receive.
const MESSAGE_BYTES_MAX: usize = 128 << 10;

/// The buffers of tungstenite: its default, and the one that it recommends for many connections.
const READ_BUFFERS: [(&str, usize); 2] =
    [("tungstenite, 128 KiB", 128 << 10), ("tungstenite, 4 KiB", 4 << 10)];

pub(crate) fn readers(criterion: &mut Criterion) {
    // As the server does. Otherwise each message of some KiB gives its pages back, and that is what would be measured.
    give_back_ends();
    for (name, role) in [("read as a server", Role::Server), ("read as a client", Role::Client)] {
        let mut group = criterion.benchmark_group(name);
        group
            .warm_up_time(Duration::from_millis(300))
            .measurement_time(Duration::from_secs(1))
            .sample_size(30);
        for (size, bytes) in
            [("16 B", 16), ("128 B", 128), ("512 B", 512), ("4 KiB", 4 << 10), ("64 KiB", 64 << 10)]
        {
            let message = encoded(role, bytes);
            compare(&mut group, size, role, &[&message], 1);
            let pieces: Vec<_> = message.chunks(message.len().div_ceil(4)).collect();
            compare(&mut group, &format!("{size} in four pieces"), role, &pieces, 1);
        }
        let many = encoded(role, 16).repeat(100);
        compare(&mut group, "100 of 16 B at once", role, &[&many], 100);
        group.finish();
    }
}

/// A text message in one frame, as the peer sends it.
fn encoded(role: Role, bytes: usize) -> Vec<u8> {
    let mask = (role == Role::Server).then_some([0x37, 0xfa, 0x21, 0x3d]);
    frame(Opcode::Text, &vec![b'x'; bytes], mask)
}

fn compare(
    group: &mut BenchmarkGroup<'_, WallTime>,
    name: &str,
    role: Role,
    pieces: &[&[u8]],
    messages: usize,
) {
    group.throughput(Throughput::Elements(messages as u64));
    group.bench_function(BenchmarkId::new("ours", name), |bencher| {
        let mut reader = Reader::new(role, MESSAGE_BYTES_MAX);
        let mut buffer = vec![0; MESSAGE_BYTES_MAX];
        bencher.iter(|| assert_eq!(read_with_ours(&mut reader, &mut buffer, black_box(pieces)), messages));
    });
    for (reader, buffer_bytes) in READ_BUFFERS {
        group.bench_function(BenchmarkId::new(reader, name), |bencher| {
            let role = match role {
                Role::Server => tungstenite::protocol::Role::Server,
                Role::Client => tungstenite::protocol::Role::Client,
            };
            let config = WebSocketConfig::default()
                .read_buffer_size(buffer_bytes)
                .max_message_size(Some(MESSAGE_BYTES_MAX))
                .max_frame_size(Some(MESSAGE_BYTES_MAX));
            let mut context = WebSocketContext::new(role, Some(config));
            bencher.iter(|| assert_eq!(read_with_theirs(&mut context, black_box(pieces)), messages));
        });
    }
}

fn read_with_ours(reader: &mut Reader, buffer: &mut [u8], pieces: &[&[u8]]) -> usize {
    let mut messages = 0;
    for piece in pieces {
        let received = &mut buffer[..piece.len()];
        received.copy_from_slice(piece);
        let mut rest = &*received;
        while let Some(event) = reader.next(&mut rest).expect("the stream is valid") {
            messages += usize::from(matches!(black_box(event), Event::Text(_)));
        }
    }
    messages
}

fn read_with_theirs(context: &mut WebSocketContext, pieces: &[&[u8]]) -> usize {
    let mut messages = 0;
    for piece in pieces {
        let mut socket = Socket(piece);
        loop {
            match context.read(&mut socket) {
                Ok(message) => messages += usize::from(matches!(black_box(message), Message::Text(_))),
                Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => panic!("the stream is valid: {error}"),
            }
        }
    }
    messages
}

/// A socket on which one piece has arrived. Nothing is sent.
struct Socket<'p>(&'p [u8]);

impl Read for Socket<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.0.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.0.read(buffer)
    }
}

impl Write for Socket<'_> {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        unreachable!("there is nothing to answer")
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
