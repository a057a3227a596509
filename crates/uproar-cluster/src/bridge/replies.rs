//! Replies of Redis to commands.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::acting::{self, Acting, Awaited};
use super::tail::Tail;
use super::{Bridge, CANARY_MS, DAMAGED_MS, End, Event, Observation, RETRY_MS, Running, Stage};
use crate::loader::{LoadError, Loader};
use crate::{
    Append, AppendError, BadReply, Chain, Entry, FORMAT, Left, Proposal, Recovery, RecoveryError,
    RecoveryStep, Reply, RoomState, Terms,
};

impl<T: Copy> Bridge<T> {
    /// Redis has answered [`Action::Run`](crate::Action::Run).
    pub fn handle_reply(&mut self, reply: &Reply, now_ms: u64) {
        let Some((running, _)) = self.running.take() else { return };
        if !matches!(reply, Reply::Error(_)) {
            self.note_heard(now_ms);
        }
        match running {
            Running::Look => self.handle_look(reply, now_ms),
            Running::Claim => self.handle_claimed(reply, now_ms),
            Running::Load => self.handle_loaded(reply, now_ms),
            Running::Check => self.handle_checked(reply, now_ms),
            Running::Batch { number, proposals, payload_bytes } => {
                let (append, wait) = self.replicas.split(reply);
                let outcome = Append::outcome(append);
                if outcome.is_ok() {
                    self.observed.push(Observation::Appended { proposals, payload_bytes });
                }
                self.handle_appended(number, outcome, now_ms);
                if let Some(wait) = wait {
                    self.handle_waited(wait, now_ms);
                }
            }
            Running::Wait => {
                let waited = reply.list().ok().and_then(<[Reply]>::first);
                self.handle_waited(waited.unwrap_or(&Reply::Nil), now_ms);
            }
            Running::Act { is_waiting } => self.handle_acted(is_waiting, reply, now_ms),
            Running::Sweep { begun_at } => self.handle_swept(begun_at, reply, now_ms),
            Running::AskForDamaged => self.handle_damaged(reply, now_ms),
            Running::Repair => {
                // Where another node has repaired it, all is well; where Redis has refused it, it is still damaged.
                if matches!(reply, Reply::Error(_)) {
                    self.forget_repairs();
                    self.damaged_due_ms = Some(now_ms + DAMAGED_MS);
                }
            }
        }
    }

    fn handle_look(&mut self, reply: &Reply, now_ms: u64) {
        let seen = Recovery::read(reply);
        if let Ok(recovery) = &seen {
            self.note_recovery(recovery.is_some());
        }
        match seen {
            Ok(None) if self.has_begun() => self.stage = Stage::Checking,
            Ok(None) => {
                self.tail = Tail::default();
                let loader = Loader::new(self.config.keys.clone(), &self.config.settings);
                self.stage = Stage::Loading(Box::new(loader));
            }
            Ok(Some(recovery)) => match recovery.step(&self.own_live(), &self.peers.live()) {
                RecoveryStep::Act { .. } => self.stage = Stage::Claiming(Box::new(recovery)),
                RecoveryStep::Wait => self.retry_ms = now_ms + RETRY_MS,
            },
            Err(error) => self.try_again(error.to_string(), now_ms),
        }
    }

    fn handle_claimed(&mut self, reply: &Reply, now_ms: u64) {
        self.stage = Stage::Looking;
        match Recovery::read(reply) {
            // Somebody else was faster, or the log lives: the next look tells.
            Ok(None) => {}
            Ok(Some(recovery)) => {
                let own = self.own_live();
                let step = recovery.step(&own, &self.peers.live());
                if recovery.is_claimed_by(&own)
                    && let RecoveryStep::Act { append_behind, is_complete } = step
                {
                    self.act(recovery, append_behind, is_complete);
                } else {
                    self.retry_ms = now_ms + RETRY_MS;
                }
            }
            Err(error) => self.try_again(error.to_string(), now_ms),
        }
    }

