//! How many messages a connection may send: a token bucket.

/// The rate of one server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Messages a second, sustained; 0 is no limit.
    pub per_second: u32,
    /// Messages at once, after a silence.
    pub burst: u32,
}

/// What one connection has left.
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

    /// Takes one message's worth; false when there is none.
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

#[cfg(test)]
mod tests {
    use super::*;

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
