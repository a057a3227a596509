//! The bytes that wait to be sent on one connection, bounded.
//!
//! The queue hands out one [`Batch`] at a time; everything that waits when the connection is free to send leaves
//! together. It knows neither sockets nor frames.
//!
//! An entry is charged its bytes and what is kept in memory beside them, so a limit in bytes bounds memory, and with it
//! the number of entries.

use std::collections::VecDeque;
use std::mem;

use super::batch::{BATCH_ENTRIES_MAX, Batch, Entries};

// The entries of a batch can be counted in `in_flight_entries`.
const _: () = assert!(BATCH_ENTRIES_MAX <= u16::MAX as usize);

/// Pongs that may wait in the queue; a newer one waits aside, and replaces the one there. An endpoint "MAY elect to send
/// a Pong frame for only the most recently processed Ping frame" (RFC 6455, 5.5.3). Clients that send a few at once and
/// count the answers, as the Autobahn suite does with ten, get them all.
const PONGS_WAITING_MAX: u8 = 16;

/// The capacity that a queue keeps when nothing waits in it; more is given back.
const WAITING_CAPACITY_KEPT: usize = 16;

/// The limits of a queue.
#[derive(Clone, Copy, Debug)]
pub struct QueueLimits {
    /// The most that waiting entries may be charged together, in bytes.
    pub charged_bytes_max: usize,
    /// What an entry is charged beside its bytes: the memory that its owner and the queue keep for it.
    pub overhead_bytes: usize,
}

/// More would wait than the limit allows: the peer does not read fast enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueFull;

/// A bounded queue of bytes to send.
///
/// Invariant: `waiting_bytes` is what `resumed`, `waiting` and `newest_pong` are charged, and `in_flight_bytes` what the
/// batch that was handed out last is charged. Together they never exceed the limit by more than `allowance_bytes` and a
/// pong.
#[derive(Debug)]
pub(super) struct SendQueue<B> {
    limits: QueueLimits,
    /// The rest of a batch whose send was short; leaves before `waiting`.
    resumed: Option<Box<Batch<B>>>,
    waiting: VecDeque<B>,
    /// A pong for which [`PONGS_WAITING_MAX`] or the limit left no place; leaves behind what waits with it.
    newest_pong: Option<B>,
    waiting_bytes: usize,
    /// Not zero exactly while a batch is handed out.
    in_flight_bytes: usize,
    /// What was pushed on top of the limit, until what waits is within it again.
    allowance_bytes: usize,
    /// Entries of the batch that is handed out.
    in_flight_entries: u16,
    /// Pongs that were appended since a batch was handed out.
    pongs_waiting: u8,
    /// True once a batch was handed out, and with it the first entry.
    has_begun: bool,
    /// True once the last entry was queued; what is pushed later is ignored.
    is_sealed: bool,
    /// True while the batch under way is to be dropped but for the entry half sent.
    is_truncated: bool,
}

impl<B: AsRef<[u8]>> SendQueue<B> {
    pub(super) fn new(limits: QueueLimits) -> Self {
        Self {
            limits,
            resumed: None,
            waiting: VecDeque::new(),
            newest_pong: None,
            waiting_bytes: 0,
            in_flight_bytes: 0,
            allowance_bytes: 0,
            in_flight_entries: 0,
            pongs_waiting: 0,
            has_begun: false,
            is_sealed: false,
            is_truncated: false,
        }
    }

    /// Appends an entry.
    #[inline]
    pub(super) fn push(&mut self, entry: B) -> Result<(), QueueFull> {
        if self.is_sealed {
            return Ok(());
        }
        if !self.has_room_for(&entry) {
            return Err(QueueFull);
        }
        self.append(entry);
        Ok(())
    }

    /// Appends the answer to a ping, which always fits: where it does not, it waits aside in place of an earlier one.
    pub(super) fn push_pong(&mut self, pong: B) {
        if self.is_sealed {
            return;
        }
        if self.newest_pong.is_none() && self.pongs_waiting < PONGS_WAITING_MAX && self.has_room_for(&pong) {
            self.pongs_waiting += 1;
            self.append(pong);
            return;
        }
        self.waiting_bytes += self.charge(&pong);
        if let Some(earlier) = self.newest_pong.replace(pong) {
            self.waiting_bytes -= self.charge(&earlier);
        }
    }

    /// Appends an entry on top of the limit.
    pub(super) fn push_beyond_limit(&mut self, entry: B) {
        if self.is_sealed {
            return;
        }
        self.allowance_bytes += self.charge(&entry);
        self.append(entry);
        self.end_allowance();
    }

    /// True while more waits than the limit.
    #[inline]
    pub(super) fn is_over_limit(&self) -> bool {
        self.queued_bytes() > self.limits.charged_bytes_max
    }

    /// Appends the last entry, which always fits: it is small, and there is only one.
    pub(super) fn seal(&mut self, last: Option<B>) {
        if mem::replace(&mut self.is_sealed, true) {
            return;
        }
        match last {
            Some(last) => {
                self.append_newest_pong();
                self.append(last);
            }
            // The last entry is in the queue already, or the peer has gone.
            None => {
                if let Some(pong) = self.newest_pong.take() {
                    self.waiting_bytes -= self.charge(&pong);
                }
            }
        }
    }

