//! Entries of the log.

use std::sync::Arc;

use super::peers::Peers;
use super::{Bridge, CANARY_MS, End, Event, Observation, Stage};
use crate::mirror::numbers_in_next_epoch;
use crate::{Answer, Break, Entry, FORMAT, Proposal, Reply};

impl<T: Copy> Bridge<T> {
    /// Redis has answered [`Action::Read`](crate::Action::Read).
    pub fn handle_read(&mut self, reply: &Reply, now_ms: u64) {
        // One that was asked for ahead of a recovery is dropped.
        let is_stale = std::mem::take(&mut self.is_read_stale);
        if self.reading_ms.take().is_none() || is_stale || !self.reads() {
            return;
        }
        let entries = match reply {
            Reply::Nil => Ok(&[][..]),
            Reply::Error(text) => return self.read_again(text.clone(), now_ms),
            reply => reply.list(),
        };
        let Ok(entries) = entries else {
            return self.read_again("Redis has answered a read with something else".to_owned(), now_ms);
        };
        if !entries.is_empty() {
            self.observed.push(Observation::Read { entries: entries.len() });
        }
        for entry in entries {
            match Entry::read(entry) {
                Ok(entry) => self.handle_entry(entry, now_ms),
                Err(error) => {
                    return self.end(End::Refused(format!("an entry of the log cannot be read: {error}")));
                }
            }
            if matches!(self.stage, Stage::Ended) {
                return;
            }
        }
        self.note_behind();
        if entries.is_empty() && matches!(self.stage, Stage::CatchingUp) {
            self.begin(now_ms);
        }
    }

    /// Reads again a little later. Batches go on meanwhile.
    fn read_again(&mut self, trouble: String, now_ms: u64) {
        let retry_ms = self.retry_ms;
        self.try_again(trouble, now_ms);
        (self.retry_read_ms, self.retry_ms) = (self.retry_ms, retry_ms);
    }

    fn begin(&mut self, now_ms: u64) {
        self.stage = Stage::Beginning;
        self.peers = Peers::new(&self.mirror, &self.config.node);
        let earlier = self.mirror.nodes.get(&self.config.node);
        let replaces = earlier.map(|tag| tag.incarnation).filter(|it| *it != self.config.incarnation);
        self.outgoing.push_begin(Proposal::Begin { replaces, reads: FORMAT }, now_ms);
    }

    fn handle_entry(&mut self, entry: Entry, now_ms: u64) {
        match self.chain.take(&entry) {
            Ok(()) => {}
            Err(Break::Known) => return,
            Err(Break::Missing | Break::Other) => return self.end(End::OtherLog),
        }
        let entry = Arc::new(entry);
        let own = self.own();
        let has_ended = entry.ended().next().is_some();
        let is_own = entry.tag.is_same_life(&own);
        let tickets = if is_own { self.outgoing.handle_entry(&entry) } else { Vec::new() };
        if is_own {
            self.unseen_ms = None;
            self.observe_own(&entry);
        }
        if let Some(end) = self.end_by(&entry) {
            return self.end(end);
        }
        if self.has_begun() {
            self.tail.push(Arc::clone(&entry));
            for decision in entry.decisions() {
                match decision {
                    (Proposal::Epoch { .. }, _) => {
                        self.numbers = numbers_in_next_epoch(self.numbers, self.raised, entry.time_ms);
                        self.raised += 1;
                    }
                    (Proposal::Numbers, Answer::Numbers(block)) => self.numbers = block + 1,
                    _ => {}
                }
            }
            self.peers.handle_entry(&entry, &own);
            if self.leaving.is_none() {
                for gone in self.peers.gone() {
                    self.outgoing.push(gone, None, None, now_ms);
                }
            }
            if has_ended {
                self.sweep_if_lowest();
            }
            self.events.push_back(Event::Entry { entry: Arc::clone(&entry), tickets });
            if is_own {
                self.end_behind(&entry);
            }
            return;
        }
        self.peers.handle_entry(&entry, &own);
        self.mirror.apply(&entry);
        self.tail.push(entry);
        if is_own {
            self.finish_beginning(has_ended, now_ms);
        }
    }

    fn observe_own(&mut self, entry: &Entry) {
        if entry.batch.proposals().contains(&Proposal::Canary) {
            self.observed.push(Observation::CanarySeen);
        }
        let proposals = entry.answers.iter().filter(|answer| **answer == Answer::Damaged).count();
        if proposals > 0 {
            self.observed.push(Observation::Damaged { proposals });
        }
    }

    /// The first batch is in the log, and everything up to the present was read. With it a process of the same name may
    /// have ended.
    pub(super) fn finish_beginning(&mut self, has_ended: bool, now_ms: u64) {
        let has_ghosts = self.mirror.remove_ghosts();
        self.peers = Peers::new(&self.mirror, &self.config.node);
        if has_ghosts || has_ended {
            self.sweep_if_lowest();
        }
        (self.raised, self.numbers) = (self.mirror.raised, self.mirror.numbers);
        (self.has_begun, self.stage) = (true, Stage::Live);
        self.canary_due_ms = now_ms + CANARY_MS;
        self.events.push_back(Event::Begun(Box::new(std::mem::take(&mut self.mirror))));
    }
}
