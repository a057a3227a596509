//! What the log leads to: rooms with their messages and members, and the nodes that are alive.
//!
//! A node that starts has it from Redis, as of some moment, and applies the entries that follow. What it read may be
//! newer than the entries that it applies at first, so each change holds only where it is not overtaken: at the end of
//! the log the mirror is exact. Later on a node keeps rooms where they are used, and needs no mirror.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use crate::{
    Answer, Entry, IDS_RAISED, KeptLeft, KeptMember, KeptMessage, Left, NodeName, Proposal, Room, Settings,
    Tag, Term, TermChange, Terms, term_number,
};

/// A room as the log has made it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RoomState {
    /// The entry that opened it.
    pub opened: u64,
    /// Its last message id.
    pub last: u64,
    /// The last messages, the oldest first. Ids have no gaps.
    pub history: VecDeque<KeptMessage>,
    /// The members, by user.
    pub members: BTreeMap<u64, KeptMember>,
    /// How many times the epoch had changed when `last` was true.
    pub(crate) raised: u64,
}

impl RoomState {
    /// A room that this entry has just opened.
    #[must_use]
    pub fn opened_by(entry: u64) -> Self {
        Self { opened: entry, ..Self::default() }
    }

    /// The epoch has changed so many times, which may be known already.
    pub(crate) fn raise(&mut self, raised: u64) {
        self.last += IDS_RAISED * raised.saturating_sub(self.raised);
        self.raised = self.raised.max(raised);
    }
}

/// The next block of user ids once the epoch has changed, which it had `raised` times before.
///
/// The first epoch is that of a new log, which has lost nothing. Later ones begin at the time, in milliseconds: so two
/// of which each has forgotten the other do not give out the same, as no more than a block is given out in each. Ids
/// stay below 2^53 until the year 2248.
pub(crate) fn numbers_in_next_epoch(numbers: u64, raised: u64, time_ms: u64) -> u64 {
    if raised == 0 { numbers } else { numbers.max(time_ms) }
}

/// All rooms of a partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mirror {
    /// The epoch of the log.
    pub epoch: Arc<str>,
    /// By name.
    pub rooms: HashMap<Arc<str>, RoomState>,
    /// The users that have left its rooms, and those that were on nodes that are gone.
    pub left: Left,
    /// The time of the last entry, in Unix milliseconds by the clock of Redis.
    pub time_ms: u64,
    /// The bans and mutes, of which only the first partition has any.
    pub terms: Terms,
    /// The next block of user ids.
    pub numbers: u64,
    /// The nodes that are alive, each with its last batch.
    pub nodes: BTreeMap<NodeName, Tag>,
    /// The newest format that each of them reads.
    pub(crate) formats: BTreeMap<NodeName, u16>,
    /// How many times the epoch has changed.
    pub(crate) raised: u64,
    history_max: usize,
}

impl Mirror {
    /// An empty one, that keeps what these say.
    #[must_use]
    pub fn new(settings: &Settings) -> Self {
        Self { history_max: settings.history, left: Left::new(settings.left_ms), ..Self::default() }
    }

    /// An empty one, that keeps as much.
    pub(crate) fn emptied(&self) -> Self {
        Self { history_max: self.history_max, left: self.left.emptied(), ..Self::default() }
    }

    /// Applies an entry. False when it contradicts what was applied before: somebody else has written to Redis. Where a node
    /// starts, and applies entries again that Redis has told the outcome of, that says nothing.
    pub fn apply(&mut self, entry: &Entry) -> bool {
        if let Some(node) = self.nodes.get_mut(&entry.tag.node)
            && node.incarnation == entry.tag.incarnation
        {
            node.batch = node.batch.max(entry.tag.batch);
        }
        self.time_ms = self.time_ms.max(entry.time_ms);
        self.left.forget_expired(self.time_ms);
        let mut fits = true;
        for (place, (proposal, answer)) in entry.decisions().enumerate() {
            if let (Proposal::Terms { changes, .. }, Answer::Done) = (proposal, answer) {
                self.change_terms(changes, term_number(entry.number, place));
                self.terms.retain(|_, term| term.holds(entry.time_ms / 1_000));
            }
            fits &= self.decide(entry, proposal, answer);
        }
        fits
    }

    fn change_terms(&mut self, changes: &[TermChange], number: u64) {
        for TermChange { kind, subject, until, value } in changes {
            let key = (*kind, Arc::clone(subject));
            match value {
                Some(value) => {
                    self.terms.insert(key, Term { number, until: *until, value: Arc::clone(value) })
                }
                None => self.terms.remove(&key),
            };
        }
    }

