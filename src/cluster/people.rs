//! The users of other nodes, as the log tells of them.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use uproar_cluster::{Answer, Entry, KeptLeft, KeptMember, Mirror, Proposal};

use crate::clock::Clock;
use crate::rooms::{MemberPayload, NodeLife, UserId, UserSession, Users, Visit};

/// Notes in [`Users`] where users of other nodes are, and forgets those that have left and cannot come back any more.
#[derive(Debug)]
pub(super) struct People {
    users: Users,
    clock: Clock,
    timeout_ms: u64,
    /// How many that have left are kept at most.
    kept_max: usize,
    /// The node of the last entry: mostly it is that of the next, too.
    last: Mutex<Option<Arc<NodeLife>>>,
    left: Mutex<VecDeque<(UserId, u64)>>,
}

impl People {
    pub(super) fn new(users: Users, clock: Clock, timeout_ms: u64, kept_max: usize) -> Self {
        Self { users, clock, timeout_ms, kept_max, last: Mutex::default(), left: Mutex::default() }
    }

    /// The members of the rooms of all partitions as this server begins, and who has left them.
    pub(super) fn note_all<'a>(&self, mirrors: impl Iterator<Item = &'a Mirror>) {
        let mut left: Vec<(u64, &KeptLeft)> = Vec::new();
        for mirror in mirrors {
            for (room, state) in &mirror.rooms {
                for (user, KeptMember { visit, node, incarnation, member }) in &state.members {
                    self.note_member(*user, *visit, room, &(node.clone(), *incarnation), member);
                }
            }
            left.extend(mirror.left.iter().map(|left| (mirror.time_ms.saturating_sub(left.time_ms), left)));
        }
        // Who has gone on to another room was in the earlier one by the same visit, or is in the later one.
        left.sort_unstable_by_key(|(age_ms, _)| std::cmp::Reverse(*age_ms));
        for (age_ms, left) in left.into_iter().filter(|(age_ms, _)| *age_ms < self.timeout_ms) {
            self.note_left_before(left, self.expires_ms().saturating_sub(age_ms));
        }
    }

    fn note_left_before(&self, left: &KeptLeft, expires_ms: u64) {
        let KeptMember { visit, node, incarnation, member } = &left.member;
        let Some((user, visit)) = user_of(left.user, *visit) else { return };
        let Some(session) = session_of(&left.room, member) else { return };
        let node = self.shared(&(node.clone(), *incarnation));
        if self.users.note_left_before(user, &node, visit, session, expires_ms) {
            self.keep(user, expires_ms);
        }
    }

    /// An entry of another node, or one that ends others. Calls `has_left` with each user that has left another node.
    pub(super) fn note(&self, entry: &Entry, is_own: bool, mut has_left: impl FnMut(UserId)) {
        let node = (entry.tag.node.clone(), entry.tag.incarnation);
        for (proposal, answer) in entry.decisions().filter(|(_, answer)| **answer == Answer::Done) {
            match proposal {
                Proposal::Join { room, user, visit, member }
                | Proposal::Rename { room, user, visit, member }
                    if !is_own =>
                {
                    self.note_member(*user, *visit, &room.name, &node, member);
                }
                Proposal::Leave { room, user, visit } if !is_own => {
                    let Some((user, visit)) = user_of(*user, *visit) else { continue };
                    let expires_ms = self.expires_ms();
                    if self.users.note_left_elsewhere(user, visit, &room.name, expires_ms) {
                        self.keep(user, expires_ms);
                        has_left(user);
                    }
                }
                Proposal::NodeGone { seen } => self.note_gone(
                    |(name, incarnation)| *name == seen.node && *incarnation == seen.incarnation,
                    &mut has_left,
                ),
                Proposal::End => self.note_gone(|life| *life == node, &mut has_left),
                Proposal::Begin { .. } => self.note_gone(
                    |(name, incarnation)| *name == node.0 && *incarnation != node.1,
                    &mut has_left,
                ),
                _ => {}
            }
            debug_assert!(matches!(answer, Answer::Done));
        }
        self.forget_expired();
    }

    fn note_gone(&self, is_gone: impl Fn(&NodeLife) -> bool, mut has_left: impl FnMut(UserId)) {
        let expires_ms = self.expires_ms();
        for user in self.users.note_nodes_gone(is_gone, expires_ms) {
            self.keep(user, expires_ms);
            has_left(user);
        }
    }

    fn note_member(&self, user: u64, visit: u64, room: &Arc<str>, node: &NodeLife, member: &[u8]) {
        let (Some((user, visit)), Some(session)) = (user_of(user, visit), session_of(room, member)) else {
            return;
        };
        self.users.note_elsewhere(user, &self.shared(node), visit, session);
    }

    /// The node, of which all its users share one.
    fn shared(&self, node: &NodeLife) -> Arc<NodeLife> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        match &*last {
            Some(last) if **last == *node => Arc::clone(last),
            _ => Arc::clone(last.insert(Arc::new(node.clone()))),
        }
    }

    fn expires_ms(&self) -> u64 {
        self.clock.now().uptime_ms.saturating_add(self.timeout_ms)
    }

    fn keep(&self, user: UserId, expires_ms: u64) {
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        left.push_back((user, expires_ms));
        while left.len() > self.kept_max {
            if let Some((user, expires_ms)) = left.pop_front() {
                self.users.forget_elsewhere(user, expires_ms);
            }
        }
    }

    fn forget_expired(&self) {
        let now_ms = self.clock.now().uptime_ms;
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(&(user, expires_ms)) = left.front().filter(|(_, expires_ms)| *expires_ms <= now_ms) {
            left.pop_front();
            self.users.forget_elsewhere(user, expires_ms);
        }
    }
}

/// What is kept of a member; `None` for what no node writes.
fn session_of(room: &Arc<str>, member: &[u8]) -> Option<UserSession> {
    let MemberPayload { name, account, .. } = MemberPayload::decode(member)?;
    Some(UserSession { name, room: Arc::clone(room), account })
}

fn user_of(user: u64, visit: u64) -> Option<(UserId, Visit)> {
    Some((UserId::from_wire(user)?, Visit(u32::try_from(visit).ok()?)))
}
