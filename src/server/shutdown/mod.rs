//! Shutdown: the order in which a server ends.
//!
//! A [`Coordinator`] decides what happens between the order to shut down and the end of the server: acceptors stop handing
//! connections over, all shards go through the stages of [`crate::shard::stage`] together, and threads that are late
//! are not waited for. It owns no thread, socket or clock. The leading thread drives it with the reports of the other
//! threads, and the simulation with those of its models.
//!
//! How the drain timeout is spent, counted from the order:
//!
//! ```text
//! 0 ............ 1/4 ........................................ 1 ............ + STOP_TIMEOUT_MS
//! acceptors stop, │ connections are closed, at a pace that     │ shards and      │ the server ends
//! shards settle   │ takes half of the timeout; answers have    │ acceptors       │ without them
//!                 │ the rest                                   │ return          │
//! ```
//!
//! Each part begins as soon as the one before it is done, and at the latest at the time shown.

use std::collections::VecDeque;

use crate::shard::stage::Stage;

/// The part of the drain timeout in which acceptors stop, and shards handle the requests of clients and store
/// it. Then connections are closed all the same: closing takes half of the timeout, and the answers have the rest.
const SETTLE_PART: u64 = 4;

/// How long threads may take to return after the drain timeout, in milliseconds.
pub const STOP_TIMEOUT_MS: u64 = 3_000;

/// Leads acceptors and shards from the order to the end.
///
/// Driving rule: after every `handle_*`, poll actions until `None` and carry each out in the order in which it comes;
/// then wait for the next event, and no longer than until [`Coordinator::next_due_ms`], when
/// [`Coordinator::handle_timeout`] is due. The last action is [`Action::Exit`]; behind it, events have no effect.
///
/// `E` is the error of a failed thread.
#[derive(Debug)]
pub struct Coordinator<E> {
    drain_timeout_ms: u64,
    /// Present after the order.
    deadlines: Option<Deadlines>,
    /// The stage that the shards are to be in.
    stage: Stage,
    /// For each shard the last stage that it has reached.
    reached: Vec<Stage>,
    /// For each acceptor whether it may still hand connections over.
    is_handing_over: Vec<bool>,
    actions: VecDeque<Action<E>>,
    /// True once [`Action::Exit`] is among the actions.
    has_ended: bool,
}

/// An action for the leading thread.
#[derive(Debug, PartialEq, Eq)]
pub enum Action<E> {
    /// Have acceptors hand nothing over any more, and answer requests with 503 `draining`. Each confirms it with
    /// [`Coordinator::handle_acceptor_drained`].
    DrainAcceptors,
    /// Have all shards begin this stage. Each confirms it with [`Coordinator::handle_stage_reached`], except for
    /// [`Stage::Stopped`], behind which its thread ends.
    BeginStage(Stage),
    /// Stop listening, and have acceptors return.
    StopAcceptors,
    /// Log this.
    Log(Notice),
    /// End the server, without waiting for anything else.
    Exit(Exit<E>),
}

/// A notice for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// The shutdown has begun.
    ShuttingDown,
    /// Its first part took too long, so connections are closed before all messages were stored and answered.
    SettleTimedOut,
    /// The drain timeout is over, and the remaining connections end without a close handshake.
    DrainTimedOut,
}

/// How a server ends.
#[derive(Debug, PartialEq, Eq)]
pub enum Exit<E> {
    /// All threads have ended.
    Complete,
    /// The shutdown was cut short.
    Interrupted,
    /// A thread did not end in time.
    NotStopped,
    /// A thread has failed.
    Failed(E),
}

/// By when each part of a shutdown must be over.
#[derive(Clone, Copy, Debug)]
struct Deadlines {
    settle_ms: u64,
    drain_ms: u64,
    stop_ms: u64,
}

impl<E> Coordinator<E> {
    /// A server that serves, with this many shards and acceptors.
    #[must_use]
    pub fn new(shards: usize, acceptors: usize, drain_timeout_ms: u64) -> Self {
        Self {
            drain_timeout_ms,
            deadlines: None,
            stage: Stage::Serving,
            reached: vec![Stage::Serving; shards],
            is_handing_over: vec![true; acceptors],
            actions: VecDeque::new(),
            has_ended: false,
        }
    }

