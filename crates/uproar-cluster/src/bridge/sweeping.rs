//! When a node sweeps, beside its batches.

use super::sweep::Sweep;
use super::{Bridge, Running};
use crate::{Command, LiveNode, Reply};

/// How long a sweep waits after a refusal, in milliseconds.
const RETRY_MS: u64 = 1_000;

/// Proposals that wait to be sent, from which on no further leave is proposed: a batch.
const WAITING_MAX: usize = crate::BATCH_PROPOSALS_MAX;

impl<T: Copy> Bridge<T> {
    /// Members of nodes that are gone may be in the rosters, after an entry or at the beginning. Begins to sweep, or
    /// begins anew, if that is up to this node.
    pub(super) fn sweep_if_lowest(&mut self) {
        if self.leaving.is_none() && self.peers.are_all_behind(&self.config.node) {
            self.sweep = Some(self.new_sweep(0));
        }
    }

    fn new_sweep(&self, due_ms: u64) -> Sweep {
        Sweep::new(self.config.keys.clone(), self.chain.number(), due_ms)
    }

    /// After a recovery rosters may be others.
    pub(super) fn sweep_anew(&mut self) {
        if self.sweep.is_some() {
            self.sweep = Some(self.new_sweep(0));
        }
    }

    /// Proposes the next leaves, as far as not too many proposals wait.
    pub(super) fn propose_leaves(&mut self, now_ms: u64) {
        let Some(sweep) = &mut self.sweep else { return };
        if !sweep.found.is_empty() {
            let mut live = self.peers.live();
            live.push(LiveNode { node: self.config.node.clone(), incarnation: self.config.incarnation });
            sweep.judge(self.chain.number(), &live);
        }
        while self.outgoing.waiting() < WAITING_MAX
            && let Some(leave) = sweep.leaves.pop_front()
        {
            self.outgoing.push(leave, None, None, now_ms);
        }
        if sweep.is_done() {
            self.sweep = None;
        }
    }

    /// The next command of a sweep, if it is its turn.
    pub(super) fn sweep_command(&mut self, now_ms: u64) -> Option<(Running, Command)> {
        let sweep = self.sweep.as_mut().filter(|sweep| sweep.due_ms <= now_ms)?;
        if std::mem::take(&mut sweep.gives_way) && self.outgoing.has_next() {
            return None;
        }
        let command = sweep.command()?;
        sweep.gives_way = true;
        Some((Running::Sweep { begun_at: sweep.begun_at }, command))
    }

    /// When the next command of a sweep is due.
    pub(super) fn sweep_due_ms(&self) -> Option<u64> {
        self.sweep.as_ref().filter(|sweep| sweep.command().is_some()).map(|sweep| sweep.due_ms)
    }

    /// A command was answered, of a sweep that may have begun anew since.
    pub(super) fn handle_swept(&mut self, begun_at: u64, reply: &Reply, now_ms: u64) {
        // Where Redis has refused, it is asked again later.
        if let Some(sweep) = &mut self.sweep
            && sweep.begun_at == begun_at
            && sweep.handle_reply(reply).is_err()
        {
            self.sweep = Some(self.new_sweep(now_ms + RETRY_MS));
        }
    }
}
