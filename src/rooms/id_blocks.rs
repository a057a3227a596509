//! The user ids that a server in a cluster gives out: blocks that the shared log has given to it.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// How many ids are in a block.
const BLOCK: u64 = 1_024;

/// When fewer ids than this are left, another block is asked for: a round trip is over long before they are given out.
const LEFT_MIN: u64 = BLOCK;

/// Ids that no other server gives out. A lock is taken once for each user, when a shard greets it.
#[derive(Debug, Default)]
pub struct IdBlocks {
    ranges: Mutex<VecDeque<Range<u64>>>,
    is_low: Notify,
    is_added: Notify,
}

impl IdBlocks {
    /// Takes the next id, if there is one.
    pub(super) fn take(&self) -> Option<u64> {
        let (taken, is_low) = {
            let mut ranges = self.ranges();
            let taken = ranges.front_mut().and_then(Range::next);
            if ranges.front().is_some_and(Range::is_empty) {
                ranges.pop_front();
            }
            (taken, left(&ranges) < LEFT_MIN)
        };
        if is_low {
            self.is_low.notify_one();
        }
        taken
    }

    /// The log has given this block to this server: 0, 1, 2 …
    pub fn add(&self, block: u64) {
        let first = block * BLOCK + 1;
        self.ranges().push_back(first..first + BLOCK);
        self.is_added.notify_one();
    }

    /// Waits until a block was added since the last call.
    pub async fn be_added(&self) {
        self.is_added.notified().await;
    }

    /// True where no id is left.
    #[must_use]
    pub fn are_empty(&self) -> bool {
        self.ranges().is_empty()
    }

    /// Waits until another block is to be asked for.
    pub async fn run_low(&self) {
        loop {
            if left(&self.ranges()) < LEFT_MIN {
                return;
            }
            self.is_low.notified().await;
        }
    }

    fn ranges(&self) -> MutexGuard<'_, VecDeque<Range<u64>>> {
        // A thread that has panicked has ended the server.
        self.ranges.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn left(ranges: &VecDeque<Range<u64>>) -> u64 {
    ranges.iter().map(|range| range.end - range.start).sum()
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Waker};

    use super::*;

    fn is_low(blocks: &IdBlocks) -> bool {
        pin!(blocks.run_low()).poll(&mut Context::from_waker(Waker::noop())).is_ready()
    }

    #[test]
    fn ids_come_from_the_blocks_that_were_given_and_another_is_wanted_in_time() {
        let blocks = IdBlocks::default();
        assert_eq!((blocks.take(), is_low(&blocks)), (None, true));
        blocks.add(0);
        assert!(!is_low(&blocks));
        assert_eq!((blocks.take(), is_low(&blocks)), (Some(1), true));
        blocks.add(7);
        assert!(!is_low(&blocks));
        let ids: Vec<u64> = std::iter::from_fn(|| blocks.take()).collect();
        assert!(ids.into_iter().eq((2..=1_024).chain(7_169..=8_192)));
    }
}
