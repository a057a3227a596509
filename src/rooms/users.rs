//! The users of all shards: the counter that user ids are taken from, and the connection of each user (over 500 lines because
//! of its tests).
//!
//! A shard registers a user when it greets the user, and ends it when the user goes. A chat user stays here for a while
//! longer, so that it can come back as the same user. Shards look a user up for private messages, admins' orders and read
//! receipts, and homes for joins. Messages of rooms and topics never come here.
//!
//! Only a user's own shard changes its entry while it is online, and so always finds the present state there. Another shard
//! may find a user that has gone by the time its request arrives; the user's shard decides. The entry of a user that has
//! ended belongs to no shard, and the one that resumes the session takes it in one step.
//!
//! The map is papaya's. Its look-ups take no lock, and shards that write wait for each other only while the table is
//! copied into a larger or smaller one, a few entries at a time. In a map of locks (dashmap; scc), a shard that is
//! preempted while it holds one stops the others for a time slice. A registry shard would need no map, but adds a hop to
//! each private message. A look-up takes 33 ns among 10,000 users, beside 16 ns in the standard library's map.
//!
//! Memory: 60 bytes for each user, and some 120 for what is kept of one that can come back. Each shard keeps at most 32
//! entries of users that have gone (or one for each core of the machine, if that is more) until papaya frees them together.
//! The table is halved when newcomers find it full of removed entries; until then it has 9 to 18 bytes for each user of the
//! busiest time. papaya's feature `fast-barrier` stays off: with it, freeing would interrupt all cores (`membarrier`).

use std::sync::Arc;
use std::sync::atomic::{AtomicIsize, AtomicU64, Ordering};

use papaya::{Compute, HashMap, Operation};

use super::id_blocks::IdBlocks;
use super::{ClientRef, EndedSession, NodeLife, StoredSession, UserId, UserSession, Visit, VisitNode};
use crate::clock::Now;

/// All users of a server, by id. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Users(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// The last id that was given out, where this server alone gives them out.
    last_id: AtomicU64,
    /// In a cluster, the ids that are this server's to give out.
    blocks: Option<IdBlocks>,
    /// In the visits that this server gives.
    node: VisitNode,
    /// The last id that no later life of the server gives again; all of them where it has no storage.
    reserved_through: AtomicU64,
    /// How many sessions have ended and are kept. It is changed behind the map, so it may be below zero for a moment.
    ended: AtomicIsize,
    users: HashMap<UserId, UserState>,
}

impl Default for Shared {
    fn default() -> Self {
        Self {
            last_id: AtomicU64::new(0),
            blocks: None,
            node: VisitNode::default(),
            reserved_through: AtomicU64::new(u64::MAX),
            ended: AtomicIsize::new(0),
            users: HashMap::default(),
        }
    }
}

/// Where a user is.
#[derive(Clone, Debug)]
enum UserState {
    /// On this connection. `session` is what is kept when that ends; `None` for a user who cannot come back.
    Online { connection: ClientRef, visit: Visit, session: Option<Arc<UserSession>> },
    /// Nowhere, and may come back until it expires.
    Ended { visit: Visit, session: EndedSession },
    /// On another server of the cluster, or there last. Where it has left it may come back until `expires_ms`.
    Elsewhere { node: Arc<NodeLife>, visit: Visit, session: Arc<UserSession>, expires_ms: Option<u64> },
}

/// Where a user is online.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Whereabouts {
    /// On this connection.
    Here(ClientRef),
    /// On another server of the cluster, under this name.
    Elsewhere(Arc<NodeLife>, Arc<str>),
}

impl UserState {
    fn is_online(&self) -> bool {
        matches!(self, Self::Online { .. })
    }

    /// What the storage keeps of it.
    fn stored(&self) -> Option<StoredSession> {
        match self {
            Self::Online { session, .. } => {
                session.clone().map(|session| StoredSession { session, ended_at: None })
            }
            Self::Ended { session: EndedSession { session, ended_at, .. }, .. } => {
                Some(StoredSession { session: Arc::clone(session), ended_at: Some(*ended_at) })
            }
            // A server in a cluster has no storage.
            Self::Elsewhere { .. } => None,
        }
    }
}

