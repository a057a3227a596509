//! Proposals on their way to the log.

use std::collections::VecDeque;

use crate::{Append, Batch, Entry, Proposal, Tag};

#[derive(Clone, Debug)]
struct Waiting<T> {
    proposal: Proposal,
    ticket: Option<T>,
    since_ms: u64,
    /// How long it may wait while Redis cannot be reached; `None` without a limit.
    timeout_ms: Option<u64>,
}

/// A batch that Redis may have.
#[derive(Clone, Debug)]
struct Sent<T> {
    append: Append,
    waiting: Vec<Waiting<T>>,
}

impl<T> Waiting<T> {
    fn deadline_ms(&self) -> Option<u64> {
        self.timeout_ms.map(|timeout_ms| self.since_ms + timeout_ms)
    }
}

/// The proposals of a node that are not in the log yet, in their order.
#[derive(Clone, Debug)]
pub(super) struct Outgoing<T> {
    /// The last batch that was made.
    last: Tag,
    queue: VecDeque<Waiting<T>>,
    /// Batches that were sent, the oldest first. The last one may be under way. An acknowledged batch stays until its
    /// entry is read: the primary that has acknowledged it may fail, and lose it.
    sent: VecDeque<Sent<T>>,
    /// How many of them were answered.
    answered: usize,
    /// Batches up to this one may be in the log though they were not answered.
    doubtful_through: u64,
}

/// Sent batches whose entries were not read yet. Reading is one round trip behind, so this is many.
const UNSEEN_MAX: usize = 64;

/// The limit for batches of a canary alone: one a second, for more than an hour.
const CANARIES_UNSEEN_MAX: usize = 4_096;

impl<T: Copy> Outgoing<T> {
    pub(super) fn new(first: Tag) -> Self {
        Self { last: first, queue: VecDeque::new(), sent: VecDeque::new(), answered: 0, doubtful_through: 0 }
    }

    pub(super) fn push(
        &mut self,
        proposal: Proposal,
        ticket: Option<T>,
        timeout_ms: Option<u64>,
        now_ms: u64,
    ) {
        self.queue.push_back(Waiting { proposal, ticket, since_ms: now_ms, timeout_ms });
    }

    /// Puts the node's beginning ahead of all others, unless it may be in the log.
    pub(super) fn push_begin(&mut self, proposal: Proposal, now_ms: u64) {
        if !self.sent.is_empty() {
            return;
        }
        self.queue.retain(|waiting| !matches!(waiting.proposal, Proposal::Begin { .. }));
        let waiting = Waiting { proposal, ticket: None, since_ms: now_ms, timeout_ms: None };
        self.queue.push_front(waiting);
    }

    /// True when a batch may be in the log that was not seen there.
    pub(super) fn has_sent(&self) -> bool {
        !self.sent.is_empty()
    }

    /// The newest of these.
    pub(super) fn last_sent(&self) -> Option<&Batch> {
        self.sent.back().map(|sent| &sent.append.batch)
    }

    /// How many were not sent yet.
    pub(super) fn waiting(&self) -> usize {
        self.queue.len()
    }

    /// How many have no answer yet.
    pub(super) fn len(&self) -> usize {
        self.queue.len() + self.sent.iter().map(|sent| sent.waiting.len()).sum::<usize>()
    }

    /// The batch to send now, in this format: one that was not answered, again, or the next.
    pub(super) fn next_batch(&mut self, format: u16) -> Option<&Append> {
        if self.answered == self.sent.len() {
            let waiting = self.take_next();
            if waiting.is_empty() {
                return None;
            }
            self.last.batch += 1;
            let batch = waiting.iter().map(|next| next.proposal.clone()).collect();
            let append = Append { tag: self.last.clone(), format, batch, recovered: None };
            self.sent.push_back(Sent { append, waiting });
        }
        let append = &mut self.sent[self.answered].append;
        append.format = format;
        Some(append)
    }

    /// The proposals of the next batch.
    fn take_next(&mut self) -> Vec<Waiting<T>> {
        let is_canary = |next: &Waiting<T>| next.proposal == Proposal::Canary;
        if self.sent.len() >= UNSEEN_MAX {
            // A node that cannot read the log must still show that it is alive.
            let canary =
                self.queue.iter().position(is_canary).filter(|_| self.sent.len() < CANARIES_UNSEEN_MAX);
            return canary.and_then(|place| self.queue.remove(place)).into_iter().collect();
        }
        let mut batch = Batch::default();
        let mut waiting = Vec::new();
        while let Some(next) = self.queue.front()
            && batch.has_room_for(next.proposal.payload().len())
            // The node's beginning goes alone: what follows waits until it has begun.
            && !batch.proposals().iter().any(|first| matches!(first, Proposal::Begin { .. }))
            && let Some(next) = self.queue.pop_front()
        {
            batch.push(next.proposal.clone());
            waiting.push(next);
        }
        waiting
    }

