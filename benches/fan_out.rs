//! What a broadcast to 10,000 members costs in user space: the kernel is left out, so everything in here
//! is ours to make smaller. The times are those of one member's share of a turn, from the received message
//! to the last completed send.

mod crowd;

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use crowd::{Crowd, client_frame};
use tungstenite::protocol::frame::coding::Data;
use uproar::handshake::route::Endpoint;

const MEMBERS: u32 = 10_000;

fn fan_out(criterion: &mut Criterion) {
    let raw = Endpoint::Raw { topic: "bench".into() };
    let message = format!(r#"{{"type":"message","content":"{}"}}"#, "x".repeat(64));
    let rows = [
        ("raw, 64 B", raw.clone(), client_frame(Data::Binary, vec![b'x'; 64])),
        ("raw, 16 KiB", raw, client_frame(Data::Binary, vec![b'x'; 16 << 10])),
        ("chat, 64 B", Endpoint::Chat, client_frame(Data::Text, message.into_bytes())),
    ];
    let mut group = criterion.benchmark_group("a member's share of a fan-out");
    // A turn takes a millisecond or so; more samples would say the same.
    group.sample_size(20).measurement_time(Duration::from_secs(4));
    for (name, endpoint, received) in rows {
        let mut crowd = Crowd::new(&endpoint, MEMBERS as usize);
        let sender = crowd.ids[0];
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|iterations| {
                let start = Instant::now();
                for _ in 0..iterations {
                    // In chat the sender is told as well, with a message of its own.
                    assert_eq!(crowd.turn(sender, black_box(&received)), MEMBERS as usize);
                }
                start.elapsed() / MEMBERS
            });
        });
    }
    group.finish();
}

criterion_group!(benches, fan_out);
criterion_main!(benches);