    /// Returns whether it fits what was decided before.
    fn decide(&mut self, entry: &Entry, proposal: &Proposal, answer: &Answer) -> bool {
        match (proposal, answer) {
            (Proposal::Begin { reads, .. }, Answer::Done) => self.begin(&entry.tag, *reads),
            (Proposal::NodeGone { seen }, Answer::Done) => self.end_life(seen),
            (Proposal::End, Answer::Done) => self.end_life(&entry.tag),
            (Proposal::Epoch { epoch }, Answer::Done) if self.epoch != *epoch => {
                self.epoch = Arc::clone(epoch);
                self.numbers = numbers_in_next_epoch(self.numbers, self.raised, entry.time_ms);
                self.raised += 1;
                self.rooms.values_mut().for_each(|room| room.raise(self.raised));
            }
            (Proposal::Numbers, Answer::Numbers(block)) => self.numbers = block + 1,
            (Proposal::Open { name }, Answer::Opened(opened))
                if self.rooms.get(name).is_none_or(|room| room.opened < *opened) =>
            {
                let room = RoomState { opened: *opened, raised: self.raised, ..RoomState::default() };
                self.rooms.insert(Arc::clone(name), room);
            }
            (Proposal::Forget { room }, Answer::Done)
                if self.rooms.get(&room.name).is_some_and(|state| state.opened == room.opened) =>
            {
                self.rooms.remove(&room.name);
            }
            (Proposal::Join { room, user, visit, member }, Answer::Done) => {
                let member = KeptMember {
                    visit: *visit,
                    node: entry.tag.node.clone(),
                    incarnation: entry.tag.incarnation,
                    member: member.clone(),
                };
                if let Some(room) = self.room(room)
                    && room.members.get(user).is_none_or(|present| present.visit <= *visit)
                {
                    room.members.insert(*user, member);
                }
            }
            (Proposal::Leave { room, user, visit, .. }, Answer::Done) => {
                if let Some(state) = self.room(room)
                    && state.members.get(user).is_some_and(|present| present.visit == *visit)
                    && let Some(member) = state.members.remove(user)
                {
                    let (time_ms, room) = (entry.time_ms, Arc::clone(&room.name));
                    self.left.push(KeptLeft { user: *user, time_ms, room, member });
                }
            }
            (Proposal::Rename { room, user, visit, member }, Answer::Done) => {
                if let Some(present) = self.room(room).and_then(|room| room.members.get_mut(user))
                    && present.visit == *visit
                {
                    present.member = member.clone();
                }
            }
            (Proposal::Message { room, user, account, message, .. }, Answer::Sent(id)) => {
                let (history_max, raised) = (self.history_max, self.raised);
                let Some(room) = self.room(room) else { return true };
                let is_next = *id == room.last + 1;
                if *id > room.last {
                    room.last = *id;
                    room.history.push_back(KeptMessage::Whole {
                        id: *id,
                        time_ms: entry.time_ms,
                        user: *user,
                        account: account.as_deref().unwrap_or_default().to_owned(),
                        message: message.clone(),
                    });
                    room.raised = raised;
                    let too_many = room.history.len().saturating_sub(history_max);
                    room.history.drain(..too_many);
                }
                return is_next;
            }
            (Proposal::Delete { room, message: id, .. }, Answer::Done) => {
                let kept =
                    self.room(room).and_then(|room| room.history.iter_mut().find(|kept| kept.id() == *id));
                if let Some(kept) = kept {
                    *kept = KeptMessage::Deleted { id: *id };
                }
            }
            // It changes nothing, or the log has refused it.
            _ => {}
        }
        true
    }

    /// A node begins: an earlier incarnation has ended.
    fn begin(&mut self, tag: &Tag, reads: u16) {
        self.formats.insert(tag.node.clone(), reads);
        self.nodes.insert(tag.node.clone(), tag.clone());
        self.end(|member| member.node == tag.node && member.incarnation != tag.incarnation);
    }

    /// A node ends, and with it its members.
    fn end_life(&mut self, tag: &Tag) {
        if self.nodes.get(&tag.node).is_some_and(|node| node.is_same_life(tag)) {
            self.nodes.remove(&tag.node);
            self.formats.remove(&tag.node);
        }
        self.end(|member| member.node == tag.node && member.incarnation == tag.incarnation);
    }

    /// Removes the members of nodes that are gone, which Redis keeps for a while. True if there were any.
    pub(crate) fn remove_ghosts(&mut self) -> bool {
        let nodes = self.nodes.clone();
        let is_alive = |member: &KeptMember| {
            nodes.get(&member.node).is_some_and(|node| node.incarnation == member.incarnation)
        };
        self.end(|member| !is_alive(member))
    }

    /// Lets members leave. True if there were any.
    fn end(&mut self, has_ended: impl Fn(&KeptMember) -> bool) -> bool {
        let mut had_any = false;
        for (room, state) in &mut self.rooms {
            state.members.retain(|user, member| {
                let stays = !has_ended(member);
                if !stays {
                    had_any = true;
                    let (user, room, member) = (*user, Arc::clone(room), member.clone());
                    self.left.push(KeptLeft { user, time_ms: self.time_ms, room, member });
                }
                stays
            });
        }
        had_any
    }

    /// The room that a proposal means, unless another one has its name by now.
    fn room(&mut self, room: &Room) -> Option<&mut RoomState> {
        self.rooms.get_mut(&room.name).filter(|state| state.opened == room.opened)
    }
}