    fn act(&mut self, recovery: Recovery, append_behind: Option<Chain>, is_complete: bool) {
        let lost = append_behind.map(|kept| self.tail.behind(&kept));
        let is_rewritten = matches!(lost, Some(None));
        // Redis has no epoch if the log is new, or was not written again to the end. Entries that are appended again
        // may include it.
        let is_epoch = |proposal: &Proposal| matches!(proposal, Proposal::Epoch { .. });
        let mut again = lost.iter().flatten().flatten().flat_map(|entry| entry.batch.proposals());
        let lacks_epoch = !recovery.has_epoch && !again.any(is_epoch);
        let epoch = (is_rewritten || !is_complete || lacks_epoch).then(|| Arc::from(recovery.id.as_str()));
        let is_empty = recovery.kept.number() == 0;
        let acting = Acting::new(
            &self.config,
            recovery,
            &lost.flatten().unwrap_or_default(),
            epoch,
            self.peers.format(),
        );
        if is_rewritten {
            self.ask_for_rooms(acting);
        } else {
            let acting = if is_empty { acting.on_cleared() } else { acting };
            self.stage = Stage::Acting(Box::new(acting));
        }
    }

    fn ask_for_rooms(&mut self, acting: Acting) {
        let own = (self.outgoing.last_seen(), FORMAT);
        let awaited = Awaited {
            entries: self.tail.all(),
            end: self.chain.clone(),
            raised: self.raised,
            numbers: self.numbers,
            nodes: self.peers.last_batches().chain([own]).collect(),
        };
        self.events.push_back(Event::Rewrite);
        self.stage = Stage::Acting(Box::new(acting.waiting_for_rooms(awaited)));
    }

    /// The answer to [`Event::Rewrite`]: all rooms, who has left, and the bans and mutes, as they are after the last entry. An
    /// answer that comes late, after the recovery has ended, is ignored.
    pub fn rewrite(
        &mut self,
        rooms: impl IntoIterator<Item = (Arc<str>, RoomState)>,
        left: &Left,
        terms: &Terms,
    ) {
        if let Stage::Acting(acting) = &mut self.stage {
            acting.rewrite(rooms, left, terms);
        }
    }

    fn handle_acted(&mut self, was_waiting: bool, reply: &Reply, now_ms: u64) {
        let Stage::Acting(acting) = &mut self.stage else { return };
        match acting.handle_reply(was_waiting, reply) {
            Ok(false) if was_waiting => self.retry_ms = now_ms + RETRY_MS,
            Ok(false) => {}
            // Whether over because it is done or because of another one: the next look tells.
            Ok(true) | Err(RecoveryError::Over) => {
                self.stage = Stage::Looking;
                self.outgoing.doubt_all();
            }
            Err(RecoveryError::Differs) => {
                if let Stage::Acting(acting) = std::mem::replace(&mut self.stage, Stage::Looking) {
                    let epoch = Some(Arc::from(acting.recovery().id.as_str()));
                    let acting =
                        Acting::new(&self.config, acting.recovery().clone(), &[], epoch, self.peers.format());
                    self.ask_for_rooms(acting);
                }
            }
            Err(error) => self.try_again(error.to_string(), now_ms),
        }
    }

    fn handle_loaded(&mut self, reply: &Reply, now_ms: u64) {
        let Stage::Loading(loader) = &mut self.stage else { return };
        if let Err(error) = loader.handle_reply(reply) {
            if matches!(error, LoadError::Format(_)) {
                return self.end(End::Refused(error.to_string()));
            }
            self.stage = Stage::Looking;
            return self.try_again(error.to_string(), now_ms);
        }
        if loader.command().is_none()
            && let Stage::Loading(loader) = std::mem::replace(&mut self.stage, Stage::CatchingUp)
        {
            (self.mirror, self.chain) = loader.finish();
            self.loaded = self.chain.number();
        }
    }

    fn handle_checked(&mut self, reply: &Reply, now_ms: u64) {
        match self.is_own_log(reply) {
            Ok(true) => {
                self.trouble = None;
                self.stage = Stage::Live;
                self.sweep_anew();
            }
            Ok(false) => self.end(End::OtherLog),
            Err(error) => {
                self.stage = Stage::Looking;
                self.try_again(error.to_string(), now_ms);
            }
        }
    }

    /// True when the log has the last entry that was read, or one that follows it: a log that was written again begins
    /// behind. In another epoch the same batch can have the same number again, but not at the same time.
    fn is_own_log(&self, reply: &Reply) -> Result<bool, BadReply> {
        let [entries] = reply.list()? else { return Err(BadReply) };
        let is_own = |entry: Entry| {
            let tag =
                if entry.number == self.chain.number() { Some(&entry.tag) } else { entry.previous.as_ref() };
            tag == self.chain.tag() && self.tail.has_not_another(&entry)
        };
        Ok(entries.list()?.iter().any(|entry| Entry::read(entry).is_ok_and(is_own)))
    }

