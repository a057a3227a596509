//! Turns of one shard, without a socket: what a loud, a broken and a leaving client may cost the others, counted in
//! turns and submissions, which no busy machine changes.

#![allow(clippy::unwrap_used)]

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use tungstenite::protocol::frame;
use tungstenite::protocol::frame::coding::{Data, OpCode};
use uproar::accounts::{Attempt, SignInResult};
use uproar::clock::Now;
use uproar::handshake::Admission;
use uproar::handshake::route::Endpoint;
use uproar::mail::{Delivery, Request};
use uproar::metrics::Metrics;
use uproar::permit::ClientPermits;
use uproar::rooms::{self, ClientRef, Directory, PresencePolicy, Receipt, ShardIndex, Write};
use uproar::shard::turn::{self, Io};
use uproar::shard::{Deadlines, Limits, Rate, Shard, ShardSettings};
use uproar_protocol::connection::KeepAlive;
use uproar_ring::ConnectionId;
use uproar_ring::SharedBytes;
use uproar_ring::{Completion, SendBatch, Submission};

/// Bytes of one receive.
const RECEIVE_BYTES: usize = 2_048;

/// An event on a connection, as a test wants it.
enum Event {
    Received(Vec<u8>),
    EndOfStream,
    Closed,
    /// The send under way has left, or failed.
    Sent(Result<(), i32>),
}

/// A shard without others.
struct Alone {
    shard: Shard,
    now_ms: u64,
    ring: ScriptedRing,
}

/// A ring that completes as a test says.
#[derive(Default)]
struct ScriptedRing {
    events: VecDeque<(ConnectionId, Event)>,
    /// The bytes that the last completion lends.
    lent: Vec<u8>,
    is_short_of_buffers: bool,
    /// Sends that are under way.
    sends: Vec<(ConnectionId, SendBatch)>,
    /// What was submitted in this turn beside sends.
    submitted: Vec<Submission>,
}

impl Alone {
    fn new() -> Self {
        Self::with(64 << 20, None)
    }

    /// With another limit of queues, and a time to sign in where that is required.
    fn with(queue_bytes_max: usize, sign_in_timeout_ms: Option<u64>) -> Self {
        let settings = ShardSettings {
            index: ShardIndex(0),
            limits: Limits {
                message_bytes_max: 10 << 10,
                frame_bytes_max: 64 << 10,
                queue_bytes_max,
                rate: Rate { per_second: 0, burst: 0 },
            },
            deadlines: Deadlines {
                keep_alive: KeepAlive { ping_interval_ms: 30_000, idle_timeout_ms: 120_000 },
                drain_timeout_ms: 10_000,
            },
            sign_in_timeout_ms,
            rooms: rooms::RoomSettings { presence: PresencePolicy::UpTo(500), names_max: 500, history: 100 },
        };
        let directory = Directory::new(&["general".to_owned()], 1);
        let metrics = Metrics::new(1, 0, ClientPermits::new(10_000)).shard(0);
        let shard = Shard::new(settings, &directory, Arc::clone(&metrics));
        Self { shard, now_ms: 1, ring: ScriptedRing::default() }
    }

    /// A connection that has been answered.
    fn connect(&mut self, endpoint: Endpoint) -> ConnectionId {
        let admission = Admission {
            endpoint,
            peer: ([127, 0, 0, 1], 40_000).into(),
            response: Bytes::from_static(b"HTTP/1.1 101 Switching Protocols\r\n\r\n"),
            received: Bytes::new(),
            tls: None,
            permit: ClientPermits::new(1).acquire().expect("a place"),
        };
        let id = self.shard.admit(admission, Now { monotonic_ms: self.now_ms, unix_seconds: 0 });
        self.turn();
        self.complete_sends();
        self.turn();
        id
    }

    fn topic(&mut self, members: usize) -> Vec<ConnectionId> {
        (0..members).map(|_| self.connect(Endpoint::Raw { topic: "t".to_owned() })).collect()
    }

