//! Counts the attempts of each address that are under way, so that no address fills the queue.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::address::network;

/// Attempts of one address that may wait or be checked: an eighth of the queue. An office behind one address that
/// reconnects all at once waits less than a second for as many hashes.
pub(super) const IN_FLIGHT_MAX: u32 = 32;

/// The attempts under way, by address and over all shards. There are at most as many addresses as the queue holds
/// attempts, and one more.
#[derive(Clone, Debug, Default)]
pub(super) struct AttemptsInFlight {
    by_address: Arc<Mutex<HashMap<IpAddr, u32>>>,
}

impl AttemptsInFlight {
    /// A permit for an attempt of this address; `None` when it has [`IN_FLIGHT_MAX`] already.
    pub(super) fn begin(&self, address: IpAddr) -> Option<AttemptPermit> {
        let address = network(address);
        let mut by_address = self.lock();
        let count = by_address.entry(address).or_default();
        if *count >= IN_FLIGHT_MAX {
            return None;
        }
        *count += 1;
        drop(by_address);
        Some(AttemptPermit { address, among: self.clone() })
    }

    /// The counts are right after every statement, so a panic elsewhere does not spoil them.
    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, u32>> {
        self.by_address.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts as an attempt of its address until it is dropped.
#[derive(Debug)]
pub(super) struct AttemptPermit {
    address: IpAddr,
    among: AttemptsInFlight,
}

impl Drop for AttemptPermit {
    fn drop(&mut self) {
        let mut by_address = self.among.lock();
        if let Some(count) = by_address.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                by_address.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_so_many_places_and_gets_them_back() {
        let in_flight = AttemptsInFlight::default();
        let here = IpAddr::from([192, 0, 2, 1]);
        let places: Vec<_> = std::iter::from_fn(|| in_flight.begin(here)).collect();
        assert_eq!(places.len(), IN_FLIGHT_MAX as usize);
        let elsewhere = in_flight.begin(IpAddr::from([192, 0, 2, 2]));
        assert!(elsewhere.is_some());
        drop(places);
        assert!(in_flight.begin(here).is_some());
        drop(elsewhere);
        assert!(in_flight.lock().is_empty());
    }
}
