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

    /// True when [`SendQueue::next_batch`] has something.
    pub(super) fn has_batch(&self) -> bool {
        self.in_flight_bytes == 0 && self.waiting_bytes > 0
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
mod tests {
    use bytes::Bytes;

    use super::*;

    const OVERHEAD: usize = 192;

    fn frame(len: usize) -> Bytes {
        Bytes::from(vec![b'x'; len])
    }

    /// An entry of this length in the queue's count.
    fn charged(bytes: usize) -> Bytes {
        frame(bytes - OVERHEAD)
    }

    fn of_bytes(charged_bytes_max: usize) -> SendQueue<Bytes> {
        SendQueue::new(QueueLimits { charged_bytes_max, overhead_bytes: OVERHEAD })
    }

    /// A queue for so many entries of so many bytes in all.
    fn queue(entries: usize, bytes: usize) -> SendQueue<Bytes> {
        of_bytes(entries * OVERHEAD + bytes)
    }

    /// The lengths of what leaves now, in order.
    fn leaving(queue: &mut SendQueue<Bytes>) -> Vec<usize> {
        let Some(batch) = queue.next_batch() else { return Vec::new() };
        let lengths = (0..batch.entry_count()).map(|index| batch.slice(index).len()).collect();
        let bytes = batch.remaining_bytes();
        queue.handle_sent(batch, bytes);
        lengths
    }

    #[test]
    fn everything_that_waits_leaves_in_one_batch() {
        let mut queue = queue(4, 100);
        for len in [10, 20, 30] {
            queue.push(frame(len)).unwrap();
        }
        let batch = queue.next_batch().unwrap();
        assert_eq!((batch.entry_count(), batch.remaining_bytes()), (3, 60));
        queue.push(frame(5)).unwrap();
        assert!(queue.next_batch().is_none(), "one batch at a time");
        queue.handle_sent(batch, 60);
        assert_eq!(queue.next_batch().unwrap().remaining_bytes(), 5);
    }

    #[test]
    fn a_short_send_continues_in_the_middle_of_an_entry() {
        let mut queue = queue(2, 100);
        queue.push(frame(10)).unwrap();
        queue.push(frame(20)).unwrap();
        let batch = queue.next_batch().unwrap();
        queue.handle_sent(batch, 13);
        assert_eq!(queue.queued_bytes(), OVERHEAD + 17);
        let rest = queue.next_batch().unwrap();
        assert_eq!((rest.entry_count(), rest.slice(0).len()), (1, 17));
    }

    #[test]
    fn the_limit_counts_what_is_under_way_too() {
        let mut queue = of_bytes(1_000);
        queue.push(charged(600)).unwrap();
        let _batch = queue.next_batch().unwrap();
        queue.push(charged(400)).unwrap();
        assert_eq!(queue.push(frame(1)), Err(QueueFull));
    }

    #[test]
    fn what_is_pushed_beyond_the_limit_leaves_room_for_the_rest() {
        let mut queue = of_bytes(1_000);
        queue.push_beyond_limit(charged(5_000));
        queue.push_beyond_limit(charged(5_000));
        assert!(queue.is_over_limit());
        queue.push(charged(1_000)).unwrap();
        assert_eq!(queue.push(frame(1)), Err(QueueFull));
        let batch = queue.next_batch().unwrap();
        let bytes = batch.remaining_bytes();
        queue.handle_sent(batch, bytes);
        assert_eq!(queue.push(charged(1_001)), Err(QueueFull), "the allowance has ended with the excess");
    }

    #[test]
    fn truncating_keeps_only_the_entry_that_is_half_sent() {
        let mut queue = queue(4, 100);
        for _ in 0..3 {
            queue.push(frame(10)).unwrap();
        }
        let batch = queue.next_batch().unwrap();
        queue.push(frame(10)).unwrap();
        queue.truncate(frame(4));
        queue.push(frame(50)).unwrap();
        queue.handle_sent(batch, 12);
        assert_eq!(queue.queued_bytes(), 2 * OVERHEAD + 8 + 4);
        let rest = queue.next_batch().unwrap();
        assert_eq!(rest.slice(0).len(), 8);
        queue.handle_sent(rest, 8);
        let last = queue.next_batch().unwrap();
        assert_eq!(last.slice(0).len(), 4);
        queue.handle_sent(last, 4);
        assert!(queue.is_empty());
    }

    #[test]
    fn truncating_keeps_the_first_entry_until_something_was_sent() {
        let mut queue = of_bytes(100);
        queue.push_beyond_limit(frame(10));
        queue.push_beyond_limit(frame(20));
        queue.truncate(frame(4));
        assert_eq!(queue.queued_bytes(), 2 * OVERHEAD + 10 + 4);
        let batch = queue.next_batch().unwrap();
        assert_eq!(batch.entry_count(), 2);
        queue.handle_sent(batch, 3);
        assert_eq!(queue.queued_bytes(), 2 * OVERHEAD + 7 + 4, "the last entry stays");
    }

    #[test]
    fn a_queue_of_many_entries_leaves_in_batches_that_the_kernel_takes() {
        let mut queue = queue(BATCH_ENTRIES_MAX + 1, 1_000);
        for _ in 0..BATCH_ENTRIES_MAX + 1 {
            queue.push(frame(1)).unwrap();
        }
        let batch = queue.next_batch().unwrap();
        assert_eq!(batch.entry_count(), BATCH_ENTRIES_MAX);
        queue.handle_sent(batch, BATCH_ENTRIES_MAX);
        assert_eq!(queue.next_batch().unwrap().entry_count(), 1);
    }

    #[test]
    fn small_entries_fill_the_queue_too() {
        let mut queue = of_bytes(1 << 20);
        let taken = (0..1 << 20).take_while(|_| queue.push(frame(2)).is_ok()).count();
        assert_eq!(taken, (1 << 20) / (OVERHEAD + 2));
        assert_eq!(queue.push(frame(2)), Err(QueueFull));
    }

    #[test]
    fn a_new_pong_takes_the_place_of_one_that_waits() {
        let mut queue = queue(100, 10_000);
        queue.push(frame(200)).unwrap();
        let batch = queue.next_batch().unwrap();
        for len in 1..=100 {
            queue.push_pong(frame(len));
        }
        let places = usize::from(PONGS_WAITING_MAX);
        queue.push(frame(300)).unwrap();
        queue.handle_sent(batch, 200);
        let expected: Vec<usize> = (1..=places).chain([300, 100]).collect();
        assert_eq!(leaving(&mut queue), expected);
        assert!(queue.is_empty());
    }

    #[test]
    fn a_full_queue_takes_the_newest_pong() {
        let mut queue = queue(1, 100);
        queue.push(frame(100)).unwrap();
        for len in 1..=9 {
            queue.push_pong(frame(len));
        }
        assert_eq!(queue.queued_bytes(), 2 * OVERHEAD + 100 + 9);
        assert_eq!(leaving(&mut queue), [100, 9]);
    }

    #[test]
    fn no_pong_comes_behind_the_last_entry() {
        let mut queue = queue(1, 100);
        queue.push(frame(100)).unwrap();
        queue.push_pong(frame(2));
        queue.seal(Some(frame(4)));
        queue.push_pong(frame(3));
        assert_eq!(leaving(&mut queue), [100, 2, 4]);
        let mut closed = self::queue(100, 1_000);
        let places = usize::from(PONGS_WAITING_MAX);
        (1..=places + 1).for_each(|len| closed.push_pong(frame(len)));
        closed.push(frame(40)).unwrap();
        closed.seal(None);
        assert_eq!(leaving(&mut closed), (1..=places).chain([40]).collect::<Vec<_>>());
        assert!(closed.is_empty());
        let mut evicted = self::queue(1, 100);
        evicted.push(frame(100)).unwrap();
        let batch = evicted.next_batch().unwrap();
        evicted.push_pong(frame(2));
        evicted.truncate(frame(4));
        evicted.handle_sent(batch, 100);
        assert_eq!(leaving(&mut evicted), [4]);
        assert!(evicted.is_empty());
    }

    #[test]
    fn what_has_grown_is_given_back() {
        let mut queue = queue(1_000, 1_000);
        let count = 2 * BATCH_ENTRIES_MAX + 1;
        (0..count).for_each(|_| queue.push(frame(1)).unwrap());
        for left in [BATCH_ENTRIES_MAX, BATCH_ENTRIES_MAX, 1] {
            assert_eq!(leaving(&mut queue).len(), left);
        }
        assert!(queue.waiting.capacity() <= WAITING_CAPACITY_KEPT);
    }
}
