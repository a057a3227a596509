//! The bytes that wait to be sent on one connection, bounded.
//!
//! The queue hands out one [`Batch`] at a time; everything that waits when the connection is free to send leaves
//! together. It knows neither sockets nor frames.
//!
//! An entry is charged its bytes and what is kept in memory beside them, so a limit in bytes bounds memory, and with it
//! the number of entries.

use std::collections::VecDeque;
use std::mem;
use std::sync::Arc;

use super::batch::{BATCH_ENTRIES_MAX, Batch, Entries};
use super::config::{Config, ControlOrder};
use super::lanes::Lanes;
use crate::frames::{MessageKind, Opcode, append_frame, fragments, frame, frame_bytes};

// The entries of a batch can be counted in `in_flight_entries`.
const _: () = assert!(BATCH_ENTRIES_MAX <= u16::MAX as usize);

/// Pongs that may wait in the queue; a newer one waits aside, and replaces the one there. An endpoint "MAY elect to send
/// a Pong frame for only the most recently processed Ping frame" (RFC 6455, 5.5.3). Clients that send a few at once and
/// count the answers, as the Autobahn suite does with ten, get them all.
const PONGS_WAITING_MAX: u8 = 16;

/// The capacity that a queue keeps when nothing waits in it; more is given back.
const WAITING_CAPACITY_KEPT: usize = 16;

/// More would wait than the limit allows: the peer does not read fast enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueFull;

/// A bounded queue of bytes to send.
///
/// Invariant: `waiting_bytes` is what `waiting`, `aside` and `lanes` are charged, and `in_flight_bytes` what the batch that
/// was handed out last is charged. What [`SendQueue::push`] takes never exceeds the limit by more than the allowance and a
/// pong.
#[derive(Debug)]
pub(super) struct SendQueue<B> {
    config: Arc<Config>,
    waiting: VecDeque<B>,
    /// Present only while there is something in it.
    aside: Option<Box<Aside<B>>>,
    /// Present exactly where control frames leave ahead of messages.
    lanes: Option<Box<Lanes>>,
    waiting_bytes: usize,
    /// Not zero exactly while a batch is handed out.
    in_flight_bytes: usize,
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

/// What a queue rarely has.
#[derive(Debug)]
struct Aside<B> {
    /// The rest of a batch whose send was short; leaves before everything else.
    resumed: Option<Batch<B>>,
    /// A pong for which [`PONGS_WAITING_MAX`] or the limit left no place; leaves behind what waits with it.
    newest_pong: Option<B>,
    /// What was pushed on top of the limit, until what waits is within it again.
    allowance_bytes: usize,
}

impl<B> Default for Aside<B> {
    fn default() -> Self {
        Self { resumed: None, newest_pong: None, allowance_bytes: 0 }
    }
}

impl<B: AsRef<[u8]> + From<Vec<u8>>> SendQueue<B> {
    pub(super) fn new(config: Arc<Config>) -> Self {
        let lanes = match config.queue.control {
            ControlOrder::Queued => None,
            ControlOrder::Ahead { .. } => Some(Box::default()),
        };
        Self {
            config,
            waiting: VecDeque::new(),
            aside: None,
            lanes,
            waiting_bytes: 0,
            in_flight_bytes: 0,
            in_flight_entries: 0,
            pongs_waiting: 0,
            has_begun: false,
            is_sealed: false,
            is_truncated: false,
        }
    }