/// The outcome of [`Users::resume`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resumption {
    /// The user is on the new connection now.
    Resumed(Visit, Arc<UserSession>),
    /// The user is still on this connection.
    Online(ClientRef),
    /// The user is still on this server, by this visit.
    Elsewhere(Arc<NodeLife>, Visit),
    /// There is no such session, it has expired, or it was not accepted.
    Refused,
}

impl Users {
    /// Those of a server in a cluster, which gives out ids of [`IdBlocks::add`].
    #[must_use]
    pub fn in_cluster() -> Self {
        Self(Arc::new(Shared {
            blocks: Some(IdBlocks::default()),
            node: VisitNode::random(),
            ..Shared::default()
        }))
    }

    /// In a cluster, the ids that are this server's to give out.
    #[must_use]
    pub fn blocks(&self) -> Option<&IdBlocks> {
        self.0.blocks.as_ref()
    }

    /// Gives the next id to the user of this connection. `session` says what is kept for the case that it comes back, if it
    /// can. `None` where a server in a cluster has no id left, because the log is out of reach.
    #[must_use]
    pub fn register(
        &self,
        connection: ClientRef,
        session: impl FnOnce(UserId) -> Option<UserSession>,
    ) -> Option<UserId> {
        let user = UserId(match &self.0.blocks {
            None => self.0.last_id.fetch_add(1, Ordering::Relaxed) + 1,
            Some(blocks) => blocks.take()?,
        });
        let session = session(user).map(Arc::new);
        let state = UserState::Online { connection, visit: Visit::default(), session };
        let is_new = self.0.users.pin().insert(user, state).is_none();
        assert!(is_new, "Bug: user {user} was registered before");
        Some(user)
    }

    /// The connection of a user that is online on this server.
    #[must_use]
    pub fn find(&self, user: UserId) -> Option<ClientRef> {
        match self.0.users.pin().get(&user)? {
            UserState::Online { connection, .. } => Some(*connection),
            UserState::Ended { .. } | UserState::Elsewhere { .. } => None,
        }
    }

    /// Where a user is online, on this server or another one of the cluster.
    #[must_use]
    pub fn locate(&self, user: UserId) -> Option<Whereabouts> {
        match self.0.users.pin().get(&user)? {
            UserState::Online { connection, .. } => Some(Whereabouts::Here(*connection)),
            UserState::Elsewhere { node, session, expires_ms: None, .. } => {
                Some(Whereabouts::Elsewhere(Arc::clone(node), Arc::clone(&session.name)))
            }
            UserState::Ended { .. } | UserState::Elsewhere { .. } => None,
        }
    }

    /// True while a user is on another server by this visit.
    #[must_use]
    pub fn is_elsewhere(&self, user: UserId, visit: Visit) -> bool {
        matches!(
            self.0.users.pin().get(&user),
            Some(UserState::Elsewhere { visit: present, expires_ms: None, .. }) if *present == visit
        )
    }

    /// Which of its connections a user is on, or was on last; `None` if it is forgotten.
    #[must_use]
    pub fn visit(&self, user: UserId) -> Option<Visit> {
        match self.0.users.pin().get(&user)? {
            UserState::Online { visit, .. }
            | UserState::Ended { visit, .. }
            | UserState::Elsewhere { visit, .. } => Some(*visit),
        }
    }

    /// Changes what is kept of a user that is online. Only its own shard calls this.
    pub fn update(&self, user: UserId, session: UserSession) {
        let session = Arc::new(session);
        self.0.users.pin().update(user, |state| match state {
            UserState::Online { connection, visit, .. } => UserState::Online {
                connection: *connection,
                visit: *visit,
                session: Some(Arc::clone(&session)),
            },
            UserState::Ended { .. } | UserState::Elsewhere { .. } => state.clone(),
        });
    }