    /// Drops everything but the entry that is half sent, and appends the last one. Where nothing has been sent, the first
    /// entry stays: it may be the answer to the upgrade, without which the peer would not understand the last one.
    pub(super) fn truncate(&mut self, last: B) {
        self.waiting.truncate(usize::from(!self.has_begun));
        self.waiting.shrink_to_fit();
        self.newest_pong = None;
        self.resumed = self.resumed.take().and_then(|batch| batch.half_sent()).map(Box::new);
        self.waiting_bytes = self.resumed.as_ref().map_or(0, |batch| self.charge_batch(batch));
        self.waiting_bytes += self.waiting.iter().map(|entry| self.charge(entry)).sum::<usize>();
        self.is_truncated = self.in_flight_bytes > 0;
        self.is_sealed = false;
        self.seal(Some(last));
    }

    /// What to send now: `None` when nothing waits or a batch is still under way.
    pub(super) fn next_batch(&mut self) -> Option<Batch<B>> {
        if self.in_flight_bytes > 0 {
            return None;
        }
        let batch = match self.resumed.take() {
            Some(batch) => *batch,
            None => {
                self.append_newest_pong();
                let entries = match self.waiting.len() {
                    0 => return None,
                    1 => Entries::One(self.waiting.pop_front().expect("Bug: one entry waits")),
                    2..=BATCH_ENTRIES_MAX => Entries::Many(mem::take(&mut self.waiting)),
                    _ => Entries::Many(self.waiting.drain(..BATCH_ENTRIES_MAX).collect()),
                };
                Batch::new(entries, 0)
            }
        };
        if self.waiting.is_empty() && self.waiting.capacity() > WAITING_CAPACITY_KEPT {
            self.waiting = VecDeque::new();
        }
        self.has_begun = true;
        self.pongs_waiting = 0;
        self.in_flight_bytes = self.charge_batch(&batch);
        self.in_flight_entries = batch.entry_count() as u16;
        self.waiting_bytes -= self.in_flight_bytes;
        Some(batch)
    }

    /// Takes back a batch of which `sent` bytes have left.
    pub(super) fn handle_sent(&mut self, batch: Batch<B>, sent: usize) {
        assert!(self.in_flight_bytes > 0, "Bug: a batch came back that was not handed out");
        self.in_flight_bytes = 0;
        self.in_flight_entries = 0;
        let rest = batch.advance(sent);
        let rest = if mem::take(&mut self.is_truncated) { rest.and_then(Batch::half_sent) } else { rest };
        if let Some(rest) = rest {
            self.waiting_bytes += self.charge_batch(&rest);
            self.resumed = Some(Box::new(rest));
        }
        self.end_allowance();
    }

    /// Drops everything, also a batch that was handed out, which will not come back; what is pushed later is ignored.
    pub(super) fn give_up(&mut self) {
        self.in_flight_bytes = 0;
        self.in_flight_entries = 0;
        self.waiting = VecDeque::new();
        self.newest_pong = None;
        self.resumed = None;
        self.waiting_bytes = 0;
        self.is_sealed = true;
    }

    /// True when nothing waits and nothing is under way.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.queued_bytes() == 0
    }

    /// The limit, in charged bytes.
    #[inline]
    pub(super) fn charged_bytes_max(&self) -> usize {
        self.limits.charged_bytes_max
    }

    /// The charge for all entries that wait or are under way, in bytes.
    #[inline]
    pub(super) fn queued_bytes(&self) -> usize {
        self.waiting_bytes + self.in_flight_bytes
    }

    /// How many entries wait or are under way.
    pub(super) fn queued_entries(&self) -> usize {
        self.waiting_entries() + usize::from(self.in_flight_entries)
    }

    /// How many entries wait that are not under way.
    pub(super) fn waiting_entries(&self) -> usize {
        let resumed = self.resumed.as_ref().map_or(0, |batch| batch.entry_count());
        self.waiting.len() + usize::from(self.newest_pong.is_some()) + resumed
    }

    /// What the queue is charged for an entry; nothing for no bytes, which it does not take.
    #[inline]
    fn charge(&self, entry: &B) -> usize {
        match entry.as_ref().len() {
            0 => 0,
            bytes => bytes + self.limits.overhead_bytes,
        }
    }

    /// What the queue is charged for a batch: bytes that have left are not.
    fn charge_batch(&self, batch: &Batch<B>) -> usize {
        batch.remaining_bytes() + batch.entry_count() * self.limits.overhead_bytes
    }

    #[inline]
    fn has_room_for(&self, entry: &B) -> bool {
        self.queued_bytes() + self.charge(entry) <= self.limits.charged_bytes_max + self.allowance_bytes
    }

    fn end_allowance(&mut self) {
        if !self.is_over_limit() {
            self.allowance_bytes = 0;
        }
    }

    #[inline]
    fn append(&mut self, entry: B) {
        let charge = self.charge(&entry);
        if charge > 0 {
            self.waiting_bytes += charge;
            self.waiting.push_back(entry);
        }
    }

    fn append_newest_pong(&mut self) {
        if let Some(pong) = self.newest_pong.take() {
            self.pongs_waiting += 1;
            self.waiting.push_back(pong);
        }
    }
}

#[cfg(test)]
mod tests;