    /// Replaces the limits.
    pub(super) fn set_config(&mut self, config: Arc<Config>) {
        let is_ahead = matches!(config.queue.control, ControlOrder::Ahead { .. });
        assert!(is_ahead == self.lanes.is_some(), "Bug: a queue changed its order");
        self.config = config;
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

    /// Encodes a message, and appends it.
    pub(super) fn push_message(&mut self, kind: MessageKind, payload: &[u8]) -> Result<(), QueueFull> {
        if self.is_sealed {
            return Ok(());
        }
        if !self.has_room() {
            return Err(QueueFull);
        }
        for (opcode, is_final, fragment) in fragments(kind, payload) {
            let mask = self.config.mask();
            self.append_encoded(frame_bytes(fragment, mask), |entry| {
                append_frame(entry, opcode, is_final, fragment, mask);
            });
        }
        Ok(())
    }

    /// Encodes a ping or a pong of the user's, and queues it on top of the limit.
    pub(super) fn push_control(&mut self, opcode: Opcode, payload: &[u8]) {
        if self.is_sealed {
            return;
        }
        let frame = frame(opcode, payload, self.config.mask());
        match self.lanes {
            None => self.push_beyond_limit(B::from(frame)),
            Some(_) => self.append_ahead(&frame),
        }
    }

    /// Queues HTTP, on top of the limit.
    pub(super) fn push_http(&mut self, bytes: &[u8]) {
        if self.is_sealed {
            return;
        }
        match self.lanes {
            None => self.push_beyond_limit(B::from(bytes.to_vec())),
            Some(_) => self.append_ahead(bytes),
        }
    }

    /// Queues the answer to a ping, which always fits. Where it does not, it waits aside in place of an earlier one, or
    /// takes the place of all.
    pub(super) fn push_pong(&mut self, pong: B) {
        if self.is_sealed {
            return;
        }
        match (&mut self.lanes, self.config.queue.control) {
            (Some(lanes), ControlOrder::Ahead { pong_bytes_max }) => {
                let before = lanes.pongs.len();
                if before >= pong_bytes_max {
                    lanes.pongs.clear();
                }
                lanes.pongs.extend_from_slice(pong.as_ref());
                let after = lanes.pongs.len();
                self.waiting_bytes += self.charge_bytes(after);
                self.waiting_bytes -= self.charge_bytes(before);
            }
            _ => self.push_queued_pong(pong),
        }
    }

    fn push_queued_pong(&mut self, pong: B) {
        let is_aside = self.aside.as_ref().is_some_and(|aside| aside.newest_pong.is_some());
        if !is_aside && self.pongs_waiting < PONGS_WAITING_MAX && self.has_room_for(&pong) {
            self.pongs_waiting += 1;
            self.append(pong);
            return;
        }
        self.waiting_bytes += self.charge(&pong);
        if let Some(earlier) = self.aside.get_or_insert_default().newest_pong.replace(pong) {
            self.waiting_bytes -= self.charge(&earlier);
        }
    }

    /// Appends an entry on top of the limit.
    pub(super) fn push_beyond_limit(&mut self, entry: B) {
        if self.is_sealed {
            return;
        }
        let charge = self.charge(&entry);
        self.append(entry);
        if self.is_over_limit() {
            self.aside.get_or_insert_default().allowance_bytes += charge;
        } else {
            self.end_allowance();
        }
    }

    /// True while more waits than the limit.
    #[inline]
    pub(super) fn is_over_limit(&self) -> bool {
        self.queued_bytes() > self.config.queue.charged_bytes_max
    }

    /// True while less waits than the limit.
    #[inline]
    pub(super) fn has_room(&self) -> bool {
        self.queued_bytes() < self.config.queue.charged_bytes_max
    }

    /// Appends the last entry, which always fits: it is small, and there is only one.
    pub(super) fn seal(&mut self, last: Option<B>) {
        if mem::replace(&mut self.is_sealed, true) {
            return;
        }
        match last {
            Some(last) if self.lanes.is_some() => {
                let bytes = last.as_ref();
                self.append_encoded(bytes.len(), |entry| entry.extend_from_slice(bytes));
            }
            Some(last) => {
                self.append_newest_pong();
                self.append(last);
            }
            // The last entry is in the queue already, or the peer has gone.
            None => {
                if let Some(pong) = self.aside.as_mut().and_then(|aside| aside.newest_pong.take()) {
                    self.waiting_bytes -= self.charge(&pong);
                }
                self.tidy();
            }
        }
    }

    /// Drops everything but the entry that is half sent, and appends the last ones. Where nothing has been sent, the first
    /// entry stays: it may be the answer to the upgrade, without which the peer would not understand the last one. What
    /// leaves ahead of messages stays for the same reason.
    pub(super) fn truncate(&mut self, farewell: Option<B>, last: B) {
        self.waiting.truncate(usize::from(!self.has_begun && self.lanes.is_none()));
        self.waiting.shrink_to_fit();
        self.waiting_bytes = self.waiting.iter().map(|entry| self.charge(entry)).sum();
        if let Some(aside) = &mut self.aside {
            aside.newest_pong = None;
            aside.resumed = aside.resumed.take().and_then(Batch::half_sent);
        }
        if let Some(resumed) = self.aside.as_ref().and_then(|aside| aside.resumed.as_ref()) {
            self.waiting_bytes += self.charge_batch(resumed);
        }
        if let Some(lanes) = &mut self.lanes {
            (lanes.pongs, lanes.tail) = Default::default();
            let ahead_bytes = lanes.ahead.len();
            self.waiting_bytes += self.charge_bytes(ahead_bytes);
        }
        self.tidy();
        self.is_truncated = self.in_flight_bytes > 0;
        self.is_sealed = false;
        if let Some(farewell) = farewell {
            self.push_beyond_limit(farewell);
        }
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
        let batch = match self.take_resumed() {
            Some(batch) => batch,
            None => Batch::new(self.next_entries()?, 0),
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

    fn take_resumed(&mut self) -> Option<Batch<B>> {
        let resumed = self.aside.as_mut()?.resumed.take();
        self.tidy();
        resumed
    }

    fn next_entries(&mut self) -> Option<Entries<B>> {
        if let Some(lanes) = &mut self.lanes {
            if let Some(ahead) = lanes.pop_ahead() {
                return Some(Entries::One(B::from(ahead)));
            }
            let entry = self.waiting.pop_front().or_else(|| lanes.pop_tail().map(B::from));
            return entry.map(Entries::One);
        }
        self.append_newest_pong();
        Some(match self.waiting.len() {
            0 => return None,
            1 => Entries::One(self.waiting.pop_front().expect("Bug: one entry waits")),
            2..=BATCH_ENTRIES_MAX => Entries::Many(mem::take(&mut self.waiting)),
            _ => Entries::Many(self.waiting.drain(..BATCH_ENTRIES_MAX).collect()),
        })
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
            self.aside.get_or_insert_default().resumed = Some(rest);
        }
        if !self.is_over_limit() {
            self.end_allowance();
        }
    }

    /// Drops everything, also a batch that was handed out, which will not come back; what is pushed later is ignored.
    pub(super) fn give_up(&mut self) {
        self.in_flight_bytes = 0;
        self.in_flight_entries = 0;
        self.waiting = VecDeque::new();
        self.aside = None;
        if let Some(lanes) = &mut self.lanes {
            **lanes = Lanes::default();
        }
        self.waiting_bytes = 0;
        self.is_sealed = true;
    }

    /// True when nothing waits and nothing is under way.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.queued_bytes() == 0
    }

    /// The config.
    #[inline]
    pub(super) fn config(&self) -> &Config {
        &self.config
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
        let aside = self.aside.as_ref().map_or(0, |aside| {
            let resumed = aside.resumed.as_ref().map_or(0, |batch| batch.entry_count());
            resumed + usize::from(aside.newest_pong.is_some())
        });
        self.waiting.len() + aside + self.lanes.as_ref().map_or(0, |lanes| lanes.entry_count())
    }

    /// What the queue is charged for an entry; nothing for no bytes, which it does not take.
    #[inline]
    fn charge(&self, entry: &B) -> usize {
        self.charge_bytes(entry.as_ref().len())
    }

    #[inline]
    fn charge_bytes(&self, bytes: usize) -> usize {
        match bytes {
            0 => 0,
            bytes => bytes + self.config.queue.overhead_bytes,
        }
    }

    /// What the queue is charged for a batch: bytes that have left are not.
    fn charge_batch(&self, batch: &Batch<B>) -> usize {
        batch.remaining_bytes() + batch.entry_count() * self.config.queue.overhead_bytes
    }

    #[inline]
    fn has_room_for(&self, entry: &B) -> bool {
        let allowance_bytes = self.aside.as_ref().map_or(0, |aside| aside.allowance_bytes);
        self.queued_bytes() + self.charge(entry) <= self.config.queue.charged_bytes_max + allowance_bytes
    }

    fn end_allowance(&mut self) {
        if let Some(aside) = &mut self.aside {
            aside.allowance_bytes = 0;
            self.tidy();
        }
    }

    /// Gives back what is set aside, where it is nothing.
    fn tidy(&mut self) {
        if let Some(aside) = &self.aside
            && aside.resumed.is_none()
            && aside.newest_pong.is_none()
            && aside.allowance_bytes == 0
        {
            self.aside = None;
        }
    }

    #[inline]
    fn append(&mut self, entry: B) {
        let charge = self.charge(&entry);
        if charge > 0 {
            if self.lanes.is_some() {
                self.end_tail();
            }
            self.waiting_bytes += charge;
            self.waiting.push_back(entry);
        }
    }

    /// Appends so many bytes, which `encode` appends to a buffer, to the last entry or as a new one.
    fn append_encoded(&mut self, bytes: usize, encode: impl FnOnce(&mut Vec<u8>)) {
        let Some(lanes) = &self.lanes else {
            let mut entry = Vec::with_capacity(bytes);
            encode(&mut entry);
            return self.append(B::from(entry));
        };
        if !lanes.fits_tail(bytes) {
            self.end_tail();
        }
        let Some(Lanes { tail, .. }) = self.lanes.as_deref_mut() else { return };
        let before = tail.len();
        if before == 0 {
            // Exactly: a buffer with room to spare may need a second allocation to become an entry.
            tail.reserve_exact(bytes);
        }
        encode(tail);
        let after = tail.len();
        debug_assert_eq!(after, before + bytes);
        self.waiting_bytes += self.charge_bytes(after) - self.charge_bytes(before);
    }

    fn append_ahead(&mut self, bytes: &[u8]) {
        let Some(Lanes { ahead, .. }) = self.lanes.as_deref_mut() else { return };
        let before = ahead.len();
        ahead.extend_from_slice(bytes);
        let after = ahead.len();
        self.waiting_bytes += self.charge_bytes(after) - self.charge_bytes(before);
    }

    /// Ends the last entry: the next frame begins another one.
    fn end_tail(&mut self) {
        if let Some(tail) = self.lanes.as_mut().and_then(|lanes| lanes.pop_tail()) {
            self.waiting.push_back(B::from(tail));
        }
    }

    fn append_newest_pong(&mut self) {
        if let Some(pong) = self.aside.as_mut().and_then(|aside| aside.newest_pong.take()) {
            self.pongs_waiting += 1;
            self.waiting.push_back(pong);
            self.tidy();
        }
    }
}

#[cfg(test)]
mod tests;
