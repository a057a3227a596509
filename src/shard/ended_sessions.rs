//! The sessions of this shard's users whose connections have ended, in the order in which they expire.

use std::collections::VecDeque;

use crate::rooms::{UserId, Users};

/// The most entries of a shard's queue, 24 bytes each: 24 MB. Those of sessions that were resumed count until their time
/// comes, so it takes 8,000 ends of connections in each second of two minutes.
const QUEUE_MAX: usize = 1 << 20;

/// The most entries that are taken from the queue in a tick, at some 0.2 µs each.
const EXPIRED_IN_TICK_MAX: usize = 256;

/// How long one may be kept beyond its time, so that a shard is not woken for each.
const SLACK_MS: u64 = 1_000;

/// A session that has ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ended {
    pub(super) user: UserId,
    /// When it is forgotten, on the clock of this shard, which is never ahead of the one that shards share.
    pub(super) due_ms: u64,
    /// When it expires, on that clock; it tells an end from the next end of the same user.
    pub(super) expires_ms: u64,
}

/// Users that can come back. Those who have come back since are still in here, and are skipped when their time comes.
#[derive(Debug, Default)]
pub(super) struct EndedSessions {
    queue: VecDeque<Ended>,
}

impl EndedSessions {
    /// Adds a user whose session expires behind all others. Where more than `kept_max` sessions are kept on all shards, the
    /// oldest of this one is forgotten: returns that user.
    pub(super) fn push(&mut self, ended: Ended, kept_max: usize, users: &Users) -> Option<UserId> {
        self.queue.push_back(ended);
        while users.ended_count() > kept_max || self.queue.len() > QUEUE_MAX {
            let Ended { user, expires_ms, .. } = self.queue.pop_front()?;
            if users.forget(user, expires_ms) {
                return Some(user);
            }
        }
        None
    }

    /// Forgets the sessions that have expired, and tells `note` of each. Of many, the rest is left to the next call.
    pub(super) fn forget_expired(&mut self, now_ms: u64, users: &Users, mut note: impl FnMut(UserId)) {
        for _ in 0..EXPIRED_IN_TICK_MAX {
            let Some(&Ended { user, expires_ms, .. }) =
                self.queue.front().filter(|ended| ended.due_ms <= now_ms)
            else {
                break;
            };
            self.queue.pop_front();
            if users.forget(user, expires_ms) {
                note(user);
            }
        }
        if self.queue.is_empty() && self.queue.capacity() > 1_024 {
            self.queue = VecDeque::new();
        }
    }

    /// When [`EndedSessions::forget_expired`] has something.
    pub(super) fn next_due_ms(&self) -> Option<u64> {
        self.queue.front().map(|ended| ended.due_ms.saturating_add(SLACK_MS))
    }
}

#[cfg(test)]
mod tests {
    use uproar_ring::ConnectionId;

    use super::*;
    use crate::clock::Now;
    use crate::rooms::{ClientRef, Resumption, ShardIndex, UserSession};

    fn connection() -> ClientRef {
        ClientRef { shard: ShardIndex(0), connection: ConnectionId { index: 0, generation: 0 } }
    }

    /// A moment of a shard whose thread could not run for five seconds.
    fn at(monotonic_ms: u64) -> Now {
        Now { monotonic_ms, uptime_ms: monotonic_ms + 5_000, unix_seconds: 0 }
    }

    const KEPT_MAX: usize = 1_000;

    fn ended(users: &Users, sessions: &mut EndedSessions, now_ms: u64) -> (UserId, Option<UserId>) {
        let session = UserSession { name: "a".into(), room: "general".into(), account: None };
        let user = users.register(connection(), |_| Some(session)).unwrap();
        (user, end(user, users, sessions, now_ms))
    }

    fn end(user: UserId, users: &Users, sessions: &mut EndedSessions, now_ms: u64) -> Option<UserId> {
        let expires_ms = users.end(user, 100, at(now_ms)).unwrap();
        sessions.push(Ended { user, due_ms: now_ms + 100, expires_ms }, KEPT_MAX, users)
    }

    fn resume(user: UserId, users: &Users, now_ms: u64) {
        assert!(matches!(users.resume(user, connection(), |_| true, at(now_ms)), Resumption::Resumed(..)));
    }

    fn forgotten(users: &Users, sessions: &mut EndedSessions, now_ms: u64) -> Vec<UserId> {
        let mut forgotten = Vec::new();
        sessions.forget_expired(now_ms, users, |user| forgotten.push(user));
        forgotten
    }

    #[test]
    fn sessions_are_forgotten_when_they_expire_unless_they_were_resumed() {
        let (users, mut sessions) = (Users::default(), EndedSessions::default());
        let [first, second, third] = [1, 2, 3].map(|now_ms| ended(&users, &mut sessions, now_ms).0);
        resume(second, &users, 3);
        assert_eq!(sessions.next_due_ms(), Some(101 + SLACK_MS));
        assert_eq!(forgotten(&users, &mut sessions, 100), []);
        assert_eq!(forgotten(&users, &mut sessions, 103), [first, third]);
        assert_eq!((forgotten(&users, &mut sessions, 103), sessions.next_due_ms()), (vec![], None));
        assert_eq!((users.online_count(), users.ended_count()), (1, 0));
    }

    #[test]
    fn many_that_expire_together_are_forgotten_in_several_ticks() {
        let (users, mut sessions) = (Users::default(), EndedSessions::default());
        for _ in 0..EXPIRED_IN_TICK_MAX + 7 {
            ended(&users, &mut sessions, 0);
        }
        assert_eq!(forgotten(&users, &mut sessions, 100).len(), EXPIRED_IN_TICK_MAX);
        assert_eq!(forgotten(&users, &mut sessions, 100).len(), 7);
    }

    #[test]
    fn the_oldest_session_makes_place() {
        let (users, mut sessions) = (Users::default(), EndedSessions::default());
        let (oldest, _) = ended(&users, &mut sessions, 0);
        for _ in 1..KEPT_MAX {
            assert_eq!(ended(&users, &mut sessions, 0).1, None);
        }
        assert_eq!(ended(&users, &mut sessions, 0).1, Some(oldest));
        assert_eq!(users.ended_count(), KEPT_MAX);
    }

    #[test]
    fn one_user_that_comes_and_goes_displaces_nobody() {
        let (users, mut sessions) = (Users::default(), EndedSessions::default());
        let (first, _) = ended(&users, &mut sessions, 0);
        let (restless, _) = ended(&users, &mut sessions, 0);
        for now_ms in 1..2 * KEPT_MAX as u64 {
            resume(restless, &users, now_ms);
            assert_eq!(end(restless, &users, &mut sessions, now_ms), None);
        }
        assert_eq!(forgotten(&users, &mut sessions, 100), [first]);
    }
}