    /// True when [`Outgoing::next_batch`] has something.
    pub(super) fn has_next(&self) -> bool {
        let has_canary = || self.queue.iter().any(|next| next.proposal == Proposal::Canary);
        self.answered < self.sent.len()
            || !self.queue.is_empty() && (self.sent.len() < UNSEEN_MAX || has_canary())
    }

    /// True while the node's first batch is not answered.
    pub(super) fn is_beginning(&self) -> bool {
        self.answered < self.sent.len() || self.sent.is_empty()
    }

    /// Proposes a canary, unless one is waiting already.
    pub(super) fn push_canary(&mut self, now_ms: u64) {
        let is_canary = |proposal: &Proposal| *proposal == Proposal::Canary;
        let unanswered = self.sent.iter().skip(self.answered).flat_map(|sent| sent.append.batch.proposals());
        let waits = unanswered.chain(self.queue.iter().map(|next| &next.proposal)).any(is_canary);
        if !waits {
            self.push(Proposal::Canary, None, None, now_ms);
        }
    }

    /// True when this batch is under way and has a canary.
    pub(super) fn is_canary(&self, batch: u64) -> bool {
        let sent = self.sent.get(self.answered).filter(|sent| sent.append.tag.batch == batch);
        sent.is_some_and(|sent| sent.append.batch.proposals().contains(&Proposal::Canary))
    }

    /// A batch that was sent is in the log. It may have been seen there before it was answered.
    pub(super) fn handle_answered(&mut self, batch: u64) {
        if self.sent.get(self.answered).is_some_and(|sent| sent.append.tag.batch == batch) {
            self.answered += 1;
        }
    }

    /// Redis has refused the batch under way. If no attempt at it can have succeeded, its proposals return to the
    /// queue, where they can time out.
    pub(super) fn handle_refused(&mut self) {
        if self.last.batch <= self.doubtful_through || self.answered + 1 != self.sent.len() {
            return;
        }
        if let Some(Sent { waiting, .. }) = self.sent.pop_back() {
            self.last.batch -= 1;
            for waiting in waiting.into_iter().rev() {
                self.queue.push_front(waiting);
            }
        }
    }

    /// A connection was lost, or the log was recovered: acknowledged batches may be lost, and unacknowledged ones may
    /// be in the log. All are sent again; the script recognizes those that are there.
    pub(super) fn doubt_all(&mut self) {
        self.answered = 0;
        self.doubtful_through = self.last.batch;
    }

    /// An own entry was read. Returns the tickets of its proposals.
    pub(super) fn handle_entry(&mut self, entry: &Entry) -> Vec<Option<T>> {
        if self.sent.front().is_none_or(|sent| sent.append.tag != entry.tag) {
            return Vec::new();
        }
        // It may be seen before it is answered.
        self.answered = self.answered.saturating_sub(1);
        self.sent.pop_front().map_or_else(Vec::new, |sent| sent.waiting.iter().map(|it| it.ticket).collect())
    }

    /// Batches up to this one were in the log when that was read.
    pub(super) fn note_seen(&mut self, batch: u64) {
        while self.sent.front().is_some_and(|sent| sent.append.tag.batch <= batch) {
            self.sent.pop_front();
            self.answered = self.answered.saturating_sub(1);
        }
    }

    /// The last batch that was seen in the log.
    pub(super) fn last_seen(&self) -> Tag {
        let batch = self.sent.front().map_or(self.last.batch, |sent| sent.append.tag.batch - 1);
        Tag { batch, ..self.last.clone() }
    }

    /// Removes the proposals that have timed out before they were sent. Returns the tickets of those that had one, and
    /// how many they were.
    pub(super) fn take_overdue(&mut self, now_ms: u64) -> (Vec<T>, usize) {
        let mut overdue = Vec::new();
        let before = self.queue.len();
        self.queue.retain(|waiting| {
            let is_over = waiting.deadline_ms().is_some_and(|deadline_ms| deadline_ms <= now_ms);
            if is_over {
                overdue.extend(waiting.ticket);
            }
            !is_over
        });
        (overdue, before - self.queue.len())
    }

    /// When the next one times out.
    pub(super) fn overdue_ms(&self) -> Option<u64> {
        self.queue.iter().filter_map(Waiting::deadline_ms).min()
    }

    /// The tickets of all proposals without an outcome. Any of them may have happened.
    pub(super) fn into_tickets(self) -> Vec<T> {
        let sent = self.sent.into_iter().flat_map(|sent| sent.waiting);
        sent.chain(self.queue).filter_map(|waiting| waiting.ticket).collect()
    }
}
