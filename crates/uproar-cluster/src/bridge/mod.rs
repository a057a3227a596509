//! One partition's log as a node uses it: proposals go in, entries come out.
//!
//! The bridge does no input or output. The thread around it does what [`Bridge::poll_action`] asks for, hands over what
//! Redis answers, and tells when connections are lost. So a simulation can break Redis at any step.

mod acting;
mod actions;
mod contents;
mod ending;
mod interface;
mod leaving;
mod observed;
mod outgoing;
mod peers;
mod reading;
mod replicas;
mod replies;
mod sweep;
mod sweeping;
mod tail;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use self::acting::Acting;
pub use self::interface::{Action, Config, End, Event};
use self::leaving::Leaving;
pub(crate) use self::observed::Observation;
use self::observed::Observed;
use self::outgoing::Outgoing;
use self::peers::Peers;
use self::replicas::Replicas;
use self::sweep::Sweep;
use self::tail::Tail;
use crate::loader::Loader;
use crate::{Chain, Command, Mirror, Proposal, Recovery, Tag};

/// How often a node shows that it is there, in milliseconds.
const CANARY_MS: u64 = 1_000;

/// How long an answer may take, in milliseconds, before the connection counts as half-dead. It is also the longest time
/// between an answer to a batch and its entry.
const ANSWER_MS_MAX: u64 = 3_000;

/// How long a node may be without an answered batch, in milliseconds, until it must have one before it goes on: others
/// may have declared it gone.
const TRUSTED_MS: u64 = 10_000;

/// How long a node may be without a connection, in milliseconds, until Redis counts as gone, and the node no longer as
/// one that has slept: then it goes on from its memory.
const LOST_MS: u64 = 3_000;

/// How often a recovery is looked at, and a refused batch sent again, in milliseconds.
const RETRY_MS: u64 = 50;

/// How often damaged rooms are asked for, in milliseconds.
const DAMAGED_MS: u64 = 1_000;

/// The words of a Redis that is no primary, or not that of these keys. One that becomes a replica ends a read that
/// waits with `UNBLOCKED`.
const ELSEWHERE: [&str; 5] = ["READONLY ", "UNBLOCKED ", "MASTERDOWN ", "MOVED ", "CLUSTERDOWN "];

/// How long Redis may be out of reach before proposals are refused, in milliseconds, at least: see [`Bridge::propose`].
const OUT_OF_REACH_MS: u64 = 500;

/// A bridge. `T` is what the caller remembers of a proposal.
#[derive(Debug)]
pub struct Bridge<T> {
    config: Config,
    stage: Stage,
    is_connected: bool,
    /// Since when it is not, as far as the clock was looked at.
    lost_ms: Option<u64>,
    /// What was sent on the connection for commands, and when.
    running: Option<(Running, u64)>,
    /// True once Redis has said that it is no primary.
    is_elsewhere: bool,
    /// False while the caller has no room for events.
    may_read: bool,
    /// Since when entries are read.
    reading_ms: Option<u64>,
    /// True when that was asked for ahead of a recovery: what it brings may be lost.
    is_read_stale: bool,
    /// Not before this time is the next command sent.
    retry_ms: u64,
    /// Nor entries read.
    retry_read_ms: u64,
    /// Why Redis does not take batches, if it does not.
    trouble: Option<String>,
    /// When Redis has last answered a batch, if only to refuse it.
    answered_ms: u64,
    /// When the oldest batch was answered whose entry was not read yet.
    unseen_ms: Option<u64>,
    canary_due_ms: u64,
    replicas: Replicas,
    outgoing: Outgoing<T>,
    chain: Chain,
    tail: Tail,
    peers: Peers,
    /// True once the first batch was seen in the log.
    has_begun: bool,
    /// How many times the epoch has changed since the log began.
    raised: u64,
    /// The next block of user ids.
    numbers: u64,
    /// Until the node has begun.
    mirror: Mirror,
    /// To repair: rooms that the caller has given.
    repairs: VecDeque<Command>,
    /// When damaged rooms are asked for, if there are any.
    damaged_due_ms: Option<u64>,
    /// The damaged rooms that were told of, each with the entry by which it was damaged.
    damaged: BTreeMap<Arc<str>, u64>,
    /// The last entry that was in the log when that was read.
    loaded: u64,
    /// Set while members of nodes that are gone are removed from Redis.
    sweep: Option<Sweep>,
    /// Set while the node ends in order.
    leaving: Option<Leaving>,
    events: VecDeque<Event<T>>,
    observed: Observed,
    /// The last entry that is in the log for certain.
    log_end: u64,
    /// True while a recovery was seen, and not its end.
    is_recovering: bool,
}