    /// Notes that a user's connection has ended. Only its own shard calls this. Returns until when the session may be
    /// resumed; `None` if the user is forgotten, because it has no session or sessions are not kept (`timeout_ms` 0).
    pub fn end(&self, user: UserId, timeout_ms: u64, now: Now) -> Option<u64> {
        let expires_ms = now.uptime_ms.saturating_add(timeout_ms);
        let ended = |visit, session: &Arc<UserSession>| {
            let (session, ended_at) = (Arc::clone(session), now.unix_seconds);
            UserState::Ended { visit, session: EndedSession { user, session, ended_at, expires_ms } }
        };
        let users = self.0.users.pin();
        let outcome = users.compute(user, |entry| match entry {
            Some((_, UserState::Online { visit, session: Some(session), .. })) if timeout_ms > 0 => {
                Operation::Insert(ended(*visit, session))
            }
            Some((_, UserState::Online { .. })) => Operation::Remove,
            // Where it is elsewhere, it has come back there before this connection has ended.
            Some((_, UserState::Ended { .. } | UserState::Elsewhere { .. })) | None => Operation::Abort(()),
        });
        let is_kept = matches!(outcome, Compute::Updated { .. });
        self.0.ended.fetch_add(isize::from(is_kept), Ordering::Relaxed);
        is_kept.then_some(expires_ms)
    }

    /// Puts a user that has ended, and whose session is accepted, on a new connection. Of two at once, one finds the other.
    #[must_use]
    pub fn resume(
        &self,
        user: UserId,
        connection: ClientRef,
        is_accepted: impl Fn(&UserSession) -> bool,
        now: Now,
    ) -> Resumption {
        let users = self.0.users.pin();
        loop {
            let (earlier, kept, is_ended_here) = match users.get(&user) {
                Some(UserState::Online { connection, session: Some(session), .. })
                    if is_accepted(session) =>
                {
                    return Resumption::Online(*connection);
                }
                Some(UserState::Ended { visit, session })
                    if now.uptime_ms < session.expires_ms && is_accepted(&session.session) =>
                {
                    (*visit, Arc::clone(&session.session), true)
                }
                Some(UserState::Elsewhere { node, visit, session, expires_ms: None })
                    if is_accepted(session) =>
                {
                    return Resumption::Elsewhere(Arc::clone(node), *visit);
                }
                Some(UserState::Elsewhere { visit, session, expires_ms: Some(expires_ms), .. })
                    if now.uptime_ms < *expires_ms && is_accepted(session) =>
                {
                    (*visit, Arc::clone(session), false)
                }
                _ => return Resumption::Refused,
            };
            let visit = earlier.next(self.0.node);
            let outcome = users.compute(user, |entry| match entry {
                Some((
                    _,
                    UserState::Ended { visit: present, session: EndedSession { session, .. } }
                    | UserState::Elsewhere { visit: present, session, expires_ms: Some(_), .. },
                )) if *present == earlier && Arc::ptr_eq(session, &kept) => {
                    let session = Some(Arc::clone(&kept));
                    Operation::Insert(UserState::Online { connection, visit, session })
                }
                _ => Operation::Abort(()),
            });
            if matches!(outcome, Compute::Updated { .. }) {
                self.0.ended.fetch_sub(isize::from(is_ended_here), Ordering::Relaxed);
                return Resumption::Resumed(visit, kept);
            }
            // Another connection has taken it since, or it was forgotten: each time that this repeats, somebody else is done.
        }
    }

    /// Forgets a session that has ended and expires at this time, unless it was resumed meanwhile. True if it was there.
    pub fn forget(&self, user: UserId, expires_ms: u64) -> bool {
        let users = self.0.users.pin();
        let outcome = users.compute(user, |entry| match entry {
            Some((_, UserState::Ended { session, .. })) if session.expires_ms == expires_ms => {
                Operation::Remove
            }
            _ => Operation::Abort(()),
        });
        let is_forgotten = matches!(outcome, Compute::Removed(..));
        self.0.ended.fetch_sub(isize::from(is_forgotten), Ordering::Relaxed);
        is_forgotten
    }

