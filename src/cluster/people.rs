//! The users of other nodes, as the log tells of them.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use uproar_cluster::{Answer, Entry, KeptLeft, KeptMember, Mirror, Proposal};

use crate::clock::Clock;
use crate::rooms::{ClientRef, MemberPayload, NodeLife, UserId, UserSession, Users, Visit};

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

/// What an entry means for connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum News {
    /// A user is no longer there by this visit, or an earlier one.
    Over(UserId, Visit),
    /// This connection's user has come back on another node.
    Superseded(ClientRef),
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

    /// Notes what an entry tells of users of other nodes. Returns what their connections here, or those that wait for them, must
    /// know.
    pub(super) fn note(&self, entry: &Entry, is_own: bool) -> Vec<News> {
        let node = (entry.tag.node.clone(), entry.tag.incarnation);
        let mut news = Vec::new();
        for (proposal, answer) in entry.decisions() {
            match (proposal, answer) {
                (Proposal::Join { room, user, visit, member }, Answer::Done) => {
                    if !is_own {
                        news.extend(self.note_member(*user, *visit, &room.name, &node, member));
                    }
                    if let Some((user, visit)) = user_of(*user, *visit)
                        && let Some(before) = visit.before()
                    {
                        news.push(News::Over(user, before));
                    }
                }
                (Proposal::Rename { room, user, visit, member }, Answer::Done) if !is_own => {
                    self.note_member(*user, *visit, &room.name, &node, member);
                }
                // It is proposed again.
                (Proposal::Leave { .. }, Answer::Damaged) => {}
                (Proposal::Leave { user, visit, goes_on: false, .. }, _) => {
                    let Some((user, visit)) = user_of(*user, *visit) else { continue };
                    let expires_ms = self.expires_ms();
                    if self.users.note_left_elsewhere(user, visit, expires_ms) {
                        self.keep(user, expires_ms);
                    }
                    news.push(News::Over(user, visit));
                }
                (Proposal::NodeGone { seen }, Answer::Done) => {
                    news.extend(self.note_gone(|(name, its)| *name == seen.node && *its == seen.incarnation))
                }
                (Proposal::End, Answer::Done) => news.extend(self.note_gone(|life| *life == node)),
                (Proposal::Begin { .. }, Answer::Done) => {
                    news.extend(self.note_gone(|(name, its)| *name == node.0 && *its != node.1));
                }
                _ => {}
            }
        }
        self.forget_expired();
        news
    }

    fn note_gone(&self, is_gone: impl Fn(&NodeLife) -> bool) -> impl Iterator<Item = News> {
        let expires_ms = self.expires_ms();
        let gone = self.users.note_nodes_gone(is_gone, expires_ms);
        gone.iter().for_each(|(user, _)| self.keep(*user, expires_ms));
        gone.into_iter().map(|(user, visit)| News::Over(user, visit))
    }

    fn note_member(
        &self,
        user: u64,
        visit: u64,
        room: &Arc<str>,
        node: &NodeLife,
        member: &[u8],
    ) -> Option<News> {
        let ((user, visit), session) = (user_of(user, visit)?, session_of(room, member)?);
        self.users.note_elsewhere(user, &self.shared(node), visit, session).map(News::Superseded)
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
    let MemberPayload { name, account, owner, .. } = MemberPayload::decode(member)?;
    Some(UserSession { name, room: Arc::clone(room), account: account.or(owner) })
}

fn user_of(user: u64, visit: u64) -> Option<(UserId, Visit)> {
    Some((UserId::from_wire(user)?, Visit(visit)))
}
