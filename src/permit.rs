//! Places for clients: how many connections there may be, over all shards.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::address::AddressPermit;

/// The places that all shards share. Cloning it gives another handle to the same places.
#[derive(Clone, Debug)]
pub struct ClientPlaces {
    taken: Arc<AtomicUsize>,
    clients_max: usize,
}

impl ClientPlaces {
    /// This many places, all of them free.
    #[must_use]
    pub fn new(clients_max: usize) -> Self {
        Self { taken: Arc::new(AtomicUsize::new(0)), clients_max }
    }

    /// Takes a place; `None` when all are taken.
    #[must_use]
    pub fn acquire(&self) -> Option<ClientPermit> {
        // Relaxed: the count guards nothing but itself.
        self.taken
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |taken| {
                (taken < self.clients_max).then_some(taken + 1)
            })
            .ok()?;
        Some(ClientPermit { taken: Arc::clone(&self.taken), address: None })
    }

    /// How many places there are.
    #[must_use]
    pub fn clients_max(&self) -> usize {
        self.clients_max
    }

    /// How many places are taken.
    #[must_use]
    pub fn taken(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }
}

/// One client's place, free again when this is dropped.
#[derive(Debug)]
pub struct ClientPermit {
    taken: Arc<AtomicUsize>,
    /// Its part in the count of its address.
    address: Option<AddressPermit>,
}

impl ClientPermit {
    /// Has the client count for its address for as long as it has its place.
    #[must_use]
    pub fn counted_by(mut self, address: AddressPermit) -> Self {
        self.address = Some(address);
        self
    }
}

impl Drop for ClientPermit {
    fn drop(&mut self) {
        let taken_before = self.taken.fetch_sub(1, Ordering::Relaxed);
        debug_assert!(taken_before > 0, "Bug: a place was given back twice");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_free_again_when_its_permit_is_dropped() {
        let places = ClientPlaces::new(2);
        let first = places.acquire().expect("two places");
        let _second = places.acquire().expect("one place");
        assert!(places.acquire().is_none());
        drop(first);
        assert_eq!(places.taken(), 1);
        assert!(places.clone().acquire().is_some());
    }

    #[test]
    fn threads_never_take_more_places_than_there_are() {
        let places = ClientPlaces::new(100);
        let permits: Vec<ClientPermit> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|_| scope.spawn(|| (0..50).filter_map(|_| places.acquire()).collect::<Vec<_>>()))
                .collect();
            threads.into_iter().flat_map(|thread| thread.join().expect("no panic")).collect()
        });
        assert_eq!((permits.len(), places.taken()), (100, 100));
        drop(permits);
        assert_eq!(places.taken(), 0);
    }
}