    /// A user is on another server of the cluster by this visit, or has another name or account there. Returns its connection on
    /// this server, where that is an earlier one.
    pub fn note_elsewhere(
        &self,
        user: UserId,
        node: &Arc<NodeLife>,
        visit: Visit,
        session: UserSession,
    ) -> Option<ClientRef> {
        let session = Arc::new(session);
        let state = |session: &Arc<UserSession>| UserState::Elsewhere {
            node: Arc::clone(node),
            visit,
            session: Arc::clone(session),
            expires_ms: None,
        };
        let users = self.0.users.pin();
        let outcome = users.compute(user, |entry| match entry {
            // What another server knows of an earlier visit comes late.
            Some((_, UserState::Online { visit: present, .. } | UserState::Ended { visit: present, .. }))
                if *present >= visit =>
            {
                Operation::Abort(())
            }
            Some((_, UserState::Elsewhere { visit: present, .. })) if *present > visit => {
                Operation::Abort(())
            }
            _ => Operation::Insert(state(&session)),
        });
        let Compute::Updated { old: (_, before), .. } = outcome else { return None };
        match before {
            UserState::Online { connection, .. } => Some(*connection),
            UserState::Ended { .. } => {
                self.0.ended.fetch_sub(1, Ordering::Relaxed);
                None
            }
            UserState::Elsewhere { .. } => None,
        }
    }

    /// A user's connection on another server of the cluster, which has this visit, has ended, and it may come back until
    /// `expires_ms`. True if it was there.
    pub fn note_left_elsewhere(&self, user: UserId, visit: Visit, expires_ms: u64) -> bool {
        let users = self.0.users.pin();
        let outcome = users.compute(user, |entry| match entry {
            Some((_, UserState::Elsewhere { node, visit: present, session, expires_ms: None }))
                if *present == visit =>
            {
                Operation::Insert(UserState::Elsewhere {
                    node: Arc::clone(node),
                    visit,
                    session: Arc::clone(session),
                    expires_ms: Some(expires_ms),
                })
            }
            _ => Operation::Abort(()),
        });
        matches!(outcome, Compute::Updated { .. })
    }

    /// Before this server has begun, a user had left another one that it was on by this visit, and may come back until
    /// `expires_ms`. True if it is nowhere since.
    pub fn note_left_before(
        &self,
        user: UserId,
        node: &Arc<NodeLife>,
        visit: Visit,
        session: UserSession,
        expires_ms: u64,
    ) -> bool {
        let session = Arc::new(session);
        let left = || UserState::Elsewhere {
            node: Arc::clone(node),
            visit,
            session: Arc::clone(&session),
            expires_ms: Some(expires_ms),
        };
        let users = self.0.users.pin();
        let outcome = users.compute(user, |entry| match entry {
            None => Operation::Insert(left()),
            Some((_, UserState::Elsewhere { visit: present, expires_ms: Some(_), .. }))
                if *present <= visit =>
            {
                Operation::Insert(left())
            }
            Some(_) => Operation::Abort(()),
        });
        matches!(outcome, Compute::Inserted(..) | Compute::Updated { .. })
    }

    /// These servers of the cluster are gone. Returns the users that were there, and by which visits, who may come back until `expires_ms`. It visits
    /// every user.
    pub fn note_nodes_gone(
        &self,
        is_gone: impl Fn(&NodeLife) -> bool,
        expires_ms: u64,
    ) -> Vec<(UserId, Visit)> {
        let there: Vec<_> = {
            let users = self.0.users.pin();
            let of_it = |(user, state): (&UserId, &UserState)| match state {
                UserState::Elsewhere { node, visit, expires_ms: None, .. } if is_gone(node) => {
                    Some((*user, *visit))
                }
                _ => None,
            };
            users.iter().filter_map(of_it).collect()
        };
        there
            .into_iter()
            .filter(|(user, visit)| self.note_left_elsewhere(*user, *visit, expires_ms))
            .collect()
    }

    /// Forgets a user that has left another server, unless it has come back. True if it was there.
    pub fn forget_elsewhere(&self, user: UserId, expires_ms: u64) -> bool {
        let users = self.0.users.pin();
        let outcome = users.compute(user, |entry| match entry {
            Some((_, UserState::Elsewhere { expires_ms: Some(its), .. })) if *its == expires_ms => {
                Operation::Remove
            }
            _ => Operation::Abort(()),
        });
        matches!(outcome, Compute::Removed(..))
    }