    fn handle_appended(&mut self, batch: u64, outcome: Result<crate::Appended, AppendError>, now_ms: u64) {
        match outcome {
            Ok(appended) => {
                if appended.damaged > 0 {
                    self.damaged_due_ms.get_or_insert(now_ms);
                }
                self.replicas.note_appended(appended);
                if self.outgoing.is_canary(batch) {
                    self.canary_due_ms = now_ms + CANARY_MS;
                }
                self.note_answered(batch, appended.number, now_ms);
            }
            // It is in the log, and so are later ones.
            Err(AppendError::WrongBatch { last }) if last >= batch => self.note_answered(batch, 0, now_ms),
            // Batches that were seen in the log are not in it any more.
            Err(AppendError::WrongBatch { .. }) => self.end(End::OtherLog),
            // The last batch is in the log, and its entry follows.
            Err(AppendError::Fenced | AppendError::Replaced) if self.has_sent_end() => {
                self.note_answered(batch, 0, now_ms);
            }
            Err(AppendError::Fenced) => self.end(End::Fenced),
            // Another process has begun since the log was read. This batch is certainly not in it.
            Err(AppendError::BeginAgain) => self.end(End::OtherLog),
            Err(AppendError::Replaced) => self.end(End::Replaced),
            Err(AppendError::Life | AppendError::RecoveryOver | AppendError::Differs) => {
                self.outgoing.handle_refused();
                // What was answered and not seen may be lost.
                self.outgoing.doubt_all();
                self.is_read_stale = self.reading_ms.is_some();
                self.stage = Stage::Looking;
            }
            Err(AppendError::Settings { theirs }) => {
                let ours = &self.config.settings.agreed;
                let why = format!("the other nodes were started with {theirs}, this one with {ours}");
                self.end(End::Refused(why));
            }
            Err(AppendError::Format { format }) if format > FORMAT => {
                self.end(End::Refused(LoadError::Format(format).to_string()));
            }
            // A node begins that reads less, and its beginning was not read yet.
            Err(error @ AppendError::Format { .. }) => {
                self.outgoing.handle_refused();
                self.try_again(error.to_string(), now_ms);
            }
            Err(error @ (AppendError::Redis(_) | AppendError::Reply(_))) => {
                self.answered_ms = now_ms;
                self.outgoing.handle_refused();
                self.try_again(error.to_string(), now_ms);
            }
        }
    }

    fn note_answered(&mut self, batch: u64, number: u64, now_ms: u64) {
        self.outgoing.handle_answered(batch);
        (self.trouble, self.answered_ms) = (None, now_ms);
        self.log_end = self.log_end.max(number);
        self.note_behind();
        if number > self.chain.number() {
            self.unseen_ms.get_or_insert(now_ms);
        } else if number > 0 && matches!(self.stage, Stage::Beginning) {
            // It was in the log when that was read: the answer was lost with a connection.
            self.outgoing.note_seen(batch);
            self.finish_beginning(false, now_ms);
        }
    }

    fn handle_damaged(&mut self, reply: &Reply, now_ms: u64) {
        let rooms = reply.list().and_then(|replies| replies.first().ok_or(BadReply)?.pairs());
        let mut damaged = BTreeMap::new();
        for (room, entry) in rooms.unwrap_or_default() {
            let Ok(entry) = entry.parse::<u64>() else { continue };
            // A node that has read less does not know the room's state, and one that began later has read it damaged.
            let is_known =
                entry <= self.chain.number() && (entry > self.loaded || self.peers.live().is_empty());
            let room = Arc::from(room);
            if is_known && self.damaged.get(&room) != Some(&entry) {
                self.events.push_back(Event::Damaged { room: Arc::clone(&room), entry });
            }
            if is_known {
                damaged.insert(room, entry);
            } else {
                self.damaged_due_ms = Some(now_ms + DAMAGED_MS);
            }
        }
        self.damaged = damaged;
    }

    /// The answer to [`Event::Damaged`].
    pub fn repair(&mut self, room: &str, damaged_by: u64, state: &RoomState) {
        self.repairs.push_back(acting::repair(&self.config.keys, room, damaged_by, state, self.raised));
    }

    /// Redis has answered `WAIT`. A refusal counts as none.
    fn handle_waited(&mut self, reply: &Reply, now_ms: u64) {
        let count = reply.number().unwrap_or(0);
        let is_enough = count >= self.config.replicas.into();
        self.observed.push(Observation::Waited { replicas: count, is_enough });
        let replicated = self.replicas.handle_waited(count, now_ms);
        self.events.extend(replicated.map(|through| Event::Replicated { through }));
    }
}
