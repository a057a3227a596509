//! What an idle connection costs in bytes, with our reader and with tungstenite's state machine. A counting allocator
//! tells; `--nocapture` shows the figures.

use std::alloc::System;
use std::io::{self, Read, Write};
use std::sync::Arc;

use bytes::Bytes;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use tungstenite::protocol::{WebSocketConfig, WebSocketContext};
use uproar_protocol::connection::{ClosingTimes, Config, Connection, ControlOrder, QueueLimits};
use uproar_protocol::frames::{MessageKind, Opcode, Reader, Role, append_message, frame};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const MESSAGE_BYTES_MAX: usize = 64 << 10;

/// What a value takes, and what it holds in the heap.
#[derive(Debug)]
struct Cost {
    value_bytes: usize,
    heap_bytes: usize,
}

impl Cost {
    fn bytes(&self) -> usize {
        self.value_bytes + self.heap_bytes
    }
}

/// The cost of an endpoint that has read everything.
fn cost<T>(name: &str, idle: impl FnOnce() -> T) -> Cost {
    let region = Region::new(ALLOCATOR);
    let endpoint = idle();
    let change = region.change();
    let cost = Cost {
        value_bytes: size_of_val(&endpoint),
        heap_bytes: change.bytes_allocated - change.bytes_deallocated,
    };
    println!("{name}: {} + {} = {} bytes", cost.value_bytes, cost.heap_bytes, cost.bytes());
    cost
}

/// A socket that has received this, and that takes everything.
struct Socket<'r>(&'r [u8]);

impl Read for Socket<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.0.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.0.read(buffer)
    }
}

impl Write for Socket<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// One test, because the allocator counts for the whole process.
#[test]
fn an_idle_reader_holds_no_buffer_and_tungstenite_one_for_each_connection() {
    // A message in two pieces, so that both have to keep something for a while, and a pong.
    let mask = Some([1, 2, 3, 4]);
    let mut stream = Vec::new();
    append_message(&mut stream, MessageKind::Text, &[b'x'; 2_000], || mask);
    stream.extend(frame(Opcode::Pong, b"here", mask));
    let pieces = [&stream[..700], &stream[700..]];

    let reader = cost("our reader", || {
        let mut reader = Reader::new(Role::Server, MESSAGE_BYTES_MAX);
        for mut piece in pieces {
            while reader.next(&mut piece).expect("the stream is valid").is_some() {}
        }
        reader
    });
    // One for all connections.
    let config = Arc::new(Config {
        new_mask: None,
        message_bytes_max: MESSAGE_BYTES_MAX,
        queue: QueueLimits { charged_bytes_max: 1 << 20, overhead_bytes: 0, control: ControlOrder::Queued },
        closing: ClosingTimes::default(),
    });
    let connection = cost("our connection", || {
        let mut connection: Connection<Bytes> = Connection::new(&config, None, 0);
        for mut piece in pieces {
            while connection.poll_event(&mut piece, || 0).is_some() {}
        }
        connection
    });
    let theirs =
        [("its default of 128 KiB", 128 << 10), ("4 KiB", 4 << 10), ("0", 0)].map(|(name, buffer)| {
            cost(&format!("tungstenite's context, read_buffer_size {name}"), || {
                let config = WebSocketConfig::default().read_buffer_size(buffer);
                let mut context = WebSocketContext::new(tungstenite::protocol::Role::Server, Some(config));
                for piece in pieces {
                    let mut socket = Socket(piece);
                    while context.read(&mut socket).is_ok() {}
                    assert!(socket.0.is_empty());
                }
                context
            })
        });

    assert_eq!(reader.heap_bytes, 0, "{reader:?}");
    assert_eq!(connection.heap_bytes, 0, "{connection:?}");
    for context in &theirs {
        assert!(context.heap_bytes > 0, "{context:?}: ARCHITECTURE.md says that it keeps a buffer");
        assert!(connection.bytes() < context.bytes(), "{connection:?}, {context:?}");
    }
}
