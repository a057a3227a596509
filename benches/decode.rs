//! What it costs to understand a message. It is paid once a message, by the shard of its sender.

mod crowd;
#[path = "decode/readers.rs"]
mod readers;

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tungstenite::protocol::frame::coding::Data;
use uproar::dialect::{Message, chat};
use uproar::handshake::route::Endpoint;

use crowd::{Crowd, client_frame};
use readers::readers;

const MESSAGE_BYTES_MAX: usize = 10 << 10;

fn commands(criterion: &mut Criterion) {
    let envelope = r#"{"type":"message","content":""}"#;
    let message = |bytes: usize| envelope.replace(r#":"""#, &format!(r#":"{}""#, "x".repeat(bytes)));
    let mut group = criterion.benchmark_group("decode a chat command");
    for (name, json) in [
        ("message, 64 B", message(64)),
        ("message, 10 KiB", message(MESSAGE_BYTES_MAX - envelope.len())),
        (
            "private_message",
            r#"{"type":"private_message","to_id":"12345","content":"hello there"}"#.to_owned(),
        ),
        ("refused: no JSON", "hello there".to_owned()),
    ] {
        group.throughput(Throughput::Bytes(json.len() as u64));
        group.bench_function(name, |bencher| {
            bencher.iter(|| chat::decode(&Message::Text(black_box(json.as_str()).into()), MESSAGE_BYTES_MAX));
        });
    }
    group.finish();
}

/// The shortest way through a connection: received, unmasked, encoded, queued, sent.
fn frames(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("echo without the kernel");
    let mut crowd = Crowd::new(&Endpoint::Echo, 1);
    let id = crowd.ids[0];
    for (name, bytes, count) in [
        ("64 B", 64, 1),
        ("100 of 64 B in one receive", 64, 100),
        ("10 KiB", 10 << 10, 1),
        ("60 KiB", 60 << 10, 1),
    ] {
        let received = client_frame(Data::Binary, vec![b'x'; bytes]).repeat(count);
        group.throughput(Throughput::Bytes(received.len() as u64));
        group.bench_function(name, |bencher| {
            // However many messages arrive at once, their echoes leave in one send.
            bencher.iter(|| assert_eq!(crowd.turn(id, black_box(&received)), 1));
        });
    }
    group.finish();
}

criterion_group!(benches, commands, readers, frames);
criterion_main!(benches);
