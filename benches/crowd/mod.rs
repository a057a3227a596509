//! A shard with its connections and without a kernel: every send completes at once.

use std::sync::Arc;

use bytes::Bytes;
use tungstenite::protocol::frame::Frame;
use tungstenite::protocol::frame::coding::{Data, OpCode};
use uproar::address::ClientAddress;
use uproar::clock::Now;
use uproar::handshake::route::Endpoint;
use uproar::handshake::{Admission, UpgradeQuery, UpgradeRequest};
use uproar::metrics::Metrics;
use uproar::moderation::Moderation;
use uproar::permit::ClientPermits;
use uproar::rooms::{self, Directory, PresencePolicy, ShardIndex};
use uproar::shard::{Deadlines, Limits, Rate, Shard, ShardSettings};
use uproar::tokens::TokenChecker;
use uproar_protocol::connection::KeepAlive;
use uproar_ring::ConnectionId;
use uproar_ring::{Completion, SendBatch, Submission};

/// The moment at which everything in a benchmark happens.
pub(crate) const NOW: Now = Now { monotonic_ms: 1_000, uptime_ms: 1_000, unix_seconds: 1_700_000_000 };

/// Connections of one shard.
pub(crate) struct Crowd {
    shard: Shard,
    /// In the order in which they came.
    pub(crate) ids: Vec<ConnectionId>,
    sends: Vec<(ConnectionId, SendBatch)>,
}

impl Crowd {
    /// So many connections at one endpoint, all of them members and with empty queues.
    #[must_use]
    pub(crate) fn new(endpoint: &Endpoint, count: usize) -> Self {
        let settings = ShardSettings {
            index: ShardIndex(0),
            limits: Limits {
                message_bytes_max: 10 << 10,
                frame_bytes_max: 64 << 10,
                queue_bytes_max: 1 << 20,
                // One of them speaks in every iteration, far more often than a client may.
                rate: Rate { per_second: 0, burst: 0 },
                topic_rate: Rate { per_second: 0, burst: 0 },
            },
            deadlines: Deadlines {
                keep_alive: KeepAlive { ping_interval_ms: 30_000, idle_timeout_ms: 120_000 },
                drain_timeout_ms: 10_000,
            },
            tokens: TokenChecker::default(),
            sign_in_timeout_ms: None,
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
        let places = ClientPermits::new(count);
        let metrics = Metrics::new(1, 0, places.clone()).shard(0);
        let shard = Shard::new(settings, &directory, Arc::clone(&metrics));
        let mut crowd = Self { shard, ids: Vec::with_capacity(count), sends: Vec::with_capacity(count) };
        for _ in 0..count {
            let response = Bytes::from_static(b"HTTP/1.1 101 Switching Protocols\r\n\r\n");
            let peer = ClientAddress::new([127, 0, 0, 1].into(), Some(40_000));
            let (endpoint, received) = (endpoint.clone(), Bytes::new());
            let permit = places.acquire().expect("a place");
            let query = UpgradeQuery::default();
            let request = UpgradeRequest { endpoint, query, identity: None, peer, response };
            let admission = Admission { request, received, tls: None, permit };
            let id = crowd.shard.admit(admission, NOW);
            crowd.ids.push(id);
            crowd.settle();
        }
        crowd
    }

    /// A turn: these bytes come from a connection, what they lead to is submitted, and every send
    /// completes. Says how many sends there were.
    pub(crate) fn turn(&mut self, from: ConnectionId, received: &[u8]) -> usize {
        self.shard.handle_completion(Completion::Received(from, received), NOW);
        self.settle()
    }

    fn settle(&mut self) -> usize {
        let mut total = 0;
        loop {
            self.shard.handle_turn_end(NOW);
            while let Some(submission) = self.shard.poll_submission(Now::default()) {
                match submission {
                    Submission::Send(id, batch) => self.sends.push((id, batch)),
                    other => panic!("nobody was to leave, and yet: {other:?}"),
                }
            }
            if self.sends.is_empty() {
                return total;
            }
            total += self.sends.len();
            for (id, batch) in self.sends.drain(..) {
                let sent = batch.remaining_bytes();
                self.shard.handle_completion(Completion::Sent(id, batch, Ok(sent)), NOW);
            }
        }
    }
}

/// A message as a client sends it: one masked frame.
#[must_use]
pub(crate) fn client_frame(kind: Data, payload: impl Into<Bytes>) -> Vec<u8> {
    let mut frame = Frame::message(payload, OpCode::Data(kind), true);
    frame.header_mut().mask = Some([0x37, 0xfa, 0x21, 0x3d]);
    let mut encoded = Vec::new();
    frame.format(&mut encoded).expect("writing to a vector does not fail");
    encoded
}