#[derive(Debug)]
enum Stage {
    /// Looking whether the log lives.
    Looking,
    /// Claiming a recovery, to act in it.
    Claiming(Box<Recovery>),
    /// Reading what Redis has.
    Loading(Box<Loader>),
    /// Looking whether the last entry is still the one that was read.
    Checking,
    /// Reading entries until there is no more.
    CatchingUp,
    /// The first batch is on its way.
    Beginning,
    Live,
    /// This node brings the log back.
    Acting(Box<Acting>),
    Ended,
}

/// The command under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Running {
    Look,
    Claim,
    Load,
    Check,
    Batch {
        number: u64,
        proposals: usize,
        payload_bytes: usize,
    },
    Act {
        /// Whether the rooms to write were still awaited.
        is_waiting: bool,
    },
    /// Asking what the replicas have.
    Wait,
    /// Reading rosters.
    Sweep {
        /// Of which sweep.
        begun_at: u64,
    },
    AskForDamaged,
    Repair,
}

impl<T: Copy> Bridge<T> {
    /// A bridge without a connection.
    #[must_use]
    pub fn new(config: Config, now_ms: u64) -> Self {
        let first = Tag { node: config.node.clone(), incarnation: config.incarnation, batch: 0 };
        Self {
            stage: Stage::Looking,
            is_connected: false,
            lost_ms: None,
            running: None,
            is_elsewhere: false,
            may_read: true,
            reading_ms: None,
            is_read_stale: false,
            retry_ms: 0,
            retry_read_ms: 0,
            trouble: None,
            answered_ms: now_ms,
            unseen_ms: None,
            canary_due_ms: 0,
            replicas: Replicas::new(config.replicas),
            outgoing: Outgoing::new(first),
            chain: Chain::default(),
            tail: Tail::default(),
            peers: Peers::default(),
            has_begun: false,
            raised: 0,
            numbers: 0,
            mirror: Mirror::new(&config.settings),
            repairs: VecDeque::new(),
            damaged_due_ms: None,
            damaged: BTreeMap::new(),
            loaded: 0,
            sweep: None,
            leaving: None,
            events: VecDeque::new(),
            observed: Observed::default(),
            log_end: 0,
            is_recovering: false,
            config,
        }
    }

    /// Proposes a change. The outcome follows in an [`Event::Entry`]. While Redis cannot be reached, a proposal that
    /// was never sent is refused after `timeout_ms`, if there is one. The caller bounds the number of proposals without
    /// an outcome: see [`Bridge::unanswered`].
    pub fn propose(&mut self, proposal: Proposal, ticket: Option<T>, timeout_ms: Option<u64>, now_ms: u64) {
        if self.leaving.is_some() {
            self.refuse(ticket);
        } else {
            self.outgoing.push(proposal, ticket, timeout_ms, now_ms);
        }
    }

    /// Proposals without an outcome.
    #[must_use]
    pub fn unanswered(&self) -> usize {
        self.outgoing.len()
    }

