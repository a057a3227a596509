//! What all threads have measured between two servers, and what never arrived.

use crate::measure::pairs::{PairRecord, Pairs, Violations};
use crate::timings::Timings;
use crate::timings::quantiles::Undelivered;

/// The deliveries from clients of one server to clients of another, or of the same.
#[derive(Clone, Debug)]
pub struct MergedPair {
    /// The place of the speakers' server.
    pub from: usize,
    /// The place of the receivers' server.
    pub to: usize,
    /// Deliveries that what was sent comes to.
    pub expected: u64,
    /// Those that arrived.
    pub received: u64,
    /// Intended → received, the undelivered included.
    pub latency: Timings,
    /// What of it is a lower bound.
    pub undelivered: Undelivered,
    /// What was wrong.
    pub violations: Violations,
}

impl MergedPair {
    /// Puts the pairs together. `expected` has the deliveries of each, by the first server and then by the second, and
    /// what is missing of them has been waited for `waited_ns`.
    #[must_use]
    pub fn all(pairs: &Pairs, expected: &[u64], waited_ns: u64) -> Vec<Self> {
        let merge = |(((from, to), record), &expected): (((usize, usize), &PairRecord), &u64)| {
            let PairRecord { latency, violations } = record;
            let received = latency.histogram.len();
            let undelivered =
                Undelivered { count: expected.saturating_sub(received), at_least_ns: waited_ns };
            let mut latency = latency.clone();
            latency.record_many(undelivered.at_least_ns, undelivered.count);
            Self { from, to, expected, received, latency, undelivered, violations: *violations }
        };
        pairs.iter().zip(expected).map(merge).collect()
    }
}