    fn queue(&mut self, id: ConnectionId, event: Event) {
        self.ring.events.push_back((id, event));
    }

    fn receives(&mut self, id: ConnectionId, bytes: &[u8]) {
        for piece in bytes.chunks(RECEIVE_BYTES) {
            self.queue(id, Event::Received(piece.to_vec()));
        }
    }

    /// Runs a turn, and says what was submitted beside sends.
    fn turn(&mut self) -> &[Submission] {
        self.ring.submitted.clear();
        let now = Now { monotonic_ms: self.now_ms, unix_seconds: 0 };
        turn::run(&mut self.shard, &mut self.ring, now);
        &self.ring.submitted
    }

    /// Lets every send that is under way leave.
    fn complete_sends(&mut self) {
        let under_way: Vec<_> = self.ring.sends.iter().map(|(id, _)| *id).collect();
        for id in under_way {
            self.queue(id, Event::Sent(Ok(())));
        }
    }

    /// True when something is left to be done at once.
    fn is_busy(&self) -> bool {
        turn::due_ms(&self.shard, self.now_ms).is_some_and(|due_ms| due_ms <= self.now_ms)
    }
}

impl Io for ScriptedRing {
    fn next_completion(&mut self) -> Option<Completion<'_>> {
        let (id, event) = self.events.pop_front()?;
        Some(match event {
            Event::Received(bytes) => {
                self.lent = bytes;
                Completion::Received(id, &self.lent)
            }
            Event::EndOfStream => Completion::EndOfStream(id),
            Event::Closed => Completion::Closed(id),
            Event::Sent(outcome) => {
                let place = self.sends.iter().position(|(of, _)| *of == id).unwrap();
                let (_, batch) = self.sends.swap_remove(place);
                let sent = batch.remaining_bytes();
                Completion::Sent(id, batch, outcome.map(|()| sent).map_err(io::Error::from_raw_os_error))
            }
        })
    }

    fn is_short_of_buffers(&self) -> bool {
        self.is_short_of_buffers
    }

    fn next_receipt(&mut self) -> Option<Receipt> {
        None
    }

    fn write(&mut self, _: Write) {}

    fn next_delivery(&mut self) -> Option<Delivery> {
        None
    }

    fn next_request(&mut self) -> Option<Request> {
        None
    }

    fn has_mail(&self) -> bool {
        false
    }

    fn next_room_wanted(&mut self) -> Option<ShardIndex> {
        None
    }

    fn wake(&mut self, _: ShardIndex) {}

    fn post_delivery(&mut self, _: ShardIndex, _: impl FnOnce() -> Option<Delivery>) -> bool {
        false
    }

    fn post_request(&mut self, _: ShardIndex, _: impl FnOnce() -> Option<Request>) -> bool {
        false
    }

    fn verify(&mut self, _: Attempt<ClientRef>) -> Option<SignInResult> {
        None
    }

    fn submit(&mut self, submission: Submission) {
        match submission {
            Submission::Send(id, batch) => self.sends.push((id, batch)),
            other => self.submitted.push(other),
        }
    }
}

/// A message as a client sends it: one masked frame.
fn message(payload: &'static [u8]) -> Vec<u8> {
    masked(frame::Frame::message(payload, OpCode::Data(Data::Binary), true))
}

fn text(payload: &'static [u8]) -> Vec<u8> {
    masked(frame::Frame::message(payload, OpCode::Data(Data::Text), true))
}

fn masked(mut frame: frame::Frame) -> Vec<u8> {
    frame.header_mut().mask = Some([1, 2, 3, 4]);
    let mut bytes = Vec::new();
    frame.format(&mut bytes).unwrap();
    bytes
}

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
    alone.shard.begin_drain(Now { monotonic_ms: alone.now_ms, unix_seconds: 0 });
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
    let result = SignInResult::Granted { name: "ann".into(), is_admin: false };
    let now = Now { monotonic_ms: alone.now_ms, unix_seconds: 0 };
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
    let result = SignInResult::Granted { name: "bob".into(), is_admin: false };
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
