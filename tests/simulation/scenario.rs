//! What one seed is about: sizes, limits and habits, drawn once at the start. Extremes are drawn often,
//! and each habit is missing in some seeds, because many faults show only when something else is away.

use uproar::moderation::Moderation;
use uproar::rooms::{self, PresencePolicy, ShardIndex};
use uproar::sessions::{SessionKey, SessionSigner};
use uproar::shard::{Deadlines, Limits, Rate, SessionSettings, ShardSettings};
use uproar::tokens::TokenChecker;
use uproar_protocol::connection::KeepAlive;
use uproar_ring::SharedBytes;

use crate::random::Random;

/// Longer than any run, up to its end.
pub(crate) const SESSION_MS_AMPLE: u64 = 1 << 30;

/// The longest message that clients put into a room.
pub(crate) const CONTENT_BYTES_MAX: usize = 3_000;

/// What the names of rooms begin with that clients create.
pub(crate) const ON_DEMAND: &str = "team-";

#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    pub(crate) shards: u16,
    pub(crate) rooms: Vec<String>,
    /// Rooms that clients create; in some seeds none.
    pub(crate) rooms_on_demand: Vec<String>,
    /// How many of them there are at most, and how long an empty one is kept.
    pub(crate) rooms_max: usize,
    pub(crate) room_ttl_ms: u64,
    pub(crate) topics: Vec<String>,
    /// Messages of one class that a mailbox holds.
    pub(crate) mailbox_messages_max: usize,
    pub(crate) limits: Limits,
    pub(crate) deadlines: Deadlines,
    pub(crate) presence: PresencePolicy,
    pub(crate) history: usize,
    /// Steps before everything is allowed to come to rest.
    pub(crate) steps: usize,
    /// Connections at a time, and in all.
    pub(crate) clients_max: usize,
    pub(crate) arrivals_max: usize,
    /// How the run ends: by a shutdown, or by everyone leaving.
    pub(crate) ends_by_drain: bool,
    /// Whether messages are acknowledged only when they are on the disk.
    pub(crate) is_durable: bool,
    /// Message ids that the storage reserves ahead.
    pub(crate) reserved_ahead: u64,
    /// Whether rooms open before the storage has reserved any.
    pub(crate) opens_early: bool,
    /// Whether that disk fails now and then.
    pub(crate) has_failing_disk: bool,
    /// How chat clients come back as the same users.
    pub(crate) sessions: Option<SessionSettings>,
    pub(crate) chances: Chances,
}

/// Times in a hundred that something happens when it could.
#[derive(Clone, Debug)]
pub(crate) struct Chances {
    pub(crate) received: usize,
    pub(crate) taken: usize,
    pub(crate) sent: usize,
    pub(crate) short: usize,
    pub(crate) closed: usize,
    pub(crate) mail: usize,
    pub(crate) commit: usize,
    pub(crate) jump: usize,
    pub(crate) stall: usize,
    pub(crate) farewell: usize,
    pub(crate) mischief: usize,
    pub(crate) flood: usize,
    pub(crate) move_room: usize,
    pub(crate) send_failure: usize,
    /// Among the chat clients that connect, those that come back.
    pub(crate) comes_back: usize,
    /// That a backend closes a room that clients have created.
    pub(crate) close_room: usize,
}

