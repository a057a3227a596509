//! A moment that a thread marks, to notice that it hangs: how long its turn has taken, or when it has last run.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Written by one thread, read by any thread.
#[derive(Debug)]
pub struct Mark {
    started: Instant,
    /// The moment, in milliseconds since `started`, and one more; 0 where none is marked.
    marked: AtomicU64,
}

impl Default for Mark {
    fn default() -> Self {
        Self { started: Instant::now(), marked: AtomicU64::new(0) }
    }
}

impl Mark {
    /// Marks this moment.
    pub fn set(&self) {
        self.marked.store(self.now_ms() + 1, Relaxed);
    }

    /// Removes the mark.
    pub fn clear(&self) {
        self.marked.store(0, Relaxed);
    }

    /// How long ago the moment was; nothing where none is marked.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.elapsed_at(self.now_ms())
    }

    fn elapsed_at(&self, now_ms: u64) -> Duration {
        match self.marked.load(Relaxed).checked_sub(1) {
            // The mark may have been set after the time was taken.
            Some(marked_ms) => Duration::from_millis(now_ms.saturating_sub(marked_ms)),
            None => Duration::ZERO,
        }
    }

    fn now_ms(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_passes_since_a_mark_and_none_without_one() {
        let mark = Mark::default();
        assert_eq!(mark.elapsed_at(30_000), Duration::ZERO, "before the first");
        mark.set();
        let marked_ms = mark.marked.load(Relaxed) - 1;
        assert_eq!(mark.elapsed_at(marked_ms), Duration::ZERO);
        assert_eq!(mark.elapsed_at(marked_ms + 2_000), Duration::from_secs(2));
        assert_eq!(mark.elapsed_at(0), Duration::ZERO);
        mark.clear();
        assert_eq!(mark.elapsed_at(marked_ms + 2_000), Duration::ZERO);
    }
}
