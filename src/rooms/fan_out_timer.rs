//! How long fan-outs take, and which of them are timed.
//!
//! The end of a fan-out is the end of its last send. A shard learns of that from the kernel at once only if it asks
//! ahead of its wait, which is a system call more. So a home times each fan-out while they are few and a sample when they
//! are many.

use std::sync::Arc;
use std::time::Instant;

use super::fan_out_sample::{BURST, INTERVAL_MS};
use super::{ListedRoom, RecentFanOuts};
use crate::clock::Now;
use crate::metrics::{Label, RoomSizeClass, ShardMetrics};

/// Records the time from the home's publishing to the last member's completed send.
#[derive(Debug)]
pub struct FanOutTimer {
    published: Instant,
    class: RoomSizeClass,
    metrics: Arc<ShardMetrics>,
    /// The room, unless it is a topic.
    room: Option<(Arc<ListedRoom>, RecentFanOuts)>,
}

impl Drop for FanOutTimer {
    fn drop(&mut self) {
        let took = self.published.elapsed();
        self.metrics.fan_out.record(self.class, took);
        if let Some((room, recent)) = &self.room {
            recent.note(room, self.published, took);
        }
    }
}

/// The timers of one home.
#[derive(Debug)]
pub(super) struct FanOutTimers {
    /// By size class: the time up to which the budget for timed fan-outs is used.
    used_until_ms: [u64; RoomSizeClass::ALL.len()],
    metrics: Arc<ShardMetrics>,
    recent: RecentFanOuts,
}

impl FanOutTimers {
    pub(super) fn new(metrics: Arc<ShardMetrics>, recent: RecentFanOuts) -> Self {
        Self { used_until_ms: [0; RoomSizeClass::ALL.len()], metrics, recent }
    }

    /// Starts to time a fan-out to this many members of a room or topic, if it is in the sample.
    pub(super) fn start(
        &mut self,
        room: Option<&Arc<ListedRoom>>,
        members: usize,
        now: Now,
    ) -> Option<Arc<FanOutTimer>> {
        let class = RoomSizeClass::of(members);
        let used_until_ms = &mut self.used_until_ms[class.index()];
        let from_ms = now.monotonic_ms.max(*used_until_ms);
        if from_ms - now.monotonic_ms >= BURST * INTERVAL_MS {
            return None;
        }
        *used_until_ms = from_ms + INTERVAL_MS;
        let metrics = Arc::clone(&self.metrics);
        // A message that nobody gets says nothing of its room.
        let room = room.filter(|_| members > 0).map(|room| (Arc::clone(room), self.recent.clone()));
        Some(Arc::new(FanOutTimer { published: Instant::now(), class, metrics, room }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Metrics;
    use crate::permit::ClientPermits;

    fn timers() -> FanOutTimers {
        FanOutTimers::new(Metrics::new(1, 0, ClientPermits::new(1)).shard(0), RecentFanOuts::default())
    }

    /// The number of timed fan-outs among `count` in one millisecond.
    fn timed(timers: &mut FanOutTimers, members: usize, count: usize, monotonic_ms: u64) -> usize {
        let now = Now { monotonic_ms, ..Now::default() };
        (0..count).filter(|_| timers.start(None, members, now).is_some()).count()
    }

    #[test]
    fn each_is_timed_while_they_are_few_and_a_sample_when_they_are_many() {
        let mut timers = timers();
        let start_ms = 1;
        assert_eq!(timed(&mut timers, 10, 1_000, start_ms), 100);
        let rare = (1..=50).map(|n| timed(&mut timers, 10, 1, start_ms + n * 20)).sum::<usize>();
        assert_eq!(rare, 50);
        let dense = (1_001..=2_000).map(|ms| timed(&mut timers, 10, 4, start_ms + ms)).sum::<usize>();
        assert_eq!(dense, 50);
        assert_eq!(timed(&mut timers, 10, 1_000, start_ms + 60_000), 100);
    }

    #[test]
    fn small_rooms_do_not_take_the_place_of_large_ones() {
        let mut timers = timers();
        timed(&mut timers, 10, 1_000, 60_000);
        assert_eq!(timed(&mut timers, 10, 1, 60_000), 0);
        assert_eq!(timed(&mut timers, 10_000, 1, 60_000), 1);
    }
}
