//! The bytes of a queue that belong to one connection alone: HTTP and control frames, which leave ahead of messages, and
//! small messages, which are collected in one entry.

use std::mem;

use crate::frames::FRAGMENT_BYTES;

/// The lanes beside a queue.
#[derive(Debug, Default)]
pub(super) struct Lanes {
    /// HTTP, which is pushed before any frame, then the user's pings and pongs. It leaves first.
    pub(super) ahead: Vec<u8>,
    /// Answers to pings. They leave next.
    pub(super) pongs: Vec<u8>,
    /// The last entry of the queue, as long as frames can be appended to it. It leaves last.
    pub(super) tail: Vec<u8>,
}

impl Lanes {
    /// What leaves ahead of messages.
    pub(super) fn pop_ahead(&mut self) -> Option<Vec<u8>> {
        let lane = if self.ahead.is_empty() { &mut self.pongs } else { &mut self.ahead };
        (!lane.is_empty()).then(|| mem::take(lane))
    }

    /// Takes out the last entry, if there is one, which then has no more appended to it.
    pub(super) fn pop_tail(&mut self) -> Option<Vec<u8>> {
        (!self.tail.is_empty()).then(|| mem::take(&mut self.tail))
    }

    /// True when so many bytes more belong into the last entry.
    pub(super) fn fits_tail(&self, bytes: usize) -> bool {
        self.tail.is_empty() || self.tail.len() + bytes <= FRAGMENT_BYTES
    }

    /// How many entries the lanes will be.
    pub(super) fn entry_count(&self) -> usize {
        [&self.ahead, &self.pongs, &self.tail].into_iter().filter(|lane| !lane.is_empty()).count()
    }
}
