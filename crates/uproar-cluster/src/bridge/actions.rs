//! What a bridge asks for next, and when.

use super::leaving::Leaving;
use super::replicas::WAIT_MS;
use super::{ANSWER_MS_MAX, Action, Bridge, CANARY_MS, OUT_OF_REACH_MS, Running, Stage};
use crate::script::words;
use crate::{Command, Incarnation, LiveNode, Recovery, Report, Tag};

impl<T: Copy> Bridge<T> {
    /// The next action.
    pub fn poll_action(&mut self, now_ms: u64) -> Option<Action> {
        if !self.is_connected {
            return None;
        }
        if let Some(why) = self.silence(now_ms) {
            self.handle_disconnected();
            return Some(Action::Reconnect { why });
        }
        self.propose_leaves(now_ms);
        if self.running.is_none()
            && now_ms >= self.retry_ms
            && let Some((running, command)) = self.next_command(now_ms)
        {
            self.running = Some((running, now_ms));
            return Some(Action::Run(command));
        }
        let may_read = self.may_read && self.reading_ms.is_none() && now_ms >= self.retry_read_ms;
        (self.reads() && may_read).then(|| {
            self.reading_ms = Some(now_ms);
            Action::Read { behind: self.chain.number(), waits: !matches!(self.stage, Stage::CatchingUp) }
        })
    }

    /// True in stages in which the log is read.
    pub(super) fn reads(&self) -> bool {
        matches!(self.stage, Stage::CatchingUp | Stage::Beginning | Stage::Live)
    }

