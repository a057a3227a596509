//! What it costs to put an event into bytes. It is paid once for each dialect and shard, however many
//! members hear of it.

use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use uproar::clock::Now;
use uproar::dialect::chat::{self, Lists};
use uproar::rooms::{
    Content, Epoch, MemberEntry, MemberList, MessageId, NamedMember, PresenceReport, RoomEvent, RoomMessage,
    UserId,
};
use uproar_protocol::frames::{self, MessageKind};

const NOW: Now = Now { monotonic_ms: 1_000, uptime_ms: 1_000, unix_seconds: 1_700_000_000 };

fn user(n: u64) -> UserId {
    UserId::from_wire(n).expect("not 0")
}

fn name(n: u64) -> Arc<str> {
    format!("User{n}").into()
}

fn message(id: u64, content_bytes: usize) -> Arc<RoomMessage> {
    Arc::new(RoomMessage {
        id: MessageId(id),
        from: user(7),
        from_name: name(7),
        from_account: None,
        content: Content::Text("x".repeat(content_bytes)),
        timestamp: NOW.unix_seconds,
    })
}

fn room_events(criterion: &mut Criterion) {
    let presence = PresenceReport {
        users_online: 10_000,
        joined: (1..=50).map(|n| NamedMember { id: user(n), name: name(n), account: None }).collect(),
        left: (51..=100).map(user).collect(),
        renamed: Vec::new(),
        truncated: true,
    };
    let mut group = criterion.benchmark_group("encode a room event");
    for (name, event) in [
        ("message, 64 B", RoomEvent::Message(message(1, 64))),
        ("message, 10 KiB", RoomEvent::Message(message(1, 10 << 10))),
        ("join", RoomEvent::Joined { user: user(7), name: name(7), account: None, users_online: 499 }),
        ("presence, 50 joined and 50 left", RoomEvent::Presence(presence)),
    ] {
        group.bench_function(name, |bencher| {
            bencher.iter(|| chat::room_event(black_box(&event), "general", NOW.unix_seconds));
        });
    }
    group.finish();
}

fn lists(criterion: &mut Criterion) {
    let entry = |n| MemberEntry { id: user(n), name: name(n), account: None, connected_at: NOW.unix_seconds };
    let listed: Arc<[_]> = (1..=500).map(entry).collect();
    let members = MemberList { listed, last: Some(entry(10_000)), total: Some(10_000) };
    let history: Arc<[_]> = (1..=100).map(|id| message(id, 64)).collect();
    let epoch = Epoch::random();
    let mut group = criterion.benchmark_group("encode a list");
    group.bench_function("500 users, a new list", |bencher| {
        bencher.iter(|| Lists::default().users(black_box(&members), NOW));
    });
    let mut lists = Lists::default();
    group.bench_function("500 users, for the next newcomer", |bencher| {
        bencher.iter(|| lists.users(black_box(&members), NOW));
    });
    group.bench_function("100 messages, a new list", |bencher| {
        bencher.iter(|| Lists::default().history(black_box(&history), epoch, None, NOW));
    });
    let mut lists = Lists::default();
    group.bench_function("100 messages, for the next newcomer", |bencher| {
        bencher.iter(|| lists.history(black_box(&history), epoch, None, NOW));
    });
    group.finish();
}

fn relay(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("encode a raw message");
    for bytes in [64, 16 << 10, 128 << 10] {
        let payload = vec![b'x'; bytes];
        group.throughput(Throughput::Bytes(bytes as u64));
        group.bench_function(format!("{bytes} bytes"), |bencher| {
            bencher.iter(|| frames::message(MessageKind::Binary, black_box(&payload)));
        });
    }
    group.finish();
}

criterion_group!(benches, room_events, lists, relay);
criterion_main!(benches);
