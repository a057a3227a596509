//! What arrives, and what ends it.

use std::io::{Read, Write};

use super::*;

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
