//! What the server holds for those who do not read: near the limit of the send queue, and no longer than they stay.

use crate::harness::{BINARY, Launch, PING, PONG, Server, TEXT, Wire, eventually, frame, on_one_server};

on_one_server! {
    pings_behind_a_reader_that_stalls_are_answered_by_the_last,
    every_ping_of_a_few_at_once_is_answered,
    messages_without_content_are_bounded_like_others,
    a_burst_leaves_no_memory_behind,
}

const MIB: usize = 1024;

async fn pings_behind_a_reader_that_stalls_are_answered_by_the_last(launch: Launch) {
    let server = launch.flag("--send-queue", "64KiB").start();
    let mut slow = Wire::connect_narrow(&server).await;
    slow.upgrade_to("/echo").await;
    // Four megabytes of answers are many times what the kernel and the queue hold.
    let count = 400_000_u32;
    for first in (0..count).step_by(1_000) {
        let pings = (first..first + 1_000).flat_map(|n| frame(PING, n.to_be_bytes()));
        slow.send(pings.collect::<Vec<u8>>()).await;
    }
    let (mut answers, mut last) = (0, None);
    while last != Some(count - 1) {
        let pong = slow.frame().await.expect("nobody is closed for the pings that it sends");
        assert_eq!(pong.opcode, PONG);
        let answered = u32::from_be_bytes(pong.payload.try_into().unwrap());
        assert!(last < Some(answered), "{answered} behind {last:?}");
        (answers, last) = (answers + 1, Some(answered));
    }
    assert!(answers < count, "all {answers} answers waited");
    slow.send(frame(TEXT, "a word")).await;
    assert_eq!(slow.text().await, "a word");
}

async fn every_ping_of_a_few_at_once_is_answered(launch: Launch) {
    let server = launch.start();
    let mut wire = Wire::upgrade(&server, "/echo").await;
    wire.send((0..10).flat_map(|n| frame(PING, [n])).collect::<Vec<u8>>()).await;
    for n in 0..10 {
        let pong = wire.frame().await.unwrap();
        assert_eq!((pong.opcode, pong.payload.as_slice()), (PONG, &[n][..]));
    }
}

async fn messages_without_content_are_bounded_like_others(launch: Launch) {
    let server = launch.start();
    let before = settled(&server).await;
    let slow = stalled(&server, 4, frame(TEXT, ""), 300_000).await;
    // A mebibyte each; the rest is for what a debug build on four shards needs besides.
    let peak = server.resident_kib();
    assert!(peak < before + 24 * MIB, "{before} KiB have become {peak}");
    slow.into_iter().for_each(Wire::reset);
}

async fn a_burst_leaves_no_memory_behind(launch: Launch) {
    let server = launch.flag("--send-queue", "32MiB").start();
    let before = settled(&server).await;
    let mut slow = stalled(&server, 4, frame(TEXT, [b'x'; 100]), 80_000).await;
    let peak = server.resident_kib();
    assert!(peak > before + 40 * MIB, "there was no burst: {before} KiB have become {peak}");
    // One who stays has its memory among that of the others.
    let stays = slow.pop();
    slow.into_iter().for_each(Wire::reset);
    drop(stays);
    let enough = before + (peak - before) / 10;
    eventually("what was freed is given back", async || server.resident_kib() <= enough).await;
}

/// What a server holds in KiB that has served somebody: each shard has used all of its receive buffers.
async fn settled(server: &Server) -> usize {
    let long = frame(BINARY, vec![0; 60_000]);
    for _ in 0..16 {
        let mut wire = Wire::upgrade(server, "/chat").await;
        for kind in ["welcome", "users", "history"] {
            assert!(wire.text().await.contains(&format!("{kind:?}")));
        }
        for _ in 0..170 {
            wire.send(&long).await;
        }
        // The one before may still be leaving.
        let mut refused = 0;
        while refused < 170 {
            refused += usize::from(wire.text().await.contains("\"error\""));
        }
    }
    server.resident_kib()
}

/// Connections that send `word` again and again and read none of its echoes. The server has read all.
async fn stalled(server: &Server, connections: usize, word: Vec<u8>, words: usize) -> Vec<Wire> {
    let mut stalled = Vec::new();
    for _ in 0..connections {
        let mut wire = Wire::connect_narrow(server).await;
        wire.upgrade_to("/echo").await;
        for _ in 0..words / 1_000 {
            wire.send(word.repeat(1_000)).await;
        }
        stalled.push(wire);
    }
    // What the kernel holds between the two, nobody else can see; the next connection's answer comes behind it.
    for _ in 0..connections {
        let mut wire = Wire::upgrade(server, "/echo").await;
        wire.send(frame(TEXT, "behind")).await;
        assert_eq!(wire.text().await, "behind");
    }
    stalled
}
