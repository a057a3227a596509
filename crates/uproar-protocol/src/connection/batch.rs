//! The entries of a queue that leave in one send, and how much of the first has left already.

use std::collections::VecDeque;

/// The most entries in one batch.
///
/// Below the kernel's `UIO_MAXIOV` (1,024, readv(2)); with messages of 100 bytes it is 25 KiB a send, by which the fixed
/// price of a send has become small.
pub const BATCH_ENTRIES_MAX: usize = 256;

/// Bytes to send at once, in one to [`BATCH_ENTRIES_MAX`] entries.
///
/// Invariant: `head_offset` is less than the first entry's length, and there is a first entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch<B> {
    entries: Entries<B>,
    head_offset: usize,
}

/// The entries of a [`Batch`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entries<B> {
    /// The usual case has no allocation.
    One(B),
    /// Several, in the order in which they leave.
    Many(VecDeque<B>),
}

impl<B: AsRef<[u8]>> Batch<B> {
    /// A batch of entries, of whose first `head_offset` bytes have left already.
    ///
    /// # Panics
    ///
    /// When there are no entries, or more than [`BATCH_ENTRIES_MAX`].
    #[must_use]
    #[inline]
    pub fn new(entries: Entries<B>, head_offset: usize) -> Self {
        if let Entries::Many(entries) = &entries {
            assert!((1..=BATCH_ENTRIES_MAX).contains(&entries.len()), "a batch of {} entries", entries.len());
        }
        let batch = Self { entries, head_offset };
        debug_assert!(head_offset < batch.entry(0).len());
        batch
    }

    /// The entries, and how many bytes of the first have left already.
    #[must_use]
    #[inline]
    pub fn into_parts(self) -> (Entries<B>, usize) {
        (self.entries, self.head_offset)
    }

    /// How many entries there are.
    #[must_use]
    #[inline]
    pub fn entry_count(&self) -> usize {
        match &self.entries {
            Entries::One(_) => 1,
            Entries::Many(entries) => entries.len(),
        }
    }

    /// The bytes of the entry at `index` that are still to be sent.
    #[must_use]
    pub fn slice(&self, index: usize) -> &[u8] {
        let offset = if index == 0 { self.head_offset } else { 0 };
        &self.entry(index)[offset..]
    }

    /// How many bytes are still to be sent.
    #[must_use]
    pub fn remaining_bytes(&self) -> usize {
        (0..self.entry_count()).map(|index| self.entry(index).len()).sum::<usize>() - self.head_offset
    }

    /// Takes `sent` bytes off the front. The rest, if any, is the batch to send next.
    #[must_use]
    pub(super) fn advance(mut self, sent: usize) -> Option<Self> {
        self.head_offset += sent;
        match &mut self.entries {
            Entries::One(entry) => {
                let bytes = entry.as_ref().len();
                assert!(self.head_offset <= bytes, "Bug: more was sent than there was");
                (self.head_offset < bytes).then_some(self)
            }
            Entries::Many(entries) => {
                while let Some(first) = entries.front()
                    && self.head_offset >= first.as_ref().len()
                {
                    self.head_offset -= first.as_ref().len();
                    entries.pop_front();
                }
                assert!(!entries.is_empty() || self.head_offset == 0, "Bug: more was sent than there was");
                (!entries.is_empty()).then_some(self)
            }
        }
    }

    /// Keeps the entry that is half sent, and drops the others. `None` when none was begun.
    #[must_use]
    pub(super) fn half_sent(self) -> Option<Self> {
        if self.head_offset == 0 {
            return None;
        }
        let first = match self.entries {
            Entries::One(entry) => entry,
            Entries::Many(mut entries) => entries.pop_front().expect("Bug: a batch has a first entry"),
        };
        Some(Self { entries: Entries::One(first), head_offset: self.head_offset })
    }

    fn entry(&self, index: usize) -> &[u8] {
        match &self.entries {
            Entries::One(entry) => entry.as_ref(),
            Entries::Many(entries) => entries[index].as_ref(),
        }
    }
}
