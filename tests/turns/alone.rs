//! A shard without others, over a ring that completes as a test says.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use tungstenite::protocol::frame;
use tungstenite::protocol::frame::coding::{Data, OpCode};
use uproar::accounts::{Attempt, Identity, SignInResult};
use uproar::address::ClientAddress;
use uproar::clock::Now;
use uproar::handshake::route::Endpoint;
use uproar::handshake::{Admission, UpgradeQuery, UpgradeRequest};
use uproar::mail::{Delivery, LogMail, Request};
use uproar::metrics::{Metrics, ShardMetrics};
use uproar::moderation::Moderation;
use uproar::permit::ClientPermits;
use uproar::rooms::{self, ClientRef, Directory, PresencePolicy, Receipt, ShardIndex, SharedProposal, Write};
use uproar::shard::turn::{self, Io};
use uproar::shard::{Deadlines, Limits, Rate, Shard, ShardSettings};
use uproar::tokens::TokenChecker;
use uproar_protocol::connection::KeepAlive;
use uproar_protocol::tls::TlsStream;
use uproar_ring::ConnectionId;
use uproar_ring::{Completion, SendBatch, Submission, TcpFacts};

/// Bytes of one receive.
pub(crate) const RECEIVE_BYTES: usize = 2_048;

/// An event on a connection, as a test wants it.
pub(crate) enum Event {
    Received(Vec<u8>),
    EndOfStream,
    Closed,
    /// The send under way has left, or failed.
    Sent(Result<(), i32>),
}

/// A shard without others.
pub(crate) struct Alone {
    pub(crate) shard: Shard,
    pub(crate) now_ms: u64,
    pub(crate) unix_seconds: u64,
    pub(crate) ring: ScriptedRing,
    pub(crate) metrics: Arc<ShardMetrics>,
}

/// A ring that completes as a test says.
#[derive(Default)]
pub(crate) struct ScriptedRing {
    pub(crate) events: VecDeque<(ConnectionId, Event)>,
    /// The bytes that the last completion lends.
    pub(crate) lent: Vec<u8>,
    pub(crate) is_short_of_buffers: bool,
    /// Receipts of the storage that come once all events have been handled.
    pub(crate) receipts: VecDeque<Receipt>,
    /// Sends that are under way.
    pub(crate) sends: Vec<(ConnectionId, SendBatch)>,
    /// What was submitted in this turn beside sends.
    pub(crate) submitted: Vec<Submission>,
    /// Requests of others.
    pub(crate) requests: VecDeque<Request>,
    /// The answers to the HTTP API.
    pub(crate) answers: Vec<Delivery>,
    /// The connections of which the kernel's facts were asked.
    pub(crate) asked_of: Vec<ConnectionId>,
}

impl Alone {
    pub(crate) fn new() -> Self {
        Self::with(64 << 20, None)
    }

    /// With another limit of queues, and a time to sign in where that is required.
    pub(crate) fn with(queue_bytes_max: usize, sign_in_timeout_ms: Option<u64>) -> Self {
        let settings = ShardSettings {
            index: ShardIndex(0),
            limits: Limits {
                message_bytes_max: 10 << 10,
                frame_bytes_max: 64 << 10,
                queue_bytes_max,
                rate: Rate { per_second: 0, burst: 0 },
                topic_rate: Rate { per_second: 0, burst: 0 },
            },
            deadlines: Deadlines {
                keep_alive: KeepAlive { ping_interval_ms: 30_000, idle_timeout_ms: 120_000 },
                drain_timeout_ms: 10_000,
            },
            tokens: TokenChecker::default(),
            sign_in_timeout_ms,
            sessions: None,
            anonymous_listen: false,
            moderation: Moderation::default(),
            rooms: rooms::RoomSettings {
                presence: PresencePolicy::UpTo(500),
                names_max: 500,
                history: 100,
                ttl_ms: 600_000,
            },
        };
        let directory = Directory::new(&["general".to_owned()], 1);
        let metrics = Metrics::new(1, 0, ClientPermits::new(10_000)).shard(0);
        let shard = Shard::new(settings, &directory, Arc::clone(&metrics));
        Self { shard, now_ms: 1, unix_seconds: 0, ring: ScriptedRing::default(), metrics }
    }

    /// A connection that has been answered.
    pub(crate) fn connect(&mut self, endpoint: Endpoint) -> ConnectionId {
        self.connect_over(endpoint, None)
    }

    /// As [`Alone::connect`], with the identity of a token.
    pub(crate) fn connect_as(&mut self, endpoint: Endpoint, identity: Identity) -> ConnectionId {
        self.connect_with(endpoint, None, Some(identity))
    }

