//! How a bridge ends: in order, so that the others need not wait until the node counts as gone, or because of the
//! others.

use super::leaving::Leaving;
use super::outgoing::Outgoing;
use super::{Bridge, End, Event, Stage};
use crate::{Answer, Entry, Proposal};

impl<T: Copy> Bridge<T> {
    /// Ends in order: further proposals are refused, those that wait are sent, and behind them goes [`Proposal::End`].
    /// The event [`Event::Ended`] follows with [`End::Left`]: after 2 s without an answer of Redis, or 8 s in all, in
    /// any case.
    pub fn leave(&mut self, now_ms: u64) {
        if self.leaving.is_some() || matches!(self.stage, Stage::Ended) {
            return;
        }
        if !self.has_begun && !self.outgoing.has_sent() {
            return self.end(End::Left);
        }
        self.sweep = None;
        self.leaving = Some(Leaving::new(now_ms));
        self.outgoing.push(Proposal::End, None, None, now_ms);
    }

    /// Refuses a proposal that comes too late.
    pub(super) fn refuse(&mut self, ticket: Option<T>) {
        self.events.extend(ticket.map(Event::Refused));
    }

    /// Redis has answered without refusing.
    pub(super) fn note_heard(&mut self, now_ms: u64) {
        if let Some(leaving) = &mut self.leaving {
            leaving.note_heard(now_ms);
        }
    }

    pub(super) fn give_up_leaving(&mut self, now_ms: u64) {
        if !matches!(self.stage, Stage::Ended)
            && self.leaving.is_some_and(|leaving| leaving.deadline_ms() <= now_ms)
        {
            self.end(End::Left);
        }
    }

    /// True when the batch under way is the last one. If it is in the log already, Redis does not know this node any
    /// more.
    pub(super) fn has_sent_end(&self) -> bool {
        self.outgoing.last_sent().is_some_and(|batch| batch.proposals().contains(&Proposal::End))
    }

    /// An own entry was handed over.
    pub(super) fn end_behind(&mut self, entry: &Entry) {
        if entry.batch.proposals().contains(&Proposal::End) {
            self.end(End::Left);
        }
    }

    /// How an entry ends this node.
    pub(super) fn end_by(&self, entry: &Entry) -> Option<End> {
        let own = self.own();
        if !self.has_begun() {
            return None;
        }
        if entry.tag.node == own.node
            && entry.tag.incarnation != own.incarnation
            && matches!(entry.batch.proposals(), [Proposal::Begin { .. }, ..])
        {
            return Some(End::Replaced);
        }
        let is_gone = |(proposal, answer): (&Proposal, &Answer)| match proposal {
            Proposal::NodeGone { seen } => *answer == Answer::Done && seen.is_same_life(&own),
            _ => false,
        };
        entry.decisions().any(is_gone).then_some(End::Fenced)
    }

    pub(super) fn end(&mut self, end: End) {
        self.stage = Stage::Ended;
        let none = Outgoing::new(self.own());
        let outgoing = std::mem::replace(&mut self.outgoing, none);
        self.events.push_back(Event::Ended { end, tickets: outgoing.into_tickets() });
    }
}