    /// Why the connections are half-dead, if they are.
    fn silence(&self, now_ms: u64) -> Option<&'static str> {
        let is_over = |since_ms: u64| now_ms.saturating_sub(since_ms) >= ANSWER_MS_MAX;
        if self.answer_due_ms().is_some_and(|due_ms| due_ms <= now_ms) {
            Some("Redis has not answered for 3 s")
        } else if self.reading_ms.is_some_and(is_over) {
            Some("Redis has not answered a read for 3 s")
        } else if self.is_elsewhere {
            Some("the Redis of this connection is not the primary any more")
        } else if self.may_read && self.unseen_ms.is_some_and(is_over) {
            Some("an entry that Redis has taken has not come back for 3 s")
        } else {
            None
        }
    }

    /// When the command under way must have an answer. Behind a batch, that to `WAIT` may take longer.
    fn answer_due_ms(&self) -> Option<u64> {
        let (running, since_ms) = self.running?;
        let waits = matches!(running, Running::Batch { .. } | Running::Wait) && self.config.replicas > 0;
        Some(since_ms + ANSWER_MS_MAX + if waits { WAIT_MS } else { 0 })
    }

    fn next_command(&mut self, now_ms: u64) -> Option<(Running, Command)> {
        if matches!(self.stage, Stage::Live)
            && let Some(sweeping) = self.sweep_command(now_ms)
        {
            return Some(sweeping);
        }
        let keys = &self.config.keys;
        match &self.stage {
            Stage::Looking => {
                let (id, report) = (self.new_id(now_ms), self.report());
                let command = Recovery::command(keys, &id, &self.own_live(), report.as_ref());
                Some((Running::Look, command))
            }
            Stage::Claiming(recovery) => {
                let (id, report) = (self.new_id(now_ms), self.report());
                let command = recovery.claim(keys, &id, &self.own_live(), report.as_ref());
                Some((Running::Claim, command))
            }
            Stage::Loading(loader) => Some((Running::Load, loader.command()?)),
            Stage::Checking => {
                let (from, to) = (self.chain.number(), self.chain.number() + 1);
                let look = words(["XRANGE", &keys.log(), &format!("{from}-0"), &format!("{to}-0")]);
                Some((Running::Check, Command::Plain(vec![look])))
            }
            Stage::Acting(acting) => {
                Some((Running::Act { is_waiting: acting.is_waiting() }, acting.command()?))
            }
            Stage::Beginning if !self.outgoing.is_beginning() => None,
            Stage::Live if self.damaged_due_ms.is_some_and(|due_ms| due_ms <= now_ms) => {
                let ask = words(["HGETALL", &keys.damaged()]);
                self.damaged_due_ms = None;
                Some((Running::AskForDamaged, Command::Plain(vec![ask])))
            }
            Stage::Live if !self.repairs.is_empty() => Some((Running::Repair, self.repairs.pop_front()?)),
            Stage::Live if !self.outgoing.has_next() => Some((Running::Wait, self.replicas.command(now_ms)?)),
            Stage::Beginning | Stage::Live => {
                let append = self.outgoing.next_batch(self.peers.format())?;
                let proposals = append.batch.proposals();
                let running = Running::Batch {
                    number: append.tag.batch,
                    proposals: proposals.len(),
                    payload_bytes: proposals.iter().map(|proposal| proposal.payload().len()).sum(),
                };
                let command = append.command(keys, &self.config.settings);
                Some((running, self.replicas.behind(command, now_ms)))
            }
            Stage::CatchingUp | Stage::Ended => None,
        }
    }

    /// An id that no other recovery has.
    fn new_id(&self, now_ms: u64) -> String {
        Incarnation(self.config.incarnation.0.rotate_left(17) ^ now_ms.wrapping_mul(0x9e37_79b9_7f4a_7c15))
            .to_string()
    }

    /// This node as the others see it.
    pub(super) fn own_live(&self) -> LiveNode {
        self.own().live()
    }

    /// What this node has of the log, once it has begun.
    fn report(&self) -> Option<Report> {
        self.has_begun.then(|| Report {
            incarnation: self.config.incarnation,
            raised: self.raised,
            number: self.chain.number(),
            tag: self.chain.tag().cloned(),
        })
    }

    pub(super) fn own(&self) -> Tag {
        Tag { node: self.config.node.clone(), incarnation: self.config.incarnation, batch: 0 }
    }

    /// When [`Bridge::handle_tick`] or [`Bridge::poll_action`] has something to do, though nothing has come.
    #[must_use]
    pub fn next_due_ms(&self) -> Option<u64> {
        if matches!(self.stage, Stage::Ended) {
            return None;
        }
        let is_live = matches!(self.stage, Stage::Live);
        let canary = (is_live && self.leaving.is_none()).then_some(self.canary_due_ms);
        let leaving = self.leaving.map(Leaving::deadline_ms);
        let unseen_ms = self.unseen_ms.filter(|_| self.may_read);
        let since_ms = [self.reading_ms, unseen_ms].into_iter().flatten().min();
        let silence = since_ms.map(|since_ms| since_ms + ANSWER_MS_MAX);
        let has_command = match &self.stage {
            Stage::Looking | Stage::Claiming(_) | Stage::Checking | Stage::Loading(_) | Stage::Acting(_) => {
                true
            }
            Stage::Beginning => self.outgoing.is_beginning() && self.outgoing.has_next(),
            Stage::Live => self.outgoing.has_next() || !self.repairs.is_empty(),
            Stage::CatchingUp | Stage::Ended => false,
        };
        let is_free = self.is_connected && self.running.is_none();
        let retry = (is_free && has_command).then_some(self.retry_ms);
        let may_read = self.is_connected && self.reads() && self.may_read && self.reading_ms.is_none();
        let read = may_read.then_some(self.retry_read_ms);
        let wait = self.replicas.due_ms().filter(|_| is_free && is_live);
        let sweep =
            self.sweep_due_ms().filter(|_| is_free && is_live).map(|due_ms| due_ms.max(self.retry_ms));
        let damaged = self.damaged_due_ms.filter(|_| is_free && is_live);
        let overdue = self.outgoing.overdue_ms().map(|due_ms| due_ms.max(self.out_of_reach_ms()));
        [canary, leaving, self.answer_due_ms(), silence, wait, retry, read, sweep, damaged, overdue]
            .into_iter()
            .flatten()
            .min()
    }

    /// When Redis counts as out of reach, if nothing comes until then.
    pub(super) fn out_of_reach_ms(&self) -> u64 {
        let takes_batches = self.is_connected && matches!(self.stage, Stage::Live) && self.trouble.is_none();
        if takes_batches { self.answered_ms + CANARY_MS + OUT_OF_REACH_MS } else { 0 }
    }
}