    /// The order to shut down. Another one changes nothing.
    pub fn handle_shutdown(&mut self, now_ms: u64) {
        if self.has_ended || self.deadlines.is_some() {
            return;
        }
        let drain_ms = now_ms.saturating_add(self.drain_timeout_ms);
        self.deadlines = Some(Deadlines {
            settle_ms: now_ms.saturating_add(self.drain_timeout_ms / SETTLE_PART),
            drain_ms,
            stop_ms: drain_ms.saturating_add(STOP_TIMEOUT_MS),
        });
        self.actions.extend([Action::Log(Notice::ShuttingDown), Action::DrainAcceptors]);
        self.advance();
    }

    /// The order to end at once.
    pub fn handle_interrupt(&mut self) {
        self.exit(Exit::Interrupted);
    }

    /// An acceptor hands nothing over any more; what it has handed over by now is in the shards' queues.
    pub fn handle_acceptor_drained(&mut self, acceptor: usize) {
        self.is_handing_over[acceptor] = false;
        self.advance();
    }

    /// A shard has reached a stage.
    pub fn handle_stage_reached(&mut self, shard: usize, stage: Stage) {
        self.reached[shard] = self.reached[shard].max(stage);
        self.advance();
    }

    /// A thread has failed, which ends the server.
    pub fn handle_failure(&mut self, error: E) {
        self.exit(Exit::Failed(error));
    }

    /// All threads have ended.
    pub fn handle_all_ended(&mut self) {
        self.exit(Exit::Complete);
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now_ms: u64) {
        let Some(deadlines) = self.deadlines.filter(|_| !self.has_ended) else { return };
        if now_ms >= deadlines.settle_ms && self.stage < Stage::Draining {
            self.actions.push_back(Action::Log(Notice::SettleTimedOut));
            self.begin(Stage::Draining);
        }
        if now_ms >= deadlines.drain_ms && self.stage < Stage::Stopped {
            self.actions.push_back(Action::Log(Notice::DrainTimedOut));
            self.begin(Stage::Stopped);
            // From now on, not from when this was due: after a pause of the whole process, threads have their time,
            // too.
            let stop_ms = now_ms.saturating_add(STOP_TIMEOUT_MS);
            self.deadlines = Some(Deadlines { stop_ms, ..deadlines });
        } else if now_ms >= deadlines.stop_ms {
            self.exit(Exit::NotStopped);
        }
    }

    /// When [`Coordinator::handle_timeout`] is due; `None` while the server serves, and behind its end.
    #[must_use]
    pub fn next_due_ms(&self) -> Option<u64> {
        let deadlines = self.deadlines.filter(|_| !self.has_ended)?;
        Some(match self.stage {
            Stage::Stopped => deadlines.stop_ms,
            Stage::Draining => deadlines.drain_ms,
            Stage::Serving | Stage::ReadingStopped | Stage::Answered | Stage::Moved | Stage::Settled => {
                deadlines.settle_ms
            }
        })
    }

    /// The next thing to be done.
    #[must_use]
    pub fn poll_action(&mut self) -> Option<Action<E>> {
        self.actions.pop_front()
    }

    /// Begins the next stage when the present one is over.
    fn advance(&mut self) {
        if self.deadlines.is_none() || self.has_ended {
            return;
        }
        while self.stage < Stage::Stopped && self.is_stage_over() {
            self.begin(self.stage.next());
        }
    }

    fn is_stage_over(&self) -> bool {
        match self.stage {
            // The first stage begins with a turn that admits what was handed over. So nothing may follow it.
            Stage::Serving => !self.is_handing_over.contains(&true),
            stage => self.reached.iter().all(|reached| *reached >= stage),
        }
    }

    fn begin(&mut self, stage: Stage) {
        debug_assert!(stage > self.stage, "Bug: from {:?} back to {stage:?}", self.stage);
        self.stage = stage;
        self.actions.push_back(Action::BeginStage(stage));
        if stage == Stage::Stopped {
            self.actions.push_back(Action::StopAcceptors);
        }
    }

    fn exit(&mut self, exit: Exit<E>) {
        if !self.has_ended {
            self.has_ended = true;
            self.actions.push_back(Action::Exit(exit));
        }
    }
}

#[cfg(test)]
mod tests;
