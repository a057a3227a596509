//! When chat clients whose connections the server closes should come back.
//!
//! One queue of slots for all shards. It is touched when a member is closed, and never by a message.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The distance of two slots: at most 1,000 clients return in a second. An upgrade costs an acceptor about 0.1 ms, so a
/// server that has just started has time for everything else.
const SLOT_MS: u64 = 1;

/// The longest delay, and so the number of slots. Clients beyond it share the slots from the first on.
const DELAY_MS_MAX: u64 = 60_000;

/// The slots in which clients return, shared by all shards. Copies share the same slots.
///
/// A client that is closed alone returns at once. Clients that are closed faster than one a millisecond get slots behind
/// each other, so they return at that rate.
#[derive(Clone, Debug, Default)]
pub struct ReturnSlots {
    /// When the next slot is free, on the clock that shards share ([`Now::uptime_ms`](crate::clock::Now::uptime_ms)).
    next_free_ms: Arc<AtomicU64>,
}

impl ReturnSlots {
    /// Takes the next slot, and returns how long it is until then: 0 to 60,000 ms. `now_ms` is on the clock of all shards.
    #[must_use]
    pub fn take(&self, now_ms: u64) -> u64 {
        let slot = |free_ms: u64| if free_ms > now_ms + DELAY_MS_MAX { now_ms } else { free_ms.max(now_ms) };
        let next = |free_ms| Some(slot(free_ms) + SLOT_MS);
        let (Ok(free_ms) | Err(free_ms)) =
            self.next_free_ms.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
        slot(free_ms) - now_ms
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_that_is_closed_alone_returns_at_once() {
        let slots = ReturnSlots::default();
        for now_ms in [0, 7, 8, 90_000] {
            assert_eq!(slots.take(now_ms), 0);
        }
    }

    #[test]
    fn clients_that_are_closed_together_return_one_a_millisecond() {
        let slots = ReturnSlots::default();
        let other_shard = slots.clone();
        let delays: Vec<u64> = (0..4).flat_map(|_| [slots.take(10), other_shard.take(10)]).collect();
        assert_eq!(delays, [0, 1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(slots.take(12), 6, "behind those who still have to return");
        assert_eq!(slots.take(1_000), 0);
    }

    #[test]
    fn a_shutdown_returns_at_most_a_thousand_in_any_second() {
        let slots = ReturnSlots::default();
        let returns_ms: Vec<u64> = (0..10_000)
            .map(|nth| {
                let now_ms = nth / 50 * 10;
                now_ms + slots.take(now_ms)
            })
            .collect();
        assert!(returns_ms.windows(2).all(|pair| pair[1] == pair[0] + SLOT_MS));
    }

    #[test]
    fn clients_beyond_the_last_slot_share_the_first_ones() {
        let slots = ReturnSlots::default();
        let delays: Vec<u64> = (0..130_000).map(|_| slots.take(5)).collect();
        assert_eq!((delays[60_000], delays[60_001], delays[120_002]), (60_000, 0, 0));
        assert_eq!(delays.iter().max(), Some(&DELAY_MS_MAX));
    }
}
