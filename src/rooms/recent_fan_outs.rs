//! How long the fan-outs of the last minute took, by room, for the HTTP API.
//!
//! Shards put what they have timed into a bounded queue, and never wait: what does not fit is left out, like the fan-outs that
//! are not timed at all. The API's thread takes it out, every few seconds and whenever it is asked, and does all the rest.
//! So a room has no memory for this, and a page of rooms asks no shard.

use std::collections::{HashMap, VecDeque};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::fan_out_sample::timed_max;
use super::{ListedRoom, RoomIndex};

/// What is looked back on.
const WINDOW: Duration = Duration::from_secs(60);

/// The most that is kept of a window, of all shards: 131,072 × 40 bytes = 5 MiB. A shard has at most 12,400.
const KEPT_MAX: usize = 1 << 17;

/// How old an answer may be: it is made once for many pages.
const ANSWER_AGE_MAX: Duration = Duration::from_secs(1);

/// How often [`RecentFanOuts::collect`] must be called.
pub const COLLECT_EVERY: Duration = Duration::from_secs(5);

/// The fan-outs of the last minute. Clones share them; without [`RecentFanOuts::of_shards`] there are none.
#[derive(Clone, Debug, Default)]
pub struct RecentFanOuts(Option<Arc<Shared>>);

#[derive(Debug)]
struct Shared {
    timed: SyncSender<TimedFanOut>,
    /// Locked only by those who ask.
    window: Mutex<Window>,
}

#[derive(Debug)]
struct TimedFanOut {
    room: Arc<ListedRoom>,
    published: Instant,
    took: Duration,
}

#[derive(Debug)]
struct Window {
    arriving: Receiver<TimedFanOut>,
    kept: VecDeque<TimedFanOut>,
    kept_max: usize,
    answer: Option<(Instant, Arc<FanOuts>)>,
}

/// The fan-outs of a room that were timed within the last minute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RoomFanOut {
    /// The median, from the publishing to the last member's completed send.
    pub p50: Duration,
    /// The 99th percentile.
    pub p99: Duration,
    /// How many messages were timed.
    pub messages: usize,
}

/// The rooms in which a message was timed within the last minute.
#[derive(Debug, Default)]
pub struct FanOuts {
    rooms: HashMap<RoomIndex, RoomFanOut>,
    slowest_first: Vec<Arc<ListedRoom>>,
}

impl FanOuts {
    /// Those of a room, if there were any.
    #[must_use]
    pub fn of(&self, room: &ListedRoom) -> Option<RoomFanOut> {
        self.rooms.get(&room.index()).copied()
    }

    /// All rooms, by the 99th percentile, the slowest first. Some may be closed by now.
    #[must_use]
    pub fn slowest_first(&self) -> &[Arc<ListedRoom>] {
        &self.slowest_first
    }
}

impl RecentFanOuts {
    /// Those of so many shards.
    #[must_use]
    pub fn of_shards(shards: u16) -> Self {
        let shards = usize::from(shards);
        let (timed, arriving) = sync_channel(shards * timed_max(COLLECT_EVERY.as_secs()));
        let kept_max = KEPT_MAX.min(shards * timed_max(WINDOW.as_secs()));
        let window = Window { arriving, kept: VecDeque::new(), kept_max, answer: None };
        Self(Some(Arc::new(Shared { timed, window: Mutex::new(window) })))
    }

    /// Notes a fan-out that has just ended. Never waits, and takes no lock.
    pub(super) fn note(&self, room: &Arc<ListedRoom>, published: Instant, took: Duration) {
        if let Some(shared) = &self.0 {
            // Fails when there are more than are timed by plan, or nobody collects them: then this one is left out.
            let _ = shared.timed.try_send(TimedFanOut { room: Arc::clone(room), published, took });
        }
    }

    /// Takes out what has arrived.
    pub fn collect(&self) {
        self.with_window(|window| window.collect(Instant::now()));
    }

    /// All of the last minute, as of at most a second ago.
    #[must_use]
    pub fn last_minute(&self) -> Arc<FanOuts> {
        self.with_window(|window| window.answer(Instant::now())).unwrap_or_default()
    }

    fn with_window<T>(&self, with: impl FnOnce(&mut Window) -> T) -> Option<T> {
        // Each change is complete before anything can panic.
        let shared = self.0.as_ref()?;
        Some(with(&mut shared.window.lock().unwrap_or_else(PoisonError::into_inner)))
    }
}

impl Window {
    fn collect(&mut self, now: Instant) {
        self.kept.extend(self.arriving.try_iter());
        let too_many = self.kept.len().saturating_sub(self.kept_max);
        self.kept.drain(..too_many);
        // They arrive in the order of their ends.
        while self
            .kept
            .front()
            .is_some_and(|it| now.saturating_duration_since(it.published + it.took) > WINDOW)
        {
            self.kept.pop_front();
        }
    }

