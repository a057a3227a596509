//! A server's end: the coordinator of `uproar::server::shutdown`, and what its actions have done to a model of acceptors
//! and to the shards so far.

use uproar::server::shutdown::{Action, Coordinator, Exit, Notice};
use uproar::shard::stage::Stage;

use crate::random::Random;
use crate::scenario::Scenario;
use crate::violation::{Checked, ensure};

const ACCEPTORS: usize = 2;

/// Longer than any run.
const AMPLE_TIMEOUT_MS: u64 = 1 << 40;

#[derive(Debug)]
pub(crate) struct Shutdown {
    coordinator: Coordinator<&'static str>,
    /// Where the shards are to be.
    pub(crate) stage: Stage,
    /// True once acceptors are to hand nothing over any more.
    is_draining: bool,
    /// For each acceptor whether it knows that.
    has_drained: [bool; ACCEPTORS],
    /// True once connections are closed before everything was dealt with, which ends the promises of a shutdown.
    pub(crate) is_cut_short: bool,
    /// True once the remaining connections are to end at once. The model's shards close them all the same.
    is_timed_out: bool,
    exit: Option<Exit<&'static str>>,
}

impl Shutdown {
    /// None yet. Some have so little time that they are cut short.
    pub(crate) fn draw(scenario: &Scenario, random: &mut Random) -> Self {
        let is_ample = random.percent(80);
        let drain_timeout_ms = if is_ample { AMPLE_TIMEOUT_MS } else { scenario.deadlines.drain_timeout_ms };
        Self {
            coordinator: Coordinator::new(usize::from(scenario.shards), ACCEPTORS, drain_timeout_ms),
            stage: Stage::Serving,
            is_draining: false,
            has_drained: [false; ACCEPTORS],
            is_cut_short: false,
            is_timed_out: false,
            exit: None,
        }
    }

    pub(crate) fn begin(&mut self, now_ms: u64) {
        self.coordinator.handle_shutdown(now_ms);
        self.carry_out();
    }

    /// Whether an acceptor hands a connection over.
    pub(crate) fn hands_over(&self, random: &mut Random) -> bool {
        !*random.pick(&self.has_drained)
    }

    /// Lets an acceptor see that it is to hand nothing over any more.
    pub(crate) fn drain_acceptor(&mut self, random: &mut Random) {
        if self.is_draining {
            let acceptor = random.below(ACCEPTORS);
            self.has_drained[acceptor] = true;
            self.coordinator.handle_acceptor_drained(acceptor);
            self.carry_out();
        }
    }

    pub(crate) fn handle_stage_reached(&mut self, shard: usize, stage: Stage) {
        self.coordinator.handle_stage_reached(shard, stage);
        self.carry_out();
    }

    pub(crate) fn handle_time(&mut self, now_ms: u64) {
        if self.coordinator.next_due_ms().is_some_and(|due_ms| due_ms <= now_ms) {
            self.coordinator.handle_timeout(now_ms);
            self.carry_out();
        }
    }

    /// True while connections are closed of which every message was dealt with.
    pub(crate) fn is_settled(&self) -> bool {
        self.stage >= Stage::Draining && !self.is_cut_short
    }

    /// Everyone has gone: all shards have been told to stop, and then the server ends.
    pub(crate) fn check_end(&mut self) -> Checked {
        ensure!(Settled, self.stage == Stage::Stopped, "the server stays in {:?}", self.stage);
        self.coordinator.handle_all_ended();
        self.carry_out();
        let is_expected = match self.exit {
            Some(Exit::Complete) => true,
            Some(Exit::NotStopped) => self.is_timed_out,
            _ => false,
        };
        ensure!(Settled, is_expected, "the server ends with {:?}", self.exit);
        Ok(())
    }

    fn carry_out(&mut self) {
        while let Some(action) = self.coordinator.poll_action() {
            match action {
                Action::DrainAcceptors => self.is_draining = true,
                Action::BeginStage(stage) => self.stage = stage,
                Action::Log(Notice::SettleTimedOut) => self.is_cut_short = true,
                Action::Log(Notice::DrainTimedOut) => self.is_timed_out = true,
                Action::StopAcceptors | Action::Log(Notice::ShuttingDown) => {}
                Action::Exit(exit) => self.exit = Some(exit),
            }
        }
    }
}