    /// True once the node has begun, until the end.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.has_begun && !matches!(self.stage, Stage::Ended)
    }

    /// Why Redis takes no batches now; `None` while it does.
    #[must_use]
    pub fn trouble(&self) -> Option<&str> {
        match &self.stage {
            Stage::Live if self.is_connected => self.trouble.as_deref(),
            Stage::Looking | Stage::Claiming(_) | Stage::Acting(_) if self.is_connected => {
                Some(self.trouble.as_deref().unwrap_or("the log is being recovered"))
            }
            Stage::Ended => Some("the node has ended"),
            _ if self.is_connected => Some(self.trouble.as_deref().unwrap_or("the log is being read")),
            _ => Some("Redis cannot be reached"),
        }
    }

    /// The number of the last entry that was read.
    #[must_use]
    pub fn last_read(&self) -> u64 {
        self.chain.number()
    }

    /// False for a node whose batches were without an answer for so long that others may have declared it gone: it is to take
    /// no input until it has one. Redis that refuses them has answered. True again once Redis was not found for a while, as no
    /// node does that has merely slept: then clients are answered from memory.
    #[must_use]
    pub fn is_trusted(&self, now_ms: u64) -> bool {
        let is_over = |since_ms: u64, limit_ms| now_ms.saturating_sub(since_ms) >= limit_ms;
        !is_over(self.answered_ms, TRUSTED_MS)
            || self.lost_ms.is_some_and(|lost_ms| is_over(lost_ms, LOST_MS))
    }

    /// Both connections are open.
    pub fn handle_connected(&mut self, now_ms: u64) {
        (self.is_connected, self.lost_ms) = (true, None);
        self.retry_ms = now_ms;
        if !matches!(self.stage, Stage::Ended) {
            self.stage = Stage::Looking;
        }
    }

    /// A connection is lost, or was never there.
    pub fn handle_disconnected(&mut self) {
        self.is_connected = false;
        (self.running, self.reading_ms, self.unseen_ms) = (None, None, None);
        (self.is_elsewhere, self.is_read_stale) = (false, false);
        self.replicas.handle_disconnected();
        self.outgoing.doubt_all();
        self.forget_repairs();
    }

    /// Pauses and resumes reading. A caller pauses it while it has no room for events; batches and canaries are still
    /// sent.
    pub fn set_may_read(&mut self, may_read: bool, now_ms: u64) {
        if may_read && !self.may_read {
            // What was not read is not lost.
            self.unseen_ms = self.unseen_ms.map(|_| now_ms);
        }
        self.may_read = may_read;
    }

    fn try_again(&mut self, trouble: String, now_ms: u64) {
        self.is_elsewhere = ELSEWHERE.iter().any(|word| trouble.contains(word));
        self.trouble = Some(trouble);
        self.retry_ms = now_ms + RETRY_MS;
    }

    /// Handles deadlines that are due.
    pub fn handle_tick(&mut self, now_ms: u64) {
        self.give_up_leaving(now_ms);
        if !self.is_connected {
            self.lost_ms.get_or_insert(now_ms);
        }
        if matches!(self.stage, Stage::Live) && self.leaving.is_none() && now_ms >= self.canary_due_ms {
            self.canary_due_ms = now_ms + CANARY_MS;
            // Where Redis is gone, those of the meantime would come all at once.
            self.outgoing.push_canary(now_ms);
        }
        if self.is_out_of_reach(now_ms) {
            let (overdue, proposals) = self.outgoing.take_overdue(now_ms);
            self.events.extend(overdue.into_iter().map(Event::Refused));
            if proposals > 0 {
                self.observed.push(Observation::TimedOut { proposals });
            }
        }
    }

    /// True while Redis takes nothing. One that is merely slow takes something.
    fn is_out_of_reach(&self, now_ms: u64) -> bool {
        now_ms >= self.out_of_reach_ms()
    }

    /// What was to be repaired is asked for again.
    fn forget_repairs(&mut self) {
        self.repairs.clear();
        self.damaged.clear();
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<Event<T>> {
        self.events.pop_front()
    }

    /// The next thing that happened.
    pub(crate) fn poll_observation(&mut self) -> Option<Observation> {
        self.observed.pop()
    }

    /// Notes how far what was read is behind the log.
    pub(super) fn note_behind(&mut self) {
        let entries = self.log_end.saturating_sub(self.chain.number());
        self.observed.push(Observation::Behind { entries });
    }

    pub(super) fn note_recovery(&mut self, is_recovering: bool) {
        if self.is_recovering != is_recovering {
            self.is_recovering = is_recovering;
            let observation =
                if is_recovering { Observation::RecoveryBegan } else { Observation::RecoveryEnded };
            self.observed.push(observation);
        }
    }

    /// How many replicas must have an entry.
    pub(crate) fn replicas_wanted(&self) -> u16 {
        self.config.replicas
    }
}
