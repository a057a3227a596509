//! The WebSocket input of a connection, on either side, beside tungstenite: the same events and answers, but for the
//! differences that the comparison lists and proves.

#![no_main]

// The tests use all of it.
#[allow(dead_code)]
#[path = "../../crates/uproar-protocol/tests/oracle/comparison/mod.rs"]
mod comparison;

use comparison::{Comparison, Stream};
use libfuzzer_sys::fuzz_target;
use uproar_protocol::frames::Role;

fuzz_target!(|input: (bool, u8, [u8; 4], &[u8])| {
    let (is_server, limit, piece_bytes, bytes) = input;
    // Pieces of these lengths, over and over; 0 is all that is left.
    let mut cuts = Vec::new();
    let mut end = 0;
    for len in piece_bytes.into_iter().cycle() {
        end = if len == 0 { bytes.len() } else { bytes.len().min(end + usize::from(len)) };
        cuts.push(end);
        if end == bytes.len() {
            break;
        }
    }
    let stream = Stream {
        role: if is_server { Role::Server } else { Role::Client },
        message_bytes_max: 125 + 16 * usize::from(limit),
        bytes,
        cuts: &cuts,
    };
    if let Err(difference) = Comparison::default().compare(stream) {
        panic!("{difference}");
    }
});
