//! Permits of clients: limits the upgraded connections of all shards, and counts those of each shard.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::address::AddressPermit;
use crate::topics::TopicPermit;

/// The permits for clients. A clone is another handle to the same permits.
#[derive(Clone, Debug)]
pub struct ClientPermits {
    free: Arc<Semaphore>,
    clients_max: usize,
}

impl ClientPermits {
    /// This many free permits.
    ///
    /// # Panics
    ///
    /// When there are more than [`Semaphore::MAX_PERMITS`], far more than any machine has descriptors.
    #[must_use]
    pub fn new(clients_max: usize) -> Self {
        Self { free: Arc::new(Semaphore::new(clients_max)), clients_max }
    }

    /// Takes a permit; `None` when all are taken.
    #[must_use]
    pub fn acquire(&self) -> Option<ClientPermit> {
        let permit = Arc::clone(&self.free).try_acquire_owned().ok()?;
        Some(ClientPermit { _permit: permit, _address: None, _topic: None, _shard: None })
    }

    /// The number of permits.
    #[must_use]
    pub fn clients_max(&self) -> usize {
        self.clients_max
    }

    /// The number of permits that are taken.
    #[must_use]
    pub fn taken(&self) -> usize {
        self.clients_max - self.free.available_permits()
    }
}

/// One client's permit, which is free again when it is dropped.
#[derive(Debug)]
pub struct ClientPermit {
    _permit: OwnedSemaphorePermit,
    /// Counts the client for its address.
    _address: Option<AddressPermit>,
    /// Counts the client for its topic.
    _topic: Option<TopicPermit>,
    /// Counts the client for its shard.
    _shard: Option<ShardPermit>,
}

impl ClientPermit {
    /// The client counts for its address as long as it has its permit.
    #[must_use]
    pub fn counted_by(mut self, address: AddressPermit) -> Self {
        self._address = Some(address);
        self
    }

    /// The client counts for its topic, if it has one, as long as it has its permit.
    #[must_use]
    pub fn counted_on_topic(mut self, topic: Option<TopicPermit>) -> Self {
        self._topic = topic;
        self
    }

    /// The client counts for its shard as long as it has its permit.
    #[must_use]
    pub fn counted_on(mut self, shard: ShardPermit) -> Self {
        self._shard = Some(shard);
        self
    }
}

/// The number of a shard's connections, including those on their way to it. A clone is another handle to the same
/// count.
#[derive(Clone, Debug, Default)]
pub struct ShardLoad(Arc<AtomicUsize>);

impl ShardLoad {
    /// Counts a connection, if the shard still has as many as the caller has seen. So a choice between shards holds
    /// although other threads choose at the same time.
    #[must_use]
    pub fn enter(&self, connections_seen: usize) -> Option<ShardPermit> {
        // Relaxed: the count guards nothing but itself.
        self.0
            .compare_exchange(connections_seen, connections_seen + 1, Ordering::Relaxed, Ordering::Relaxed)
            .ok()
            .map(|_| ShardPermit(Arc::clone(&self.0)))
    }

    /// The number of connections.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// Counts a connection for its shard until it is dropped.
#[derive(Debug)]
pub struct ShardPermit(Arc<AtomicUsize>);

impl Drop for ShardPermit {
    fn drop(&mut self) {
        let connections_before = self.0.fetch_sub(1, Ordering::Relaxed);
        debug_assert!(connections_before > 0, "Bug: a connection was counted once and left twice");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_free_again_when_its_permit_is_dropped() {
        let permits = ClientPermits::new(2);
        let first = permits.acquire().expect("two permits");
        let _second = permits.acquire().expect("one permit");
        assert!(permits.acquire().is_none());
        drop(first);
        assert_eq!(permits.taken(), 1);
        assert!(permits.clone().acquire().is_some());
    }

    #[test]
    fn a_client_counts_for_its_shard_until_its_permit_is_dropped() {
        let (permits, load) = (ClientPermits::new(2), ShardLoad::default());
        let enter =
            |seen| permits.acquire().expect("a permit").counted_on(load.enter(seen).expect("the count"));
        let [first, second] = [enter(0), enter(1)];
        assert_eq!(load.connections(), 2);
        drop(first);
        assert_eq!(load.connections(), 1);
        drop(second);
        assert_eq!(load.clone().connections(), 0);
    }

    #[test]
    fn a_client_does_not_enter_a_shard_that_has_changed_since_it_was_chosen() {
        let load = ShardLoad::default();
        let seen = load.connections();
        let _other = load.enter(seen).expect("nobody was faster");
        assert!(load.enter(seen).is_none());
        assert_eq!(load.connections(), 1);
    }

    #[test]
    fn threads_never_take_more_permits_than_there_are() {
        let permits = ClientPermits::new(100);
        let taken: Vec<ClientPermit> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|_| scope.spawn(|| (0..50).filter_map(|_| permits.acquire()).collect::<Vec<_>>()))
                .collect();
            threads.into_iter().flat_map(|thread| thread.join().expect("no panic")).collect()
        });
        assert_eq!((taken.len(), permits.taken()), (100, 100));
        drop(taken);
        assert_eq!(permits.taken(), 0);
    }
}
