//! How long the current turn of a shard has taken, to notice a shard that hangs.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Written by the shard's thread, read by any thread.
#[derive(Debug)]
pub struct ShardPulse {
    started: Instant,
    /// When the turn began, in milliseconds since `started`, and one more; 0 while the shard waits.
    turn_began: AtomicU64,
}

impl Default for ShardPulse {
    fn default() -> Self {
        Self { started: Instant::now(), turn_began: AtomicU64::new(0) }
    }
}

impl ShardPulse {
    /// A turn begins.
    pub fn begin_turn(&self) {
        self.turn_began.store(self.elapsed_ms() + 1, Relaxed);
    }

    /// The shard is about to wait.
    pub fn end_turn(&self) {
        self.turn_began.store(0, Relaxed);
    }

    /// How long the current turn has taken so far; nothing while the shard waits.
    #[must_use]
    pub fn turn_time(&self) -> Duration {
        self.turn_time_at(self.elapsed_ms())
    }

    fn turn_time_at(&self, now_ms: u64) -> Duration {
        match self.turn_began.load(Relaxed).checked_sub(1) {
            // The turn may have begun after the time was taken.
            Some(began_ms) => Duration::from_millis(now_ms.saturating_sub(began_ms)),
            None => Duration::ZERO,
        }
    }

    fn elapsed_ms(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_takes_time_and_waiting_takes_none() {
        let pulse = ShardPulse::default();
        assert_eq!(pulse.turn_time_at(30_000), Duration::ZERO, "before the first turn");
        pulse.begin_turn();
        let began_ms = pulse.turn_began.load(Relaxed) - 1;
        assert_eq!(pulse.turn_time_at(began_ms), Duration::ZERO);
        assert_eq!(pulse.turn_time_at(began_ms + 2_000), Duration::from_secs(2));
        assert_eq!(pulse.turn_time_at(0), Duration::ZERO);
        pulse.end_turn();
        assert_eq!(pulse.turn_time_at(began_ms + 2_000), Duration::ZERO);
    }
}
