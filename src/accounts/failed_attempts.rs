//! Limits wrong passwords, over all connections: for an account from one address, so that its password cannot be
//! guessed, and for an address, so that it cannot try many accounts. No limit is for an account alone: with one, anybody
//! could lock its owner out.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, Hash, RandomState};
use std::net::IpAddr;

use crate::address::network;

/// Wrong attempts at one account from one address.
pub(super) const FOR_ACCOUNT: Allowance = Allowance { failures_max: 10, forgiven_after_ms: 3_000 };

/// Wrong attempts from one address, which may be that of a company.
const FOR_ADDRESS: Allowance = Allowance { failures_max: 200, forgiven_after_ms: 1_000 };

/// Entries of each table, some 50 bytes each. If there are more, the entry with the most attempts left is forgotten: an
/// attacker with that many addresses is not held back by a limit for each anyway.
const ENTRIES_MAX: usize = 65_536;

/// The failed attempts of all shards.
#[derive(Debug)]
pub(super) struct FailedAttempts {
    of_accounts: Failures<(IpAddr, u64)>,
    of_addresses: Failures<IpAddr>,
    /// Clients choose the names, which can be long: their hashes are kept.
    hasher: RandomState,
}

impl FailedAttempts {
    /// Without any failures.
    pub(super) fn new() -> Self {
        Self {
            of_accounts: Failures::new(FOR_ACCOUNT),
            of_addresses: Failures::new(FOR_ADDRESS),
            hasher: RandomState::new(),
        }
    }

    /// Whether an attempt at an account may be made from an address now. The account need not exist.
    #[must_use]
    pub(super) fn allow(&self, account: &str, address: IpAddr, now_ms: u64) -> bool {
        let address = network(address);
        self.of_addresses.allow(&address, now_ms)
            && self.of_accounts.allow(&(address, self.hasher.hash_one(account)), now_ms)
    }

    /// Notes a failed attempt.
    pub(super) fn note_failure(&mut self, account: &str, address: IpAddr, now_ms: u64) {
        let address = network(address);
        self.of_addresses.note(address, now_ms);
        self.of_accounts.note((address, self.hasher.hash_one(account)), now_ms);
    }
}

/// How many failures are allowed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Allowance {
    /// At once, after a pause.
    pub(super) failures_max: u32,
    /// The time after which there may be one more.
    pub(super) forgiven_after_ms: u64,
}

/// The failures of each key. A key whose failures are all forgotten may be removed.
#[derive(Debug)]
struct Failures<K> {
    allowance: Allowance,
    /// When all failures of each key will be forgotten.
    clear_ms: HashMap<K, u64>,
}

impl<K: Copy + Eq + Hash> Failures<K> {
    fn new(allowance: Allowance) -> Self {
        Self { allowance, clear_ms: HashMap::new() }
    }

    fn allow(&self, key: &K, now_ms: u64) -> bool {
        let Allowance { failures_max, forgiven_after_ms } = self.allowance;
        let clear_ms = self.clear_ms.get(key).copied().unwrap_or(0);
        clear_ms.saturating_sub(now_ms) <= u64::from(failures_max - 1) * forgiven_after_ms
    }

    fn note(&mut self, key: K, now_ms: u64) {
        if self.clear_ms.len() >= ENTRIES_MAX && !self.clear_ms.contains_key(&key) {
            self.make_room(now_ms);
        }
        let clear_ms = self.clear_ms.entry(key).or_insert(now_ms);
        *clear_ms = (*clear_ms).max(now_ms) + self.allowance.forgiven_after_ms;
    }

    fn make_room(&mut self, now_ms: u64) {
        self.clear_ms.retain(|_, clear_ms| *clear_ms > now_ms);
        if self.clear_ms.len() >= ENTRIES_MAX
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

    /// How many attempts in a row an address may make at an account, all of them wrong.
    fn failures(attempts: &mut FailedAttempts, account: &str, address: IpAddr, now_ms: u64) -> usize {
        let allowed = (0..1_000).take_while(|_| {
            let is_allowed = attempts.allow(account, address, now_ms);
            if is_allowed {
                attempts.note_failure(account, address, now_ms);
            }
            is_allowed
        });
        allowed.count()
    }

    #[test]
    fn an_account_may_be_guessed_at_ten_times_and_then_every_three_seconds() {
        let mut attempts = FailedAttempts::new();
        let guesser = address("192.0.2.1");
        assert_eq!(failures(&mut attempts, "Ann", guesser, 5_000), 10);
        assert_eq!(failures(&mut attempts, "Ann", guesser, 7_999), 0);
        assert_eq!(failures(&mut attempts, "Ann", guesser, 8_000), 1);
        assert_eq!(failures(&mut attempts, "Ann", guesser, 14_000), 2);
        assert_eq!(failures(&mut attempts, "Ann", guesser, 1_000_000), 10, "never more than at first");
    }

    #[test]
    fn nobody_locks_another_account_or_address_out() {
        let mut attempts = FailedAttempts::new();
        assert_eq!(failures(&mut attempts, "Ann", address("192.0.2.1"), 0), 10);
        assert_eq!(
            failures(&mut attempts, "Ann", address("::ffff:192.0.2.1"), 0),
            0,
            "the same in other words"
        );
        assert_eq!(failures(&mut attempts, "Ben", address("192.0.2.1"), 0), 10);
        assert_eq!(failures(&mut attempts, "Ann", address("192.0.2.2"), 0), 10);
        assert_eq!(failures(&mut attempts, "Ann", address("2001:db8:0:1::1"), 0), 10);
        assert_eq!(failures(&mut attempts, "Ann", address("2001:db8:0:1:ffff::2"), 0), 0);
        assert_eq!(failures(&mut attempts, "Ann", address("2001:db8:0:2::1"), 0), 10);
    }

    #[test]
    fn an_address_may_be_wrong_two_hundred_times_and_then_every_second() {
        let mut attempts = FailedAttempts::new();
        let guesser = address("192.0.2.1");
        let mut of_all = |names: std::ops::Range<u32>, now_ms| -> usize {
            names.map(|n| failures(&mut attempts, &format!("account {n}"), guesser, now_ms)).sum()
        };
        assert_eq!(of_all(0..100, 0), 200);
        assert_eq!(of_all(100..200, 999), 0);
        assert_eq!(of_all(100..200, 5_000), 5);
        assert_eq!(failures(&mut attempts, "account 100", address("192.0.2.2"), 5_000), 10);
    }

    #[test]
    fn a_table_is_bounded_and_forgets_the_key_with_the_most_left() {
        let mut failures = Failures::new(FOR_ADDRESS);
        for _ in 0..3 {
            failures.note(0, 0);
        }
        for n in 1..=ENTRIES_MAX as u32 + 10 {
            failures.note(n, 1);
        }
        assert_eq!(failures.clear_ms.len(), ENTRIES_MAX);
        assert!(failures.clear_ms.contains_key(&0), "it has fewer left than the others");
        // When a new one comes and all others are forgiven, they go.
        failures.note(u32::MAX, 1_000_000);
        assert_eq!(failures.clear_ms.len(), 1);
    }
}
