//! The ring against real sockets: one end attached, the other in the test's hands.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::*;
use crate::shared_bytes::SharedBytes;
use crate::submission::{CloseMode, SendBatch};

const LIMIT: Duration = Duration::from_secs(10);

fn small() -> Options {
    Options { submissions: 4, completions: 8, buffers: 4, buffer_bytes: 64, features: Features::ALL }
}

fn new_ring(options: Options) -> Ring {
    Ring::new(options, Waker::new().unwrap()).unwrap()
}

fn id(index: u32) -> ConnectionId {
    ConnectionId { index, generation: index + 1 }
}

fn pair() -> (OwnedFd, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (listener.accept().unwrap().0.into(), peer)
}

/// Runs turns until `done` says so; `handle` sees every completion.
fn run(ring: &mut Ring, mut handle: impl FnMut(&mut Vec<Submission>, Completion<'_>) -> bool) {
    let start = Instant::now();
    let mut submissions = Vec::new();
    loop {
        assert!(start.elapsed() < LIMIT, "nothing more completed");
        ring.wait(Some(Duration::from_millis(50)), || false).unwrap();
        let mut done = false;
        while let Some(completion) = ring.next_completion() {
            done |= handle(&mut submissions, completion);
        }
        for submission in submissions.drain(..) {
            ring.submit(submission);
        }
        if done {
            return;
        }
    }
}

fn frame(bytes: &[u8]) -> SharedBytes {
    SharedBytes::new(Bytes::copy_from_slice(bytes))
}

#[test]
fn bytes_arrive_in_order_although_buffers_run_out() {
    let mut ring = new_ring(small());
    let (socket, mut peer) = pair();
    ring.attach(id(0), socket);
    let sent: Vec<u8> = (0..10_000u32).map(|n| (n % 251) as u8).collect();
    peer.write_all(&sent).unwrap();
    let mut received = Vec::new();
    run(&mut ring, |_, completion| {
        if let Completion::Received(from, bytes) = completion {
            assert_eq!(from, id(0));
            received.extend_from_slice(bytes);
        }
        received.len() == sent.len()
    });
    assert_eq!(received, sent);
    assert!(ring.counts().buffer_shortages > 0, "four buffers of 64 bytes must have run out");
}

/// Far more connections have bytes than there are buffers, and each is asked again once its turn has come.
#[test]
fn connections_that_wait_for_buffers_have_their_turn_in_order() {
    const CONNECTIONS: u32 = 100;
    let mut ring = new_ring(small());
    let mut peers = Vec::new();
    for index in 0..CONNECTIONS {
        let (socket, mut peer) = pair();
        ring.attach(id(index), socket);
        peer.write_all(&[index as u8; 64]).unwrap();
        peers.push(peer);
    }
    let mut received = Vec::new();
    run(&mut ring, |_, completion| {
        let Completion::Received(from, bytes) = completion else { panic!("{completion:?}") };
        // As much as a buffer holds.
        assert_eq!(bytes, [from.index as u8; 64]);
        received.push(from.index);
        received.len() == CONNECTIONS as usize
    });
    assert!(received.iter().copied().eq(0..CONNECTIONS), "{received:?}");
    // One that is asked ahead of its turn, only to find no buffer again, is a submission more.
    let submissions = ring.counts().submissions;
    assert!(submissions < 3 * u64::from(CONNECTIONS), "{submissions} submissions");
}

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

#[test]
fn a_paused_connection_receives_nothing_until_it_is_resumed() {
    let mut ring = new_ring(small());
    let (paused, mut paused_peer) = pair();
    let (other, mut other_peer) = pair();
    ring.attach(id(0), paused);
    ring.attach(id(1), other);
    ring.submit(Submission::PauseReceive(id(0)));
    ring.enter().unwrap();
    while ring.next_completion().is_some() {}
    paused_peer.write_all(b"held").unwrap();
    other_peer.write_all(b"fence").unwrap();
    run(&mut ring, |_, completion| match completion {
        Completion::Received(from, _) => {
            assert_eq!(from, id(1));
            true
        }
        _ => false,
    });
    ring.submit(Submission::ResumeReceive(id(0)));
    run(
        &mut ring,
        |_, completion| matches!(completion, Completion::Received(from, b"held") if from == id(0)),
    );
}

#[test]
fn the_end_and_a_reset_of_the_peer_are_told_apart() {
    let mut ring = new_ring(small());
    let (socket, peer) = pair();
    ring.attach(id(0), socket);
    drop(peer);
    run(&mut ring, |_, completion| matches!(completion, Completion::EndOfStream(from) if from == id(0)));
    let (socket, peer) = pair();
    ring.attach(id(1), socket);
    rustix::net::sockopt::set_socket_linger(&peer, Some(Duration::ZERO)).unwrap();
    drop(peer);
    run(&mut ring, |_, completion| match completion {
        Completion::ReceiveFailed(from, error) => {
            assert_eq!((from, error.kind()), (id(1), io::ErrorKind::ConnectionReset));
            true
        }
        _ => false,
    });
}

#[test]
fn more_completions_than_the_queue_holds_are_not_lost() {
    let mut ring = new_ring(small());
    let pairs: Vec<_> = (0..100).map(|_| pair()).collect();
    let mut peers = Vec::new();
    for (index, (socket, peer)) in (0..).zip(pairs) {
        ring.attach(id(index), socket);
        peers.push(peer);
    }
    let shared = frame(b"to all");
    for index in 0..100 {
        ring.submit(Submission::Send(id(index), SendBatch::one(shared.clone(), 0)));
    }
    let mut sent = 0;
    run(&mut ring, |_, completion| {
        if let Completion::Sent(_, _, result) = completion {
            assert_eq!(result.unwrap(), 6);
            sent += 1;
        }
        sent == 100
    });
    for mut peer in peers {
        let mut bytes = [0; 6];
        peer.read_exact(&mut bytes).unwrap();
        assert_eq!(&bytes, b"to all");
    }
}

#[test]
fn bytes_a_deadline_and_another_thread_each_end_the_wait() {
    let waker = Waker::new().unwrap();
    let mut ring = Ring::new(small(), waker.clone()).unwrap();
    let (socket, mut peer) = pair();
    ring.attach(id(0), socket);
    let start = Instant::now();
    ring.wait(Some(Duration::from_millis(20)), || false).unwrap();
    assert!(start.elapsed() >= Duration::from_millis(20));
    assert!(ring.next_completion().is_none());

    let writer = std::thread::spawn(move || {
        peer.write_all(b"wake").unwrap();
        peer
    });
    ring.wait(None, || false).unwrap();
    assert!(matches!(ring.next_completion(), Some(Completion::Received(_, b"wake"))));
    assert!(ring.next_completion().is_none());
    let _peer = writer.join().unwrap();

    for _ in 0..100 {
        let (publish, published) = std::sync::mpsc::channel();
        let waker = waker.clone();
        let other = std::thread::spawn(move || {
            published.recv().unwrap();
            waker.wake();
        });
        // It is asked for news when the waker works.
        let has_news = || {
            publish.send(()).unwrap();
            false
        };
        ring.wait(None, has_news).unwrap();
        assert!(ring.next_completion().is_none());
        other.join().unwrap();
    }
    ring.wait(None, || true).unwrap();
}

#[test]
fn a_ring_wakes_the_thread_of_another_one() {
    for features in [Features::ALL, Features::NONE] {
        let waker = Waker::new().unwrap();
        let mut sleeper = Ring::new(Options { features, ..small() }, waker.clone()).unwrap();
        let (fall_asleep, asleep) = std::sync::mpsc::channel();
        let other = std::thread::spawn(move || {
            let mut ring = new_ring(Options { features, ..small() });
            for () in asleep {
                ring.wake(&waker);
                ring.enter().unwrap();
            }
            ring.counts().submissions
        });
        let set_up = sleeper.counts().completions;
        for _ in 0..100 {
            let start = Instant::now();
            let has_news = || {
                fall_asleep.send(()).unwrap();
                false
            };
            sleeper.wait(Some(LIMIT), has_news).unwrap();
            assert!(start.elapsed() < LIMIT, "it slept until its deadline");
            assert!(sleeper.next_completion().is_none());
        }
        assert_eq!(sleeper.counts().completions - set_up, 100);
        drop(fall_asleep);
        // A message is a submission.
        let has_messages = sleeper.features().has(Feature::RingMessages);
        assert_eq!(other.join().unwrap(), if has_messages { 100 } else { 0 });
    }
}

#[test]
fn a_message_that_does_not_arrive_is_followed_by_the_event() {
    let waker = Waker::new().unwrap();
    // What it takes for the ring is none.
    waker.receive_messages(std::fs::File::open("/dev/null").unwrap().into());
    let mut sleeper = Ring::new(Options { features: Features::NONE, ..small() }, waker.clone()).unwrap();
    let mut ring = new_ring(small());
    if !ring.features().has(Feature::RingMessages) {
        return;
    }
    let start = Instant::now();
    for _ in 0..3 {
        let has_news = || {
            ring.wake(&waker);
            ring.enter().unwrap();
            assert!(ring.next_completion().is_none());
            false
        };
        sleeper.wait(Some(LIMIT), has_news).unwrap();
        assert!(sleeper.next_completion().is_none());
    }
    assert!(start.elapsed() < LIMIT, "it slept until its deadline");
    assert!(!ring.features().has(Feature::RingMessages), "the next one is told by its event at once");
}

#[test]
fn a_thread_that_is_awake_is_not_woken_again() {
    let waker = Waker::new().unwrap();
    let mut ring = Ring::new(small(), waker.clone()).unwrap();
    ring.enter().unwrap();
    waker.wake();
    let start = Instant::now();
    ring.wait(Some(Duration::from_millis(20)), || false).unwrap();
    assert!(start.elapsed() >= Duration::from_millis(20), "a wake-up was left over");
}

#[test]
fn one_call_collects_everything_that_has_arrived() {
    const CONNECTIONS: u32 = 200;
    let mut ring = new_ring(Options {
        submissions: 256,
        completions: 512,
        buffers: 256,
        buffer_bytes: 64,
        ..Options::default()
    });
    let mut peers = Vec::new();
    for index in 0..CONNECTIONS {
        let (socket, peer) = pair();
        ring.attach(id(index), socket);
        peers.push(peer);
    }
    ring.enter().unwrap();
    assert!(ring.next_completion().is_none());
    for peer in &mut peers {
        // On loopback the bytes have arrived when this returns.
        peer.write_all(b"here").unwrap();
    }
    ring.enter().unwrap();
    let mut received = 0;
    while let Some(completion) = ring.next_completion() {
        assert!(matches!(completion, Completion::Received(_, b"here")));
        received += 1;
    }
    assert_eq!(received, CONNECTIONS);
}

#[test]
fn nothing_is_left_when_a_long_message_has_been_received() {
    let options =
        Options { submissions: 4, completions: 512, buffers: 256, buffer_bytes: 2048, ..Options::default() };
    let mut ring = new_ring(options);
    let (socket, mut peer) = pair();
    ring.attach(id(0), socket);
    ring.enter().unwrap();
    // More receives than the kernel makes before it takes a break.
    let sent = 100 * 2048;
    let writer = std::thread::spawn(move || {
        peer.write_all(&vec![0; sent]).unwrap();
        peer
    });
    let mut received = 0;
    run(&mut ring, |_, completion| {
        if let Completion::Received(_, bytes) = completion {
            received += bytes.len();
        }
        received == sent
    });
    ring.enter().unwrap();
    assert!(ring.next_completion().is_none());
    let start = Instant::now();
    ring.wait(Some(Duration::from_millis(20)), || false).unwrap();
    assert!(
        start.elapsed() >= Duration::from_millis(20),
        "there is said to be something left to be collected"
    );
    drop(writer.join().unwrap());
}
