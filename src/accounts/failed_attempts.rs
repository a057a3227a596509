//! Limits failed sign-ins of an address, over all its connections, so that passwords cannot be guessed.

use std::collections::HashMap;
use std::net::IpAddr;

use crate::address::network;

/// Failed attempts that an address may make at once after a pause: enough for a household.
pub(super) const FAILURES_MAX: u32 = 20;

/// The time after which an address may fail once more. So an address can make at most 28,800 guesses a day.
pub(super) const FORGIVEN_AFTER_MS: u64 = 3_000;

/// Addresses that are remembered, some 40 bytes each. If there are more, the address with the most attempts left is
/// forgotten: an attacker with that many addresses is not held back by a limit for each anyway.
const ADDRESSES_MAX: usize = 65_536;

/// The failed attempts of each address, over all shards. An address whose failures are all forgotten is removed.
#[derive(Debug, Default)]
pub(super) struct FailedAttempts {
    /// When all failures of each address will be forgotten.
    clear_ms: HashMap<IpAddr, u64>,
}

impl FailedAttempts {
    /// Whether an address may make an attempt now.
    #[must_use]
    pub(super) fn allow(&self, address: IpAddr, now_ms: u64) -> bool {
        let clear_ms = self.clear_ms.get(&network(address)).copied().unwrap_or(0);
        clear_ms.saturating_sub(now_ms) <= u64::from(FAILURES_MAX - 1) * FORGIVEN_AFTER_MS
    }

    /// Notes a failed attempt of an address.
    pub(super) fn note_failure(&mut self, address: IpAddr, now_ms: u64) {
        let address = network(address);
        if self.clear_ms.len() >= ADDRESSES_MAX && !self.clear_ms.contains_key(&address) {
            self.make_room(now_ms);
        }
        let clear_ms = self.clear_ms.entry(address).or_insert(now_ms);
        *clear_ms = (*clear_ms).max(now_ms) + FORGIVEN_AFTER_MS;
    }

    fn make_room(&mut self, now_ms: u64) {
        self.clear_ms.retain(|_, clear_ms| *clear_ms > now_ms);
        if self.clear_ms.len() >= ADDRESSES_MAX
            && let Some((&next, _)) = self.clear_ms.iter().min_by_key(|(_, clear_ms)| **clear_ms)
        {
            self.clear_ms.remove(&next);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    /// How many attempts in a row an address may make, all of them wrong.
    fn failures(attempts: &mut FailedAttempts, address: IpAddr, now_ms: u64) -> usize {
        let allowed = (0..100).take_while(|_| {
            let is_allowed = attempts.allow(address, now_ms);
            if is_allowed {
                attempts.note_failure(address, now_ms);
            }
            is_allowed
        });
        allowed.count()
    }

    #[test]
    fn an_address_may_be_wrong_twenty_times_and_then_every_three_seconds() {
        let mut attempts = FailedAttempts::default();
        let guesser = address("192.0.2.1");
        assert_eq!(failures(&mut attempts, guesser, 5_000), 20);
        assert_eq!(failures(&mut attempts, guesser, 7_999), 0);
        assert_eq!(failures(&mut attempts, guesser, 8_000), 1);
        assert_eq!(failures(&mut attempts, guesser, 14_000), 2);
        assert_eq!(failures(&mut attempts, guesser, 1_000_000), 20, "never more than at first");
    }

    #[test]
    fn addresses_do_not_suffer_for_each_other_but_those_of_one_household_do() {
        let mut attempts = FailedAttempts::default();
        assert_eq!(failures(&mut attempts, address("192.0.2.1"), 0), 20);
        assert_eq!(failures(&mut attempts, address("::ffff:192.0.2.1"), 0), 0, "the same in other words");
        assert_eq!(failures(&mut attempts, address("192.0.2.2"), 0), 20);
        assert_eq!(failures(&mut attempts, address("2001:db8:0:1::1"), 0), 20);
        assert_eq!(failures(&mut attempts, address("2001:db8:0:1:ffff::2"), 0), 0);
        assert_eq!(failures(&mut attempts, address("2001:db8:0:2::1"), 0), 20);
    }

    #[test]
    fn the_table_is_bounded_and_forgets_whoever_has_the_most_left() {
        let mut attempts = FailedAttempts::default();
        let stranger = |n: usize| IpAddr::from(u32::try_from(n).unwrap().to_be_bytes());
        let worst = address("198.51.100.1");
        assert_eq!(failures(&mut attempts, worst, 0), 20);
        for n in 0..ADDRESSES_MAX + 10 {
            attempts.note_failure(stranger(n), 0);
        }
        assert_eq!(attempts.clear_ms.len(), ADDRESSES_MAX);
        assert!(!attempts.allow(worst, 0));
        // Addresses without failures need no entry.
        attempts.note_failure(stranger(1 << 30), 100_000);
        assert_eq!(attempts.clear_ms.len(), 1);
    }
}