    fn answer(&mut self, now: Instant) -> Arc<FanOuts> {
        if let Some((made, answer)) = &self.answer
            && now.saturating_duration_since(*made) < ANSWER_AGE_MAX
        {
            return Arc::clone(answer);
        }
        self.collect(now);
        let answer = Arc::new(self.group());
        self.answer = Some((now, Arc::clone(&answer)));
        answer
    }

    fn group(&self) -> FanOuts {
        let mut by_room: HashMap<RoomIndex, (&Arc<ListedRoom>, Vec<Duration>)> = HashMap::new();
        for TimedFanOut { room, took, .. } in &self.kept {
            by_room.entry(room.index()).or_insert_with(|| (room, Vec::new())).1.push(*took);
        }
        let mut rooms = HashMap::with_capacity(by_room.len());
        let mut slowest_first = Vec::with_capacity(by_room.len());
        for (index, (room, mut times)) in by_room {
            times.sort_unstable();
            let of = |percent: usize| times[(times.len() * percent).div_ceil(100) - 1];
            let figures = RoomFanOut { p50: of(50), p99: of(99), messages: times.len() };
            rooms.insert(index, figures);
            slowest_first.push((figures.p99, Arc::clone(room)));
        }
        slowest_first.sort_unstable_by(|(a, room_a), (b, room_b)| {
            b.cmp(a).then_with(|| room_a.name().cmp(room_b.name()))
        });
        FanOuts { rooms, slowest_first: slowest_first.into_iter().map(|(_, room)| room).collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rooms::Directory;

    const MS: Duration = Duration::from_millis(1);

    fn rooms() -> Vec<Arc<ListedRoom>> {
        Directory::new(&["general".to_owned(), "random".to_owned()], 1).rooms().to_vec()
    }

    #[test]
    fn the_slowest_room_comes_first_with_its_percentiles() {
        let recent = RecentFanOuts::of_shards(1);
        let rooms = rooms();
        for ms in (1..=100).rev() {
            recent.note(&rooms[0], Instant::now(), ms * MS);
        }
        recent.note(&rooms[1], Instant::now(), 200 * MS);
        let answer = recent.last_minute();
        let wanted = RoomFanOut { p50: 50 * MS, p99: 99 * MS, messages: 100 };
        assert_eq!(answer.of(&rooms[0]), Some(wanted));
        let wanted = RoomFanOut { p50: 200 * MS, p99: 200 * MS, messages: 1 };
        assert_eq!(answer.of(&rooms[1]), Some(wanted));
        let names: Vec<_> = answer.slowest_first().iter().map(|room| &**room.name()).collect();
        assert_eq!(names, ["random", "general"]);
    }

    #[test]
    fn a_minute_later_nothing_is_left() {
        let recent = RecentFanOuts::of_shards(1);
        let rooms = rooms();
        let now = Instant::now();
        recent.note(&rooms[0], now, MS);
        let at = |later| recent.with_window(|window| window.answer(now + later)).unwrap();
        assert!(at(WINDOW).of(&rooms[0]).is_some());
        assert!(at(WINDOW + MS).of(&rooms[0]).is_some(), "the answer is not made anew yet");
        assert_eq!(at(WINDOW + ANSWER_AGE_MAX).of(&rooms[0]), None);
        assert_eq!(Arc::strong_count(&rooms[0]), 1, "its memory is given back");
    }

    #[test]
    fn the_queue_and_the_window_are_bounded() {
        let recent = RecentFanOuts::of_shards(1);
        let rooms = rooms();
        let (queue_max, kept_max) = (timed_max(COLLECT_EVERY.as_secs()), timed_max(WINDOW.as_secs()));
        assert_eq!((queue_max, kept_max), (1_400, 12_400));
        for _ in 0..=queue_max {
            recent.note(&rooms[0], Instant::now(), MS);
        }
        assert_eq!(recent.last_minute().of(&rooms[0]).unwrap().messages, queue_max);
        for _ in 0..10 {
            for _ in 0..queue_max {
                recent.note(&rooms[1], Instant::now(), MS);
            }
            recent.collect();
        }
        assert_eq!(recent.with_window(|window| window.kept.len()), Some(kept_max));
    }

    #[test]
    fn without_shards_nothing_is_kept() {
        let rooms = rooms();
        RecentFanOuts::default().note(&rooms[0], Instant::now(), MS);
        assert_eq!(Arc::strong_count(&rooms[0]), 1);
        assert!(RecentFanOuts::default().last_minute().slowest_first().is_empty());
    }
}