impl Scenario {
    pub(crate) fn draw(random: &mut Random) -> Self {
        let shards = random.between(1, 4) as u16;
        let names = ["general", "random", "gaming", "music"].map(String::from);
        let rooms = names[..random.between(1, 4)].to_vec();
        let rooms_on_demand: Vec<String> = match random.percent(60) {
            true => (0..random.between(1, 6)).map(|number| format!("{ON_DEMAND}{number}")).collect(),
            false => Vec::new(),
        };
        let topics = ["", "news", "ticks"].map(String::from)[..random.between(1, 3)].to_vec();
        let is_flooded = random.percent(10);
        let frame_bytes_max = if random.percent(6) { 150_000 } else { 16_384 };
        let queue_bytes_max = match random.below(4) {
            0 => random.between(1_000, 4_000),
            1 => random.between(4_000, 30_000),
            _ => 1 << 20,
        };
        let rate = match random.below(4) {
            0 => Rate { per_second: random.between(1, 50) as u32, burst: random.between(1, 20) as u32 },
            _ => Rate { per_second: 0, burst: 0 },
        };
        let ping_interval_ms = *random.pick(&[200, 2_000, 30_000]);
        let topic_rate = match random.below(5) {
            0 => random.between(1, 50) as u32,
            _ => 0,
        };
        let topic_rate = Rate { per_second: topic_rate, burst: 2 * topic_rate };
        let limits = Limits { message_bytes_max: 4_096, frame_bytes_max, queue_bytes_max, rate, topic_rate };
        let deadlines = Deadlines {
            keep_alive: KeepAlive { ping_interval_ms, idle_timeout_ms: ping_interval_ms * 4 },
            drain_timeout_ms: *random.pick(&[500, 3_000, 10_000]),
        };
        let presence = match random.below(6) {
            0 | 1 => PresencePolicy::Exact,
            2 => PresencePolicy::Count(random.between(1, 8)),
            3 => PresencePolicy::UpTo(500),
            _ => PresencePolicy::UpTo(random.between(1, 5)),
        };
        let often = |random: &mut Random| *random.pick(&[10, 30, 60, 90, 100]);
        let seldom =
            |random: &mut Random, most: usize| if random.percent(40) { 0 } else { random.between(1, most) };
        let is_durable = random.percent(50);
        let close_room = if rooms_on_demand.is_empty() { 0 } else { *random.pick(&[0, 2, 10]) };
        // While messages are lost, one life of a room has several epochs, and a client cannot tell them apart.
        let has_failing_disk = is_durable && rooms_on_demand.is_empty() && random.percent(60);
        Self {
            shards,
            rooms,
            rooms_max: if random.percent(70) { random.between(1, 3) } else { 100 },
            room_ttl_ms: *random.pick(&[1, 50, 1_000, 600_000]),
            rooms_on_demand,
            topics,
            mailbox_messages_max: if random.percent(70) { random.between(1, 8) } else { 4_096 },
            limits,
            deadlines,
            presence,
            history: *random.pick(&[0, 1, 3, 10, 100]),
            steps: random.between(50, 500),
            clients_max: random.between(2, 9),
            arrivals_max: random.between(4, 24),
            // While input is held back ahead of the end, a flood is what is held.
            ends_by_drain: random.percent(if is_flooded { 70 } else { 30 }),
            is_durable,
            // As the server's own storage does; or so few that messages have to wait for more.
            reserved_ahead: if random.percent(50) { 1 << 16 } else { random.between(1, 8) as u64 },
            opens_early: random.percent(50),
            has_failing_disk,
            sessions: random.percent(80).then(|| SessionSettings {
                signer: SessionSigner::new(&SessionKey::random(), [0; 16]),
                kept_max: usize::MAX,
                timeout_ms: *random.pick(&[1, 50, 5_000, SESSION_MS_AMPLE, SESSION_MS_AMPLE]),
            }),
            chances: Chances {
                received: often(random),
                taken: often(random),
                sent: often(random),
                short: *random.pick(&[0, 20, 80]),
                closed: often(random),
                mail: often(random),
                commit: *random.pick(&[1, 5, 30, 100]),
                jump: seldom(random, 4),
                stall: seldom(random, 10),
                farewell: seldom(random, 8),
                mischief: seldom(random, 5),
                flood: if is_flooded { 4 } else { 0 },
                move_room: *random.pick(&[0, 10, 50]),
                send_failure: seldom(random, 4),
                comes_back: *random.pick(&[0, 30, 90]),
                close_room,
            },
        }
    }

    pub(crate) fn settings(&self, index: u16) -> ShardSettings {
        ShardSettings {
            index: ShardIndex(index),
            limits: self.limits,
            deadlines: self.deadlines,
            moderation: Moderation::default(),
            rooms: rooms::RoomSettings {
                presence: self.presence,
                names_max: self.names_max(),
                history: self.history,
                ttl_ms: self.room_ttl_ms,
            },
            tokens: TokenChecker::default(),
            sign_in_timeout_ms: None,
            sessions: self.sessions.clone(),
            anonymous_listen: false,
        }
    }

    /// True when every coming and going is announced one by one.
    pub(crate) fn is_presence_exact(&self) -> bool {
        match self.presence {
            PresencePolicy::Exact => true,
            PresencePolicy::UpTo(limit) => limit > self.clients_max * 4,
            PresencePolicy::Count(_) => false,
        }
    }

    /// True when members of closed rooms come to the first one. Nobody asks for that then, so it is known why one comes there.
    pub(crate) fn closes_rooms(&self) -> bool {
        self.chances.close_room > 0
    }

    /// True when no session expires while somebody could come back.
    pub(crate) fn are_sessions_ample(&self) -> bool {
        self.sessions.as_ref().is_some_and(|sessions| sessions.timeout_ms == SESSION_MS_AMPLE)
    }

    /// The most names that hub clients are told.
    pub(crate) fn names_max(&self) -> usize {
        match self.presence {
            PresencePolicy::UpTo(limit) | PresencePolicy::Count(limit) => limit,
            PresencePolicy::Exact => 3,
        }
    }

    pub(crate) fn is_rate_limited(&self) -> bool {
        self.limits.rate.per_second > 0
    }

    /// True when no client can fill its queue unless it stops reading or somebody floods.
    pub(crate) fn is_queue_ample(&self) -> bool {
        self.limits.queue_bytes_max == 1 << 20
            && self.chances.flood == 0
            && self.limits.frame_bytes_max < 100_000
    }

    /// More than a join can send: the answer to the upgrade, `welcome`, `users` and `history`; and a pong, and
    /// the last frame, for which a queue always has a place.
    pub(crate) fn join_bytes_max(&self) -> usize {
        1_000
            + 6 * SharedBytes::OVERHEAD_BYTES
            + self.arrivals_max * 200
            + self.history * (CONTENT_BYTES_MAX * 2 + 300)
    }
}
