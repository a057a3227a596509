//! Finds out whether a silent peer is still there.

use std::pin::Pin;
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

use super::error::Failure;
use super::link::Link;
use super::options::Heartbeat;
use super::writer::Writer;

/// How late a beat may be before the process is taken to have stood still: stopped, frozen, or blocked. It is also how
/// long a peer then has at least until its answer is read.
const LATE_MAX: Duration = Duration::from_secs(1);

/// A heartbeat at work.
///
/// Only an unanswered ping ends a connection, never silence alone: who has not read for long has not listened,
/// either, and the answer may be there already. And an answer is owed only once the peer's TCP has all that was
/// sent, since the ping stands behind that.
#[derive(Debug)]
pub(super) struct Pulse {
    heartbeat: Heartbeat,
    /// When the peer was last known to be there: it said something, or took something that waited for it.
    alive_at: Instant,
    /// When the first ping since then is to have been answered.
    answer_due: Option<Instant>,
    /// How much the peer had acknowledged at the last beat.
    acknowledged_bytes: u64,
    next: Pin<Box<Sleep>>,
}

impl Pulse {
    pub(super) fn new(heartbeat: Heartbeat) -> Self {
        let alive_at = Instant::now();
        Self {
            heartbeat,
            alive_at,
            answer_due: None,
            acknowledged_bytes: 0,
            next: Box::pin(sleep_until(alive_at + heartbeat.interval)),
        }
    }

    /// Waits for the next beat.
    pub(super) async fn next(&mut self) {
        self.next.as_mut().await;
    }

    /// Notes that the peer has said something.
    pub(super) fn heard(&mut self) {
        self.alive_at = Instant::now();
        self.answer_due = None;
    }

    /// Pings a peer that is silent.
    ///
    /// # Errors
    ///
    /// [`Failure::Silent`] for one that has not answered.
    pub(super) fn beat(&mut self, link: &Link, writer: &Writer) -> Result<(), Failure> {
        let Heartbeat { interval, timeout } = self.heartbeat;
        let now = Instant::now();
        let late = now.saturating_duration_since(self.next.deadline());
        if late > LATE_MAX {
            // This process could not run, so it has heard nothing: its peer is not to be blamed for that time, and
            // what has come meanwhile is read first.
            self.alive_at += late;
            self.answer_due = self.answer_due.map(|due| (due + late).max(now + LATE_MAX));
        }
        let acknowledged_bytes = link.acknowledged_bytes();
        let has_grown = acknowledged_bytes > self.acknowledged_bytes;
        self.acknowledged_bytes = acknowledged_bytes;
        if has_grown && !link.is_acknowledged() {
            self.alive_at = now;
            self.answer_due = None;
        }
        let next = match self.answer_due {
            None if now < self.alive_at + interval => self.alive_at + interval,
            Some(due) if due <= now => return Err(Failure::Silent(timeout)),
            due => {
                writer.ping();
                let due = due.unwrap_or(now + timeout.saturating_sub(interval));
                self.answer_due = Some(due);
                due.min(now + interval)
            }
        };
        self.next.as_mut().reset(next);
        Ok(())
    }
}
