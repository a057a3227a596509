//! A process of a node: a bridge, its lines to Redis, and what it makes of the log.

use std::sync::Arc;

use uproar_cluster::{
    Bridge, Command, Config, End, Entry, Event, Incarnation, Keys, Left, LiveNode, Mirror, Reply, RoomState,
    Settings, Tag, Terms,
};

use crate::model::Connection;

/// What is on its way on a line.
#[derive(Debug)]
pub(crate) enum Flight<T> {
    /// To Redis, where it is at this time.
    Going(u64, T),
    /// A read that waits for the first entry, until this time.
    Waiting(u64, T),
    /// Back, where it is at this time.
    Coming(u64, Reply),
    /// Nothing comes any more, and nobody says so.
    Lost,
}

/// The two connections of a process.
#[derive(Debug, Default)]
pub(crate) struct Line {
    /// When they are open, while they are not.
    pub(crate) connecting_ms: Option<u64>,
    pub(crate) connection: Connection,
    pub(crate) command: Option<Flight<Command>>,
    /// A read behind an entry, and whether it waits.
    pub(crate) read: Option<Flight<(u64, bool)>>,
    /// Until then nothing arrives.
    pub(crate) stalled_ms: u64,
}

/// What the owner of a bridge answers, some time after it was asked.
#[derive(Debug)]
pub(crate) enum Given {
    Repair(Arc<str>, u64, RoomState),
    Rewrite { rooms: Vec<(Arc<str>, RoomState)>, left: Left, terms: Terms },
}

/// Settings of a run that all processes have alike.
#[derive(Clone, Debug)]
pub(crate) struct Common {
    pub(crate) history: usize,
    pub(crate) log_bytes: u64,
    pub(crate) replicas: u16,
}

pub(crate) struct Process {
    pub(crate) life: LiveNode,
    pub(crate) bridge: Bridge<u64>,
    /// What it has of the log, once it has begun.
    pub(crate) mirror: Option<Mirror>,
    /// The entries that it was told of.
    pub(crate) applied: Vec<(u64, Tag)>,
    pub(crate) end: Option<End>,
    pub(crate) is_killed: bool,
    /// Until then it does nothing.
    pub(crate) paused_ms: u64,
    /// Until then its owner takes no events.
    pub(crate) full_ms: u64,
    pub(crate) line: Line,
    /// Answers of the owner, each with its time; they come in their order.
    pub(crate) given: Vec<(u64, Given)>,
    /// The last ticket that was decided.
    pub(crate) last_ticket: u64,
    /// Up to this entry its own ones are replicated, as it was told.
    pub(crate) replicated: u64,
    /// How often it was woken at this time, and how often Redis has refused it since then.
    pub(crate) woken: (u64, u32),
    pub(crate) refused: (u64, u32),
}

/// How long it is known who has left: shorter than a run, so that some are forgotten.
const LEFT_MS: u64 = 10_000;

impl Process {
    pub(crate) fn new(name: &str, incarnation: u64, common: &Common, now_ms: u64) -> Self {
        let life = LiveNode { node: name.parse().unwrap(), incarnation: Incarnation(incarnation) };
        let config = Config {
            node: life.node.clone(),
            incarnation: life.incarnation,
            keys: Keys::of_partition(0),
            settings: Settings {
                history: common.history,
                log_bytes: common.log_bytes,
                left_ms: LEFT_MS,
                agreed: "the same".to_owned(),
            },
            replicas: common.replicas,
        };
        Self {
            life,
            bridge: Bridge::new(config, now_ms),
            mirror: None,
            applied: Vec::new(),
            end: None,
            is_killed: false,
            paused_ms: 0,
            full_ms: 0,
            line: Line { connecting_ms: Some(now_ms), ..Line::default() },
            given: Vec::new(),
            last_ticket: 0,
            replicated: 0,
            woken: (0, 0),
            refused: (0, 0),
        }
    }

    /// True for one that runs, or will when its pause is over.
    pub(crate) fn is_up(&self) -> bool {
        !self.is_killed && self.end.is_none()
    }

    /// True for one that has rooms and clients.
    pub(crate) fn is_live(&self) -> bool {
        self.is_up() && self.mirror.is_some()
    }

    pub(crate) fn name(&self) -> String {
        format!("{}{}", self.life.node, self.life.incarnation.0)
    }

    /// The next event, if the owner takes one.
    pub(crate) fn poll_event(&mut self, now_ms: u64) -> Option<Event<u64>> {
        if now_ms < self.full_ms { None } else { self.bridge.poll_event() }
    }

    /// An entry follows what it has.
    pub(crate) fn apply(&mut self, entry: &Entry) {
        let name = self.name();
        let mirror =
            self.mirror.as_mut().unwrap_or_else(|| panic!("{name} has an entry before it has begun"));
        assert!(mirror.apply(entry), "{name}: entry {} contradicts what it has: {entry:?}", entry.number);
        if let Some((last, _)) = self.applied.last() {
            assert_eq!(last + 1, entry.number, "{name} misses an entry");
        }
        self.applied.push((entry.number, entry.tag.clone()));
    }
}
