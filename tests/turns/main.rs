//! Turns of one shard, without a socket: what a loud, a broken and a leaving client may cost the others, counted in
//! turns and submissions, which no busy machine changes.

#![allow(clippy::unwrap_used)]

mod alone;
mod backends;
mod encrypted;
mod orders;
mod tokens;

use std::sync::Arc;

use alone::{Alone, Event, masked, message, text};
use bytes::Bytes;
use tungstenite::protocol::frame;
use uproar::accounts::{Identity, SignInResult};
use uproar::clock::Now;
use uproar::handshake::route::Endpoint;
use uproar::mail::Delivery;
use uproar::rooms::{ClientRef, Epoch, MessageId, Receipt, Restored, RestoredRoom, ShardIndex};
use uproar_ring::{SharedBytes, Submission};

#[test]
fn a_flood_costs_others_a_turn_and_no_more() {
    const MEMBERS: usize = 100;
    const FLOOD: usize = 10_000;
    const EMPTY_FRAME_BYTES: usize = 2;
    let mut alone = Alone::new();
    let flooder = alone.topic(MEMBERS)[0];
    let quiet = alone.connect(Endpoint::Echo);
    alone.receives(flooder, &message(b"").repeat(FLOOD));
    alone.receives(quiet, &message(b"me, too"));
    let before = alone.shard.clients().queued_bytes();
    alone.turn();
    assert!(alone.ring.sends.iter().any(|(id, _)| *id == quiet), "its echo leaves in the turn of the flood");
    let pushed =
        (alone.shard.clients().queued_bytes() - before) / (EMPTY_FRAME_BYTES + SharedBytes::OVERHEAD_BYTES);
    // What a turn may do, and one message more.
    assert!(pushed <= 32_768 + MEMBERS, "{pushed} frames were pushed in one turn");
    // All of the flood arrives in the end, once for each member.
    let mut received = 0;
    for _ in 0..10_000 {
        let of_flood = alone.ring.sends.iter().filter(|(id, _)| *id != quiet);
        received += of_flood.map(|(_, batch)| batch.frame_count()).sum::<usize>();
        alone.complete_sends();
        if alone.ring.events.is_empty() && !alone.is_busy() {
            break;
        }
        alone.turn();
    }
    assert_eq!(received, MEMBERS * FLOOD);
}