    /// Takes over the sessions of an earlier life of the server.
    pub fn restore(&self, sessions: &[EndedSession]) {
        for session in sessions {
            let (user, session) = (session.user, session.clone());
            self.0.users.pin().insert(user, UserState::Ended { visit: Visit::default(), session });
        }
        self.0.ended.fetch_add(sessions.len() as isize, Ordering::Relaxed);
    }

    /// Gives out only ids behind this one from now on.
    pub fn continue_after(&self, last: u64) {
        self.0.last_id.fetch_max(last, Ordering::Relaxed);
    }

    /// Ids up to this one are on the disk: no later life of the server gives them again.
    pub fn reserve_through(&self, last: u64) {
        self.0.reserved_through.store(last, Ordering::Release);
    }

    /// Whether no later life of the server gives this user's id to another user. Otherwise it must sign nothing about it.
    #[must_use]
    pub fn is_reserved(&self, user: UserId) -> bool {
        user.0 <= self.0.reserved_through.load(Ordering::Acquire)
    }

    /// The last id that was given out; 0 if none was.
    #[must_use]
    pub fn last_id(&self) -> u64 {
        self.0.last_id.load(Ordering::Relaxed)
    }

    /// What the storage keeps of a user.
    #[must_use]
    pub fn stored_session(&self, user: UserId) -> Option<StoredSession> {
        self.0.users.pin().get(&user).and_then(UserState::stored)
    }

    /// What the storage keeps of all users.
    #[must_use]
    pub fn stored_sessions(&self) -> Vec<(UserId, StoredSession)> {
        let users = self.0.users.pin();
        users.iter().filter_map(|(user, state)| Some((*user, state.stored()?))).collect()
    }

    /// How many users are online. It visits every user, and is for tests.
    #[must_use]
    pub fn online_count(&self) -> usize {
        self.0.users.pin().values().filter(|state| state.is_online()).count()
    }

