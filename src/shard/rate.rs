//! The limits of a connection: the messages that it sends, and the bytes of lists that it requests.

use crate::accounts::Rights;

/// The messages that a connection may send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Messages a second, sustained; 0 is no limit.
    pub per_second: u32,
    /// Messages at once, after a silence.
    pub burst: u32,
}

impl Rate {
    /// The rate that rights give, or else this one.
    #[must_use]
    pub fn or_of(self, rights: &Rights) -> Self {
        let of = |per_second: u32| Self { per_second, burst: per_second.saturating_mul(2) };
        rights.messages_per_second.map_or(self, of)
    }
}

/// The messages that one connection may still send.
#[derive(Clone, Copy, Debug)]
pub(super) struct TokenBucket {
    /// Thousandths of a message, so that a millisecond's share of any rate is a whole number.
    millitokens: u64,
    refilled_ms: u64,
}

impl TokenBucket {
    pub(super) fn full(rate: Rate, now_ms: u64) -> Self {
        Self { millitokens: u64::from(rate.burst) * 1_000, refilled_ms: now_ms }
    }

    /// Takes the token of one message; false when there is none.
    #[must_use]
    pub(super) fn take(&mut self, rate: Rate, now_ms: u64) -> bool {
        if rate.per_second == 0 {
            return true;
        }
        let refill = now_ms.saturating_sub(self.refilled_ms).saturating_mul(u64::from(rate.per_second));
        self.millitokens = self.millitokens.saturating_add(refill).min(u64::from(rate.burst) * 1_000);
        self.refilled_ms = now_ms;
        let Some(left) = self.millitokens.checked_sub(1_000) else { return false };
        self.millitokens = left;
        true
    }
}

/// Bytes of lists that a connection is answered in a millisecond, sustained: about a megabyte a second.
const ANSWER_BYTES_A_MS: u64 = 1_024;

/// How far a connection may be ahead of that: 8 MB at once. An ordinary join is 35 KB (100 messages of 300 bytes
/// and 60 members), so that is more than 200 of them; or eight with the longest history there is by default, 100
/// messages of 10 KiB.
const ANSWER_AHEAD_MS: u64 = 8_000;

/// Limits the bytes of lists (rooms, members, histories) sent to a connection: short requests, long answers.
///
/// Only the home knows how long an answer will be. So a request is refused because of earlier answers, and not
/// because of its own.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct AnswerBudget {
    /// When all that was answered is paid for.
    paid_ms: u64,
}

impl AnswerBudget {
    /// True while requests for lists are refused.
    #[must_use]
    pub(super) fn is_spent(self, now_ms: u64) -> bool {
        self.paid_ms > now_ms + ANSWER_AHEAD_MS
    }

    /// Counts an answer.
    pub(super) fn charge(&mut self, bytes: usize, now_ms: u64) {
        self.paid_ms = self.paid_ms.max(now_ms) + (bytes as u64).div_ceil(ANSWER_BYTES_A_MS);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_bounded_in_bytes_and_never_by_the_first() {
        let mut budget = AnswerBudget::default();
        budget.charge(7 << 20, 1_000);
        assert!(!budget.is_spent(1_000));
        budget.charge(100 << 20, 1_000);
        assert!(budget.is_spent(1_000), "what has been answered counts, however long");
        assert!(!budget.is_spent(1_000 + (107 << 10) - ANSWER_AHEAD_MS));
        let mut seconds = 0;
        let mut budget = AnswerBudget::default();
        let answered = (0..60_000).filter(|&ms| {
            let is_answered = !budget.is_spent(ms);
            if is_answered {
                budget.charge(1 << 20, ms);
            }
            seconds = ms / 1_000;
            is_answered
        });
        let answered = answered.count();
        assert!((66..70).contains(&answered), "{answered} mebibytes in {seconds} seconds");
    }

    #[test]
    fn a_burst_is_let_through_and_then_the_rate() {
        let rate = Rate { per_second: 50, burst: 100 };
        let mut bucket = TokenBucket::full(rate, 0);
        assert_eq!((0..150).filter(|_| bucket.take(rate, 0)).count(), 100);
        assert_eq!((0..1_000).filter(|&ms| bucket.take(rate, ms)).count(), 49);
        assert_eq!((0..150).filter(|_| bucket.take(rate, 60_000)).count(), 100, "never more than a burst");
    }

    #[test]
    fn a_rate_of_zero_is_no_limit() {
        let rate = Rate { per_second: 0, burst: 0 };
        let mut bucket = TokenBucket::full(rate, 0);
        assert!((0..10_000).all(|_| bucket.take(rate, 0)));
    }
}
