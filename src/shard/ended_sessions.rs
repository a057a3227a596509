//! The sessions of this shard's users whose connections have ended, in the order in which they expire.

use std::collections::VecDeque;

use crate::rooms::{UserId, Users};

/// The most sessions that a shard keeps, some 300 bytes each: 20 MB. It is as many clients as one shard serves.
const SESSIONS_MAX: usize = 1 << 16;

/// How long one may be kept beyond its time, so that a shard is not woken for each.
const SLACK_MS: u64 = 1_000;

/// Users that can come back. Those who have come back since are still in here, and are skipped when their time comes.
#[derive(Debug, Default)]
pub(super) struct EndedSessions {
    /// Each with the time at which it expires.
    queue: VecDeque<(u64, UserId)>,
}

impl EndedSessions {
    /// Adds a user whose session expires behind all others. Where there are too many, the oldest is forgotten: returns that
    /// user.
    pub(super) fn push(&mut self, expires_ms: u64, user: UserId, users: &Users) -> Option<UserId> {
        self.queue.push_back((expires_ms, user));
        if self.queue.len() <= SESSIONS_MAX {
            return None;
        }
        let (expires_ms, oldest) = self.queue.pop_front()?;
        users.forget(oldest, expires_ms).then_some(oldest)
    }

    /// The next user whose session has expired; it is forgotten.
    pub(super) fn poll_expired(&mut self, now_ms: u64, users: &Users) -> Option<UserId> {
        while let Some(&(expires_ms, user)) = self.queue.front()
            && expires_ms <= now_ms
        {
            self.queue.pop_front();
            if users.forget(user, expires_ms) {
                return Some(user);
            }
        }
        if self.queue.is_empty() && self.queue.capacity() > 1_024 {
            self.queue = VecDeque::new();
        }
        None
    }

    /// When [`EndedSessions::poll_expired`] has something.
    pub(super) fn next_due_ms(&self) -> Option<u64> {
        self.queue.front().map(|(expires_ms, _)| expires_ms + SLACK_MS)
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

    fn at(monotonic_ms: u64) -> Now {
        Now { monotonic_ms, unix_seconds: 0 }
    }

    fn ended(users: &Users, sessions: &mut EndedSessions, now_ms: u64) -> (UserId, Option<UserId>) {
        let session = UserSession { name: "a".into(), room: "general".into(), account: None };
        let user = users.register(connection(), |_| Some(session));
        let expires_ms = users.end(user, 100, at(now_ms)).unwrap();
        (user, sessions.push(expires_ms, user, users))
    }

    #[test]
    fn sessions_are_forgotten_when_they_expire_unless_they_were_resumed() {
        let (users, mut sessions) = (Users::default(), EndedSessions::default());
        let [first, second, third] = [1, 2, 3].map(|now_ms| ended(&users, &mut sessions, now_ms).0);
        assert!(matches!(users.resume(second, connection(), |_| true, at(3)), Resumption::Resumed(..)));
        assert_eq!(sessions.next_due_ms(), Some(101 + SLACK_MS));
        assert_eq!(sessions.poll_expired(100, &users), None);
        assert_eq!(sessions.poll_expired(103, &users), Some(first));
        assert_eq!(sessions.poll_expired(103, &users), Some(third));
        assert_eq!((sessions.poll_expired(103, &users), sessions.next_due_ms()), (None, None));
        assert_eq!((users.online_count(), users.ended_count()), (1, 0));
    }

    #[test]
    fn the_oldest_session_makes_place() {
        let (users, mut sessions) = (Users::default(), EndedSessions::default());
        let (oldest, _) = ended(&users, &mut sessions, 0);
        for _ in 1..SESSIONS_MAX {
            assert_eq!(ended(&users, &mut sessions, 0).1, None);
        }
        assert_eq!(ended(&users, &mut sessions, 0).1, Some(oldest));
        assert_eq!(users.ended_count(), SESSIONS_MAX);
    }
}