    /// How many sessions have ended and are kept.
    #[must_use]
    pub fn ended_count(&self) -> usize {
        self.0.ended.load(Ordering::Relaxed).try_into().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::thread;

    use super::*;
    use crate::rooms::ShardIndex;
    use uproar_ring::ConnectionId;

    fn connection(shard: u16, index: u32) -> ClientRef {
        ClientRef { shard: ShardIndex(shard), connection: ConnectionId { index, generation: 0 } }
    }

    const NOW: Now = Now { monotonic_ms: 0, uptime_ms: 1_000, unix_seconds: 50 };

    fn end(users: &Users, user: UserId) {
        assert_eq!(users.end(user, 120_000, NOW), None, "it has no session");
    }

    fn session(name: &str) -> UserSession {
        UserSession { name: name.into(), room: "general".into(), account: None }
    }

    fn second_visit() -> Visit {
        Visit::default().next(VisitNode::default())
    }

    fn at(uptime_ms: u64) -> Now {
        Now { uptime_ms, ..NOW }
    }

    #[test]
    fn a_session_is_resumed_once_until_it_expires() {
        let users = Users::default();
        let ann = users.register(connection(0, 1), |_| Some(session("a"))).unwrap();
        users.update(ann, session("Ann"));
        let resume = |index, now| users.resume(ann, connection(1, index), |kept| &*kept.name == "Ann", now);
        assert_eq!(resume(2, NOW), Resumption::Online(connection(0, 1)));
        assert_eq!(users.end(ann, 500, NOW), Some(1_500));
        assert_eq!((users.find(ann), users.ended_count()), (None, 1));
        assert_eq!(users.resume(ann, connection(1, 2), |_| false, NOW), Resumption::Refused);
        assert_eq!(resume(2, at(1_500)), Resumption::Refused);
        assert_eq!(resume(2, at(1_499)), Resumption::Resumed(second_visit(), session("Ann").into()));
        assert_eq!(resume(3, at(1_499)), Resumption::Online(connection(1, 2)));
        assert_eq!(users.find(ann), Some(connection(1, 2)));
        assert!(!users.forget(ann, 1_500), "it was resumed");
        assert_eq!(users.end(ann, 500, at(1_600)), Some(2_100));
        assert!(!users.forget(ann, 1_500) && users.forget(ann, 2_100));
        assert_eq!(resume(4, at(1_700)), Resumption::Refused);
        assert_eq!(users.resume(UserId(9), connection(0, 0), |_| true, NOW), Resumption::Refused);
    }

    #[test]
    fn a_user_that_has_left_another_server_comes_back_here() {
        let (users, user) = (Users::default(), UserId(7));
        let life = |name: &str, number| (name.parse().unwrap(), uproar_cluster::Incarnation(number));
        let (a, b) = (Arc::new(life("a", 1)), Arc::new(life("b", 1)));
        users.note_elsewhere(user, &a, Visit(3), session("Ann"));
        assert_eq!(users.locate(user), Some(Whereabouts::Elsewhere(Arc::clone(&a), "Ann".into())));
        let second = Visit(3).next(VisitNode::default());
        let resume = || users.resume(user, connection(0, 1), |_| true, NOW);
        assert_eq!(resume(), Resumption::Elsewhere(Arc::clone(&a), Visit(3)));
        assert!(users.is_elsewhere(user, Visit(3)) && !users.is_elsewhere(user, Visit(2)));
        assert!(!users.note_left_elsewhere(user, Visit(2), 2_000), "it has come back there");
        assert!(users.note_left_elsewhere(user, Visit(3), 2_000));
        assert_eq!(users.locate(user), None);
        assert_eq!(users.resume(user, connection(0, 1), |_| true, at(2_000)), Resumption::Refused);
        assert_eq!(resume(), Resumption::Resumed(second, session("Ann").into()));
        // What was known of the earlier visit comes late.
        assert_eq!(users.note_elsewhere(user, &a, Visit(3), session("Ann")), None);
        assert_eq!(users.locate(user), Some(Whereabouts::Here(connection(0, 1))));
        assert_eq!(users.end(user, 500, NOW), Some(1_500));
        let third = second.next(VisitNode::default());
        assert_eq!(users.note_elsewhere(user, &b, third, session("Ann")), None);
        assert_eq!(users.ended_count(), 0);
        assert_eq!(users.note_nodes_gone(|(name, _)| *name == b.0, 3_000), [(user, third)]);
        assert!(!users.forget_elsewhere(user, 2_000) && users.forget_elsewhere(user, 3_000));
        assert_eq!(resume(), Resumption::Refused);
    }

    #[test]
    fn of_two_nodes_that_a_user_comes_back_to_at_once_the_later_visit_counts() {
        let (users, b) = (Users::default(), Arc::new(("b".parse().unwrap(), uproar_cluster::Incarnation(1))));
        let ann = users.register(connection(0, 1), |_| Some(session("Ann"))).unwrap();
        assert_eq!(users.note_elsewhere(ann, &b, second_visit(), session("Ann")), Some(connection(0, 1)));
        assert_eq!(users.find(ann), None);
        // Its own shard hears of it later.
        assert_eq!(users.end(ann, 500, NOW), None);
        assert!(users.is_elsewhere(ann, second_visit()));
    }

    #[test]
    fn where_sessions_are_not_kept_a_user_is_forgotten_at_its_end() {
        let users = Users::default();
        let ann = users.register(connection(0, 1), |_| Some(session("Ann"))).unwrap();
        assert_eq!(users.end(ann, 0, NOW), None);
        assert_eq!(users.ended_count(), 0);
    }

    #[test]
    fn a_session_expires_on_every_shard_at_the_same_time() {
        let users = Users::default();
        let ann = users.register(connection(0, 0), |_| Some(session("Ann"))).unwrap();
        // The thread of one shard could not run for a minute.
        users.end(ann, 500, Now { monotonic_ms: 1_000, uptime_ms: 61_000, unix_seconds: 50 });
        let resume = |uptime_ms| {
            let now = Now { monotonic_ms: uptime_ms, uptime_ms, unix_seconds: 50 };
            users.resume(ann, connection(1, 0), |_| true, now)
        };
        assert_eq!(resume(61_500), Resumption::Refused);
        assert_eq!(resume(61_499), Resumption::Resumed(second_visit(), session("Ann").into()));
    }

    #[test]
    fn the_storage_keeps_the_present_session() {
        let users = Users::default();
        let hub = users.register(connection(0, 0), |_| None).unwrap();
        let ann = users.register(connection(0, 1), |_| Some(session("Ann"))).unwrap();
        let stored = |ended_at| StoredSession { session: session("Ann").into(), ended_at };
        assert_eq!(users.stored_sessions(), [(ann, stored(None))]);
        users.end(ann, 500, NOW);
        assert_eq!((users.stored_session(hub), users.stored_session(ann)), (None, Some(stored(Some(50)))));
        let restored = Users::default();
        let ended = EndedSession { user: ann, session: session("Ann").into(), ended_at: 50, expires_ms: 9 };
        restored.restore(&[ended]);
        let resumed = restored.resume(ann, connection(0, 0), |_| true, at(8));
        assert_eq!(resumed, Resumption::Resumed(second_visit(), session("Ann").into()));
    }

    #[test]
    fn ids_count_up_over_all_shards() {
        let users = Users::default();
        let ids = [3, 0, 3, 1].map(|shard| users.register(connection(shard, 0), |_| None).unwrap().get());
        assert_eq!(ids, [1, 2, 3, 4]);
        end(&users, UserId(4));
        assert_eq!(users.register(connection(0, 1), |_| None).unwrap().get(), 5, "no id is given twice");
    }

    #[test]
    fn ids_go_on_behind_those_of_an_earlier_life() {
        let users = Users::default();
        users.continue_after(40);
        users.continue_after(7);
        assert_eq!(users.register(connection(0, 0), |_| None).unwrap().get(), 41);
    }

    #[test]
    fn users_are_found_until_they_are_removed() {
        let users = Users::default();
        let (ann, bob) = (
            users.register(connection(1, 5), |_| None).unwrap(),
            users.register(connection(2, 5), |_| None).unwrap(),
        );
        assert_eq!(users.find(ann), Some(connection(1, 5)));
        end(&users, ann);
        assert_eq!((users.find(ann), users.find(bob)), (None, Some(connection(2, 5))));
        end(&users, bob);
        assert_eq!((users.online_count(), users.ended_count()), (0, 0));
    }

    /// Each thread writes its own entries and reads those of all, while the table grows and shrinks.
    #[test]
    fn shards_register_and_find_users_at_the_same_time() {
        const SHARDS: u16 = 4;
        const USERS: u32 = 2_000;
        let users = Users::default();
        let by_shard: Vec<Vec<u64>> = thread::scope(|scope| {
            let shards = (0..SHARDS).map(|shard| {
                let users = &users;
                scope.spawn(move || {
                    let mut ids = Vec::new();
                    for index in 0..USERS {
                        let id = users.register(connection(shard, index), |_| None).unwrap();
                        assert_eq!(users.find(id), Some(connection(shard, index)));
                        let other = users.find(UserId(1 + id.get() / 2));
                        assert!(other.is_none_or(|other| other.shard.0 < SHARDS));
                        if index % 3 != 0 {
                            end(users, id);
                            assert_eq!(users.find(id), None);
                        }
                        ids.push(id.get());
                    }
                    ids
                })
            });
            let shards: Vec<_> = shards.collect();
            shards.into_iter().map(|shard| shard.join().unwrap()).collect()
        });
        let all: BTreeSet<u64> = by_shard.iter().flatten().copied().collect();
        assert!(all.into_iter().eq(1..=u64::from(SHARDS) * u64::from(USERS)));
        assert!(by_shard.iter().all(|ids| ids.is_sorted()));
        assert_eq!(users.online_count(), usize::from(SHARDS) * USERS.div_ceil(3) as usize);
    }
}
