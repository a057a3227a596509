//! What is sent, and what closing makes of it.

use std::io::{Read, Write};

use super::*;

#[test]
fn a_batch_leaves_in_order_and_short_sends_can_be_continued() {
    let mut ring = new_ring(small());
    let (socket, mut peer) = pair();
    rustix::net::sockopt::set_socket_send_buffer_size(&socket, 4096).unwrap();
    ring.attach(id(3), socket);
    let frames: VecDeque<SharedBytes> = (0..20u8).map(|n| frame(&vec![n; 50_000])).collect();
    let expected: Vec<u8> = frames.iter().flat_map(|frame| frame.bytes().to_vec()).collect();
    let total = expected.len();
    ring.submit(Submission::Send(id(3), SendBatch::many(frames, 0)));
    let reader = std::thread::spawn(move || {
        let mut got = vec![0; total];
        peer.read_exact(&mut got).unwrap();
        got
    });
    let mut sends = 0;
    run(&mut ring, |submissions, completion| {
        let Completion::Sent(to, batch, result) = completion else { return false };
        sends += 1;
        match batch.advance(result.unwrap()) {
            Some(rest) => submissions.push(Submission::Send(to, rest)),
            None => return true,
        }
        false
    });
    assert!(sends > 1, "a send of 1 MB over a small socket buffer is short");
    assert!(reader.join().unwrap() == expected);
}

#[test]
fn a_send_that_succeeds_at_once_is_reported_without_a_completion() {
    for features in [Features::ALL, Features::NONE] {
        let mut ring = new_ring(Options { features, ..small() });
        let (socket, mut peer) = pair();
        ring.attach(id(0), socket);
        ring.enter().unwrap();
        for round in 1..=100_u64 {
            let batch = match round % 2 {
                0 => SendBatch::one(frame(b"one and two"), 0),
                _ => SendBatch::many([frame(b"one "), frame(b"and two")].into(), 0),
            };
            ring.submit(Submission::Send(id(0), batch));
            ring.enter().unwrap();
            let sent = ring.next_completion();
            assert!(matches!(sent, Some(Completion::Sent(to, _, Ok(11))) if to == id(0)), "{sent:?}");
            assert!(ring.next_completion().is_none());
            assert_eq!(
                ring.counts().completions,
                if features.has(Feature::ImmediateSends) { 0 } else { round }
            );
        }
        let mut received = vec![0; 1_100];
        peer.read_exact(&mut received).unwrap();
        assert_eq!(received, b"one and two".repeat(100));
    }
}

#[test]
fn a_thousand_sends_at_once_are_each_reported_once() {
    let mut ring = new_ring(small());
    let peers: Vec<_> = (0..100)
        .map(|index| {
            let (socket, peer) = pair();
            ring.attach(id(index), socket);
            peer
        })
        .collect();
    let mut reported = vec![0; peers.len()];
    for round in 1..=10 {
        // In the end to some of them only.
        for index in (0..100).filter(|index| round < 5 || index % 3 > 0) {
            ring.submit(Submission::Send(id(index), SendBatch::one(frame(b"hello"), 0)));
        }
        let due = if round < 5 { 100 } else { 66 };
        let mut sent = 0;
        run(&mut ring, |_, completion| {
            if let Completion::Sent(id, batch, result) = completion {
                assert_eq!(result.unwrap(), batch.remaining_bytes());
                reported[id.index as usize] += 1;
                sent += 1;
            }
            sent == due
        });
        assert!(ring.next_completion().is_none(), "one was reported twice");
    }
    for (index, mut peer) in peers.into_iter().enumerate() {
        let mut received = vec![0; 5 * reported[index]];
        peer.read_exact(&mut received).unwrap();
        assert_eq!(received, b"hello".repeat(reported[index]));
    }
}

#[test]
fn closing_waits_for_a_stuck_send_and_reports_the_end_once() {
    let mut ring = new_ring(small());
    let (socket, peer) = pair();
    ring.attach(id(1), socket);
    ring.submit(Submission::Send(id(1), SendBatch::one(frame(&vec![7; 64 << 20]), 0)));
    ring.enter().unwrap();
    // The peer never reads, so the send is stuck; closing must cancel it.
    ring.submit(Submission::Close(id(1), CloseMode::Abort));
    let mut ends = 0;
    run(&mut ring, |_, completion| {
        ends += usize::from(matches!(completion, Completion::Closed(closed) if closed == id(1)));
        ends == 1
    });
    assert_eq!(ring.attached_count(), 0);
    drop(peer);
    // The slot serves a next connection.
    let (socket, mut peer) = pair();
    let next = ConnectionId { index: 1, generation: 9 };
    ring.attach(next, socket);
    peer.write_all(b"hello").unwrap();
    run(
        &mut ring,
        |_, completion| matches!(completion, Completion::Received(from, b"hello") if from == next),
    );
}

#[test]
fn a_send_that_is_not_yet_known_to_have_left_delays_the_end_only() {
    for bytes in [5, 16 << 20] {
        let mut ring = new_ring(small());
        let (socket, peer) = pair();
        ring.attach(id(0), socket);
        ring.enter().unwrap();
        assert!(ring.next_completion().is_none());
        // Both in one queue: neither that all of it leaves at once nor that it does not is known when the end comes.
        ring.submit(Submission::Send(id(0), SendBatch::one(frame(&vec![7; bytes]), 0)));
        ring.submit(Submission::Close(id(0), CloseMode::Graceful));
        run(&mut ring, |_, completion| {
            assert!(matches!(completion, Completion::Closed(closed) if closed == id(0)), "{completion:?}");
            true
        });
        ring.enter().unwrap();
        assert!(ring.next_completion().is_none());
        assert_eq!((ring.attached_count(), ring.unsettled_count()), (0, 0));
        drop(peer);
    }
}

#[test]
fn more_sends_that_find_no_room_than_the_queue_holds_all_go_on() {
    const CONNECTIONS: u32 = 50;
    const BYTES: usize = 100_000;
    for features in [Features::ALL, Features::NONE] {
        let mut ring = new_ring(Options { features, ..small() });
        let readers: Vec<_> = (0..CONNECTIONS)
            .map(|index| {
                let (socket, mut peer) = pair();
                rustix::net::sockopt::set_socket_send_buffer_size(&socket, 4096).unwrap();
                ring.attach(id(index), socket);
                std::thread::spawn(move || {
                    let mut received = Vec::new();
                    peer.read_to_end(&mut received).unwrap();
                    received
                })
            })
            .collect();
        let shared = frame(&vec![9; BYTES]);
        for index in 0..CONNECTIONS {
            ring.submit(Submission::Send(id(index), SendBatch::one(shared.clone(), 0)));
        }
        let mut closed = 0;
        run(&mut ring, |submissions, completion| {
            match completion {
                Completion::Sent(to, batch, result) => {
                    submissions.push(match batch.advance(result.unwrap()) {
                        Some(rest) => Submission::Send(to, rest),
                        None => Submission::Close(to, CloseMode::Graceful),
                    });
                }
                Completion::Closed(_) => closed += 1,
                other => panic!("{other:?}"),
            }
            closed == CONNECTIONS
        });
        for reader in readers {
            assert!(reader.join().unwrap() == shared.bytes()[..]);
        }
    }
}
