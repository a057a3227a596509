//! The connections that have ended lately. Shards put them here themselves and not through their queues of events, so that
//! each is here before its shard answers that it is no longer open, and also when such a queue is full.

use std::collections::{HashMap, VecDeque};
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::connection::ConnectionFacts;
use crate::rooms::ClientRef;

/// The most ended connections that are kept, some 500 bytes each: 5 MB.
pub const ENDED_KEPT: usize = 10_000;

/// For how long.
const KEPT_FOR: Duration = Duration::from_secs(600);

/// The connections that have ended within ten minutes, at most [`ENDED_KEPT`]. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct EndedConnections(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    /// The newest, until somebody asks: at most [`ENDED_KEPT`]. A shard waits for this lock, which is held for no longer than
    /// one of them takes.
    newest: Mutex<InOrder>,
    kept: Mutex<Kept>,
}

/// The oldest first.
type InOrder = VecDeque<(Instant, Arc<ConnectionFacts>)>;

#[derive(Debug, Default)]
struct Kept {
    in_order: InOrder,
    by_client: HashMap<ClientRef, Arc<ConnectionFacts>>,
}

impl EndedConnections {
    /// Keeps a connection that has ended now.
    pub fn insert(&self, facts: Arc<ConnectionFacts>, now: Instant) {
        let forgotten = {
            let mut newest = lock(&self.0.newest);
            newest.push_back((now, facts));
            if newest.len() > ENDED_KEPT { newest.pop_front() } else { None }
        };
        drop(forgotten);
    }

    /// The connection, if it is kept.
    #[must_use]
    pub fn find(&self, client: ClientRef, now: Instant) -> Option<Arc<ConnectionFacts>> {
        self.kept(now).by_client.get(&client).cloned()
    }

    /// The connections for which `is_listed`, the newest first, at most `limit`; behind `after`, if that is kept.
    #[must_use]
    pub fn newest(
        &self,
        after: Option<ClientRef>,
        limit: usize,
        now: Instant,
        is_listed: impl Fn(&ConnectionFacts) -> bool,
    ) -> Vec<Arc<ConnectionFacts>> {
        let kept = self.kept(now);
        let newest = kept.in_order.iter().rev().map(|(_, facts)| facts);
        let mut is_behind = after.is_none();
        let behind = newest.filter(|facts| {
            let was_behind = is_behind;
            is_behind |= after == Some(facts.name.client);
            was_behind
        });
        behind.filter(|facts| is_listed(facts)).take(limit).cloned().collect()
    }

    /// All that are kept now.
    fn kept(&self, now: Instant) -> MutexGuard<'_, Kept> {
        let mut kept = lock(&self.0.kept);
        let newest = mem::take(&mut *lock(&self.0.newest));
        newest.into_iter().for_each(|(ended, facts)| kept.insert(ended, facts));
        kept.forget_expired(now);
        kept
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics between two changes that belong together.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Kept {
    fn insert(&mut self, ended: Instant, facts: Arc<ConnectionFacts>) {
        if self.in_order.len() >= ENDED_KEPT {
            self.forget_oldest();
        }
        self.by_client.insert(facts.name.client, Arc::clone(&facts));
        self.in_order.push_back((ended, facts));
    }

    fn forget_expired(&mut self, now: Instant) {
        while let Some((ended, _)) = self.in_order.front()
            && now.saturating_duration_since(*ended) >= KEPT_FOR
        {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        if let Some((_, oldest)) = self.in_order.pop_front() {
            self.by_client.remove(&oldest.name.client);
        }
    }
}

#[cfg(test)]
mod tests {
    use uproar_ring::ConnectionId;

    use super::*;
    use crate::events::{ConnectionEnd, ConnectionLimits};
    use crate::metrics::{Dialect, EndReason};
    use crate::rooms::{Instance, ShardIndex};

    fn client(index: u32) -> ClientRef {
        ClientRef { shard: ShardIndex(0), connection: ConnectionId { index, generation: 7 } }
    }

    fn ended(index: u32) -> Arc<ConnectionFacts> {
        let address: std::net::SocketAddr = ([192, 0, 2, 1], 9).into();
        Arc::new(ConnectionFacts {
            name: Instance::random().name(client(index)),
            dialect: Dialect::Chat,
            since: 1,
            address: address.into(),
            account: None,
            user: None,
            display_name: None,
            room: None,
            topic: None,
            queued_bytes: 0,
            queued_frames: 0,
            tcp: None,
            messages_in: 0,
            messages_out: 0,
            received_bytes: 0,
            sent_bytes: 0,
            last_received: 1,
            limits: ConnectionLimits { queue_bytes: 9, message_bytes: 9, messages_per_second: None },
            end: Some(ConnectionEnd { at: 2, reason: EndReason::Closed, code: None }),
        })
    }

    #[test]
    fn the_oldest_make_room_for_others() {
        let (connections, now) = (EndedConnections::default(), Instant::now());
        for index in 0..ENDED_KEPT as u32 + 3 {
            connections.insert(ended(index), now);
            // Whether or not somebody has looked meanwhile.
            assert!(index != 7 || connections.find(client(7), now).is_some());
        }
        assert_eq!(lock(&connections.0.newest).len(), ENDED_KEPT - 5);
        for index in [0, 2] {
            assert!(connections.find(client(index), now).is_none(), "{index}");
        }
        for index in [3, ENDED_KEPT as u32 + 2] {
            assert!(connections.find(client(index), now).is_some(), "{index}");
        }
        let kept = connections.kept(now);
        assert_eq!((kept.in_order.len(), kept.by_client.len()), (ENDED_KEPT, ENDED_KEPT));
    }

    #[test]
    fn an_ended_connection_is_kept_for_ten_minutes() {
        let (connections, now) = (EndedConnections::default(), Instant::now());
        connections.insert(ended(1), now);
        let later = now + Duration::from_secs(300);
        connections.insert(ended(2), later);
        let almost = now + KEPT_FOR - Duration::from_millis(1);
        assert!(connections.find(client(1), almost).is_some());
        assert!(connections.find(client(1), now + KEPT_FOR).is_none());
        assert!(connections.find(client(2), now + KEPT_FOR).is_some());
        assert!(connections.newest(None, 9, later + KEPT_FOR, |_| true).is_empty());
    }

    #[test]
    fn the_newest_are_listed_first_and_each_once() {
        let (connections, now) = (EndedConnections::default(), Instant::now());
        for index in 0..5 {
            connections.insert(ended(index), now);
        }
        let page = |after, limit| {
            let listed =
                connections.newest(after, limit, now, |facts| facts.name.client.connection.index != 3);
            listed.iter().map(|facts| facts.name.client.connection.index).collect::<Vec<_>>()
        };
        assert_eq!(page(None, 2), [4, 2]);
        assert_eq!(page(Some(client(2)), 2), [1, 0]);
        assert_eq!(page(Some(client(0)), 2), [0; 0]);
        assert_eq!(page(Some(client(9)), 2), [0; 0], "it is no longer kept");
    }
}