    /// As [`Alone::connect`], with TLS where there is some.
    pub(crate) fn connect_over(&mut self, endpoint: Endpoint, tls: Option<TlsStream>) -> ConnectionId {
        self.connect_with(endpoint, tls, None)
    }

    fn connect_with(
        &mut self,
        endpoint: Endpoint,
        tls: Option<TlsStream>,
        identity: Option<Identity>,
    ) -> ConnectionId {
        let admission = Admission {
            request: UpgradeRequest {
                endpoint,
                query: UpgradeQuery::default(),
                identity,
                peer: ClientAddress::new([127, 0, 0, 1].into(), Some(40_000)),
                response: Bytes::from_static(b"HTTP/1.1 101 Switching Protocols\r\n\r\n"),
            },
            received: Bytes::new(),
            tls: tls.map(Box::new),
            permit: ClientPermits::new(1).acquire().expect("a place"),
        };
        let id = self
            .shard
            .admit(admission, Now { monotonic_ms: self.now_ms, uptime_ms: self.now_ms, unix_seconds: 0 });
        self.turn();
        self.complete_sends();
        self.turn();
        id
    }

    pub(crate) fn topic(&mut self, members: usize) -> Vec<ConnectionId> {
        (0..members).map(|_| self.connect(Endpoint::Raw { topic: "t".to_owned() })).collect()
    }

    pub(crate) fn queue(&mut self, id: ConnectionId, event: Event) {
        self.ring.events.push_back((id, event));
    }

    pub(crate) fn receives(&mut self, id: ConnectionId, bytes: &[u8]) {
        for piece in bytes.chunks(RECEIVE_BYTES) {
            self.queue(id, Event::Received(piece.to_vec()));
        }
    }

    pub(crate) fn now(&self) -> Now {
        Now { monotonic_ms: self.now_ms, uptime_ms: self.now_ms, unix_seconds: self.unix_seconds }
    }

    /// Runs a turn, and says what was submitted beside sends.
    pub(crate) fn turn(&mut self) -> &[Submission] {
        self.ring.submitted.clear();
        let now = self.now();
        turn::run(&mut self.shard, &mut self.ring, now);
        &self.ring.submitted
    }

    /// Lets every send that is under way leave.
    pub(crate) fn complete_sends(&mut self) {
        let under_way: Vec<_> = self.ring.sends.iter().map(|(id, _)| *id).collect();
        for id in under_way {
            self.queue(id, Event::Sent(Ok(())));
        }
    }

    /// Runs turns until nothing is left to be done at once.
    pub(crate) fn turns_until_idle(&mut self) {
        let mut turns = 0;
        while self.is_busy() {
            self.turn();
            turns += 1;
            assert!(turns <= 100, "it is not idle");
        }
    }

    /// True when something is left to be done at once.
    pub(crate) fn is_busy(&self) -> bool {
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
        if self.events.is_empty() { self.receipts.pop_front() } else { None }
    }

    fn write(&mut self, _: Write) {}

    fn propose(&mut self, proposal: SharedProposal) {
        unreachable!("{proposal:?} without a cluster")
    }

    fn post_to_log(&mut self, mail: LogMail) {
        unreachable!("{mail:?} without a cluster")
    }

    fn next_delivery(&mut self) -> Option<Delivery> {
        None
    }

    fn next_request(&mut self) -> Option<Request> {
        self.requests.pop_front()
    }

    fn has_mail(&self) -> bool {
        !self.requests.is_empty()
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

    fn post_to_api(&mut self, delivery: Delivery) {
        self.answers.push(delivery);
    }

    fn tcp_facts(&mut self, id: ConnectionId) -> Option<TcpFacts> {
        let is_closed = self
            .submitted
            .iter()
            .any(|submission| matches!(submission, Submission::Close(of, _) if *of == id));
        assert!(!is_closed, "{id} is asked of behind its close");
        self.asked_of.push(id);
        None
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
pub(crate) fn message(payload: &'static [u8]) -> Vec<u8> {
    masked(frame::Frame::message(payload, OpCode::Data(Data::Binary), true))
}

pub(crate) fn text(payload: &'static [u8]) -> Vec<u8> {
    masked(frame::Frame::message(payload, OpCode::Data(Data::Text), true))
}

pub(crate) fn masked(mut frame: frame::Frame) -> Vec<u8> {
    frame.header_mut().mask = Some([1, 2, 3, 4]);
    let mut bytes = Vec::new();
    frame.format(&mut bytes).unwrap();
    bytes
}