/// Goal: a room beside a topic that is flooded with long messages waits for a bounded number of them, and not for all
/// that has been received.
#[test]
fn a_flood_of_long_messages_delays_a_room_by_a_turn() {
    const MEMBERS: usize = 10;
    // What the receive buffers of a ring hold.
    const FLOOD: usize = (1 << 20) / LONG.len();
    static LONG: [u8; 60_000] = [b'x'; 60_000];
    let mut alone = Alone::new();
    let topic = alone.topic(MEMBERS);
    let [speaker, listener] = [(); 2].map(|()| alone.connect(Endpoint::Chat));
    alone.turn();
    alone.complete_sends();
    alone.turn();
    alone.receives(topic[0], &message(&LONG).repeat(FLOOD));
    alone.receives(speaker, &text(br#"{"type":"message","content":"hello"}"#));
    let before = alone.shard.clients().queued_bytes();
    alone.turn();
    assert!(alone.ring.sends.iter().any(|(id, _)| *id == listener), "the room hears of it in this turn");
    let pushed = (alone.shard.clients().queued_bytes() - before) / LONG.len();
    // A turn's work is 32,768, each 256 bytes are 1, and the last message may exceed it.
    let pushed_max = 32_768 / (LONG.len() / 256) + MEMBERS;
    assert!(
        pushed > 0 && pushed <= pushed_max,
        "{pushed} of the flood were pushed, and at most {pushed_max} should"
    );
    assert!(pushed < FLOOD * MEMBERS, "some is left for the next turn");
}

#[test]
fn connections_with_waiting_input_have_their_turn_one_after_the_other() {
    let mut alone = Alone::new();
    let members = alone.topic(1_000);
    for &loud in &members[..20] {
        alone.receives(loud, &message(b"").repeat(1_000));
    }
    alone.turn();
    // This one comes last, when all have much more waiting than a turn may do.
    let late = alone.connect(Endpoint::Echo);
    alone.receives(late, &message(b"late"));
    let mut turns = 0;
    while !alone.ring.sends.iter().any(|(id, _)| *id == late) {
        alone.complete_sends();
        alone.turn();
        turns += 1;
        assert!(turns <= 5, "the echo waits for the whole flood");
    }
}

#[test]
fn input_beyond_its_bound_is_no_longer_received_until_there_is_room() {
    let mut alone = Alone::new();
    let flooder = alone.topic(1_000)[0];
    alone.receives(flooder, &message(b"").repeat(20_000));
    let submitted = alone.turn();
    assert!(matches!(submitted, [Submission::PauseReceive(id)] if *id == flooder), "{submitted:?}");
    for _ in 0..10_000 {
        alone.complete_sends();
        if let [submission] = alone.turn() {
            assert!(matches!(submission, Submission::ResumeReceive(id) if *id == flooder), "{submission:?}");
            assert!(alone.shard.clients().most_pending_bytes() <= 64 << 10);
            return;
        }
    }
    panic!("receiving never went on");
}

#[test]
fn a_broadcast_to_very_many_leaves_in_several_turns() {
    const MEMBERS: usize = 5_000;
    let mut alone = Alone::new();
    let members = alone.topic(MEMBERS);
    alone.receives(members[0], &message(b"all"));
    alone.turn();
    let first = alone.ring.sends.len();
    assert!(first < MEMBERS && alone.is_busy(), "{first} sends in one turn");
    for _ in 0..10 {
        alone.turn();
    }
    assert!(!alone.is_busy());
    assert_eq!(alone.ring.sends.len(), MEMBERS);
}

#[test]
fn nothing_is_asked_for_a_connection_that_is_closing_but_its_close() {
    let mut alone = Alone::new();
    let id = alone.connect(Endpoint::Echo);
    alone.receives(id, &message(b"hello"));
    alone.turn();
    assert_eq!(alone.ring.sends.len(), 1);
    // From now on input is held back, as when the mesh is congested.
    alone.shard.stop_reading();
    alone.receives(id, &message(b"held"));
    alone.turn();
    // The peer is gone: the send fails, and what it had sent before is still received.
    alone.queue(id, Event::Sent(Err(libc::EPIPE)));
    alone.receives(id, &vec![0; 100_000]);
    alone.queue(id, Event::EndOfStream);
    let submitted = alone.turn();
    assert!(matches!(submitted, [Submission::Close(closed, _)] if *closed == id), "{submitted:?}");
}

#[test]
fn the_answer_to_a_close_is_read_although_much_was_held_back_before() {
    let mut alone = Alone::new();
    let id = alone.connect(Endpoint::Echo);
    alone.shard.stop_reading();
    alone.receives(id, &message(b"sent before it knew").repeat(4_000));
    let submitted = alone.turn();
    assert!(matches!(submitted, [Submission::PauseReceive(_)]), "{submitted:?}");
    alone.shard.begin_drain(Now { monotonic_ms: alone.now_ms, uptime_ms: alone.now_ms, unix_seconds: 0 });
    let submitted = alone.turn();
    assert!(matches!(submitted, [Submission::ResumeReceive(_)]), "{submitted:?}");
    alone.complete_sends();
    alone.receives(id, &masked(frame::Frame::close(None)));
    let submitted = alone.turn();
    assert!(matches!(submitted, [Submission::ShutdownWrite(_)]), "no FIN follows its answer: {submitted:?}");
}

#[test]
fn a_sign_in_whose_answer_fits_no_queue_makes_no_member() {
    const QUEUE_BYTES_MAX: usize = 2_000;
    let mut alone = Alone::with(QUEUE_BYTES_MAX, Some(10_000));
    let id = alone.connect(Endpoint::Chat);
    // Refusals that are not read, until no other would fit.
    let mut refusal_bytes = 0;
    while alone.shard.clients().queued_bytes() + refusal_bytes <= QUEUE_BYTES_MAX {
        let before = alone.shard.clients().queued_bytes();
        alone.receives(id, &text(b"x"));
        alone.turn();
        refusal_bytes = alone.shard.clients().queued_bytes() - before;
        assert!(refusal_bytes > 0);
    }
    let to = ClientRef { shard: ShardIndex(0), connection: id };
    let identity =
        Identity { account: "ann".into(), name: "ann".into(), is_admin: false, rights: Arc::default() };
    let result = SignInResult::Granted(identity);
    let now = Now { monotonic_ms: alone.now_ms, uptime_ms: alone.now_ms, unix_seconds: 0 };
    alone.shard.handle_delivery(Delivery::PasswordChecked { to, result }, now);
    alone.queue(id, Event::EndOfStream);
    let is_closed = (0..4).any(|_| {
        let is_closed = alone.turn().iter().any(|submission| matches!(submission, Submission::Close(..)));
        alone.complete_sends();
        is_closed
    });
    assert!(is_closed, "it was to be evicted");
    alone.queue(id, Event::Closed);
    alone.turn();
    assert_eq!(alone.shard.clients().count(), 0);
    // Whoever comes next is alone in the room, and what is said there reaches nobody who has gone.
    let next = alone.connect(Endpoint::Chat);
    let to = ClientRef { shard: ShardIndex(0), connection: next };
    let identity =
        Identity { account: "bob".into(), name: "bob".into(), is_admin: false, rights: Arc::default() };
    let result = SignInResult::Granted(identity);
    alone.shard.handle_delivery(Delivery::PasswordChecked { to, result }, now);
    alone.turn();
    let sent: Vec<u8> = alone
        .ring
        .sends
        .iter()
        .flat_map(|(_, batch)| (0..batch.frame_count()).flat_map(|i| batch.slice(i).to_vec()))
        .collect();
    assert!(
        String::from_utf8_lossy(&sent).contains(r#""users_online":1"#),
        "{}",
        String::from_utf8_lossy(&sent)
    );
}

#[test]
fn nobody_is_sent_away_for_a_sign_in_that_waits_to_be_read() {
    let mut alone = Alone::with(1 << 20, Some(10_000));
    let id = alone.connect(Endpoint::Chat);
    // From now on input waits, as when the mesh is congested.
    alone.shard.stop_reading();
    alone.receives(id, &text(br#"{"type":"auth","username":"ann","password":"secret"}"#));
    alone.turn();
    alone.now_ms += 20_000;
    alone.turn();
    alone.turn();
    assert!(alone.ring.sends.is_empty(), "it was closed, or told something: {:?}", alone.ring.sends);
}

#[test]
fn deadlines_wait_for_bytes_that_no_buffer_was_free_for_within_bounds() {
    let mut alone = Alone::new();
    let id = alone.connect(Endpoint::Raw { topic: "t".to_owned() });
    alone.now_ms += 30_000;
    alone.turn();
    assert_eq!(alone.ring.sends.len(), 1, "a ping");
    alone.complete_sends();
    // Its pong is here, and cannot be received yet.
    alone.now_ms += 90_000;
    alone.ring.is_short_of_buffers = true;
    alone.turn();
    assert!(alone.ring.sends.is_empty() && alone.is_busy(), "its idle timeout has passed unheard");
    alone.now_ms += 1;
    alone.ring.is_short_of_buffers = false;
    alone.receives(id, &masked(frame::Frame::pong(Bytes::new())));
    alone.turn();
    assert!(alone.ring.sends.is_empty() && !alone.is_busy());
    // A shortage without end does not keep a silent connection for ever.
    alone.now_ms += 30_000;
    alone.turn();
    alone.complete_sends();
    alone.now_ms += 90_000 + 1_000;
    alone.ring.is_short_of_buffers = true;
    alone.turn();
    assert_eq!(alone.ring.sends.len(), 1, "it is closed as idle");
}

/// A send that is awaited costs a system call of its own.
#[test]
fn of_many_broadcasts_to_few_only_those_that_are_timed_are_awaited() {
    let mut alone = Alone::new();
    let members = alone.topic(10);
    let broadcast = |alone: &mut Alone| {
        let _ = alone.shard.take_is_send_awaited();
        alone.receives(members[0], &message(b"to all"));
        alone.turn();
        assert_eq!(alone.ring.sends.len(), members.len());
        let is_awaited = alone.shard.take_is_send_awaited();
        alone.complete_sends();
        alone.turn();
        is_awaited
    };
    assert!(broadcast(&mut alone), "one of few is timed");
    let awaited = (0..1_000).filter(|_| broadcast(&mut alone)).count();
    assert!(awaited <= 100, "{awaited} of 1,000 at once");
    assert!(!broadcast(&mut alone));
    alone.now_ms += 1_000;
    assert!(broadcast(&mut alone), "a second later");
}

#[test]
fn nobody_always_gets_a_broadcast_last() {
    const MEMBERS: usize = 100;
    let mut alone = Alone::new();
    let members = alone.topic(MEMBERS);
    let mut last = std::collections::HashMap::new();
    for _ in 0..MEMBERS {
        alone.receives(members[0], &message(b"to all"));
        alone.turn();
        let receivers: std::collections::HashSet<_> = alone.ring.sends.iter().map(|(id, _)| *id).collect();
        assert_eq!(receivers.len(), MEMBERS, "each gets it once");
        let (id, _) = alone.ring.sends.last().unwrap();
        *last.entry(*id).or_insert(0) += 1;
        alone.complete_sends();
        alone.turn();
    }
    assert!(last.values().all(|times| *times <= 10), "{last:?}");
}

#[test]
fn a_crowd_that_ends_at_once_takes_no_more_stack_than_one() {
    const MEMBERS: usize = 5_000;
    let mut alone = Alone::with(2_000, None);
    let members = alone.topic(MEMBERS);
    let publisher = alone.connect(Endpoint::Raw { topic: "t".to_owned() });
    // The first is under way; the second finds every queue full.
    for _ in 0..2 {
        alone.receives(publisher, &message(&[b'x'; 1_500]));
        alone.turn();
    }
    let are_closing = alone.shard.clients().count();
    assert_eq!(are_closing, MEMBERS + 1, "slots are kept until the sockets are closed");
    assert_eq!(
        alone.shard.homes().room_count(),
        1,
        "only the room is left: the topic has lost all its members"
    );
    for &id in &members {
        alone.queue(id, Event::EndOfStream);
    }
    alone.complete_sends();
    while !alone.ring.events.is_empty() || alone.is_busy() {
        alone.turn();
    }
}

#[test]
fn a_crowd_that_is_silent_ends_in_one_tick() {
    const CLIENTS: usize = 5_000;
    let mut alone = Alone::new();
    for _ in 0..CLIENTS {
        alone.connect(Endpoint::Echo);
    }
    for silence_ms in [31_000, 91_000] {
        alone.now_ms += silence_ms;
        while alone.is_busy() {
            alone.turn();
        }
        alone.complete_sends();
        alone.turn();
    }
    // Their close frames have left, and nobody answers.
    alone.now_ms += 10_000;
    let mut closed = 0;
    while alone.is_busy() {
        closed +=
            alone.turn().iter().filter(|submission| matches!(submission, Submission::Close(..))).count();
    }
    assert_eq!(closed, CLIENTS);
}

#[test]
fn a_client_whose_tls_keys_are_used_up_ends_and_takes_nobody_with_it() {
    // The end of the handshake was the first record of the server.
    let [mut client, server] = encrypted::pair(4);
    let mut alone = Alone::new();
    let id = alone.connect_over(Endpoint::Echo, Some(server));
    let quiet = alone.connect(Endpoint::Echo);
    let is_closed = (0..8).any(|_| {
        client.write_plaintext(&message(b"again")).unwrap();
        let ciphertext = client.poll_transmit().unwrap();
        alone.receives(id, &ciphertext);
        let is_closed = alone.turn().iter().any(|submission| matches!(submission, Submission::Close(..)));
        alone.complete_sends();
        is_closed
    });
    assert!(is_closed, "nothing can be encrypted any more");
    // This is all that the next turn is told.
    assert!(alone.ring.events.is_empty());
    alone.queue(id, Event::Closed);
    alone.turn();
    assert_eq!(alone.shard.clients().count(), 1);
    alone.receives(quiet, &message(b"still here"));
    alone.turn();
    assert!(alone.ring.sends.iter().any(|(to, _)| *to == quiet));
}

/// Whoever has read of a failed storage is refused, although its message was already waiting to be read.
#[test]
fn receipts_are_heard_of_ahead_of_input_that_has_waited() {
    let mut alone = Alone::new();
    alone.shard.restore(&Restored {
        rooms: vec![RestoredRoom {
            epoch: Epoch::random(),
            kept: Vec::new(),
            last_id: MessageId(0),
            kept_from: MessageId(1),
            reserved: MessageId(1_000),
        }],
        last_author: None,
    });
    let members = alone.topic(1_000);
    let ann = alone.connect(Endpoint::Chat);
    // More than its share, so that the rest waits, and ann behind it.
    alone.receives(members[0], &message(b"").repeat(10));
    alone.receives(ann, &text(br#"{"type":"message","content":"hello"}"#));
    alone.ring.receipts.push_back(Receipt::Withdrawn);
    let mut heard = String::new();
    while alone.is_busy() || !alone.ring.events.is_empty() {
        alone.turn();
        for (_, batch) in alone.ring.sends.iter().filter(|(to, _)| *to == ann) {
            let frames = (0..batch.frame_count()).flat_map(|index| batch.slice(index).to_vec());
            heard.push_str(&String::from_utf8_lossy(&frames.collect::<Vec<_>>()));
        }
        alone.complete_sends();
    }
    assert_eq!(alone.shard.homes().writes_unanswered(), 0, "it was accepted");
    assert!(heard.contains("Message could not be stored"), "{heard}");
}
