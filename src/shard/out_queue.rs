//! What waits to be sent to one connection: shared frames, bounded in bytes.
//!
//! The queue hands out one [`SendBatch`] at a time; whatever waits when the connection is free leaves
//! together. It knows neither the ring nor the connection.
//!
//! Bytes are those of the frames and what the server keeps beside them: see [`Frame::charged_bytes`]. So a
//! limit in bytes bounds memory and the number of frames, too.

use std::collections::VecDeque;
use std::mem;

use uproar_ring::Frame;
use uproar_ring::{BATCH_FRAMES_MAX, SendBatch};

use crate::hub::Place;

// So many frames of a batch can be counted in an `in_flight_frames`.
const _: () = assert!(BATCH_FRAMES_MAX <= u16::MAX as usize);

/// How many times the limit may wait behind gates. The peer cannot help that the disk is late, and what others
/// say is held once for everyone, so this is more than the limit; somewhere it has to end.
pub const GATED_LIMITS_MAX: usize = 8;

/// Pongs that may wait in the queue; a newer one waits aside, and takes the place of the one there. A peer may
/// be answered its most recent ping alone (RFC 6455, 5.5.3). Those that send a few at once and count the answers,
/// as the Autobahn suite does with ten, get them all.
const PONGS_WAITING_MAX: u8 = 16;

/// The capacity that a queue keeps when nothing waits in it; more is given back.
const WAITING_CAPACITY_KEPT: usize = 16;

/// The answer to a frame that no longer fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Overflow {
    /// The peer does not read fast enough.
    SlowReceiver,
    /// The storage has not spoken for too long: [`GATED_LIMITS_MAX`] is reached.
    SlowStorage,
}

/// What waits behind the first gate, the gate included. Never empty. Most connections have none, so it is at an
/// address of its own.
///
/// Invariant: `charged_bytes` is what those in `queue` are charged.
#[derive(Debug, Default)]
struct Gates {
    /// Begins with a gate.
    queue: VecDeque<Gated>,
    charged_bytes: usize,
}

impl Gates {
    fn push(&mut self, gated: Gated) {
        self.charged_bytes += gated.charged_bytes();
        self.queue.push_back(gated);
    }
}

#[derive(Debug)]
enum Gated {
    /// Goes when everything before it has gone.
    Frame(Frame),
    /// An answer that must not leave before the storage has spoken; what is behind it in the room's order
    /// stays behind it.
    Gate(Place, Frame),
}

impl Gated {
    fn charged_bytes(&self) -> usize {
        let (Self::Frame(frame) | Self::Gate(_, frame)) = self;
        frame.charged_bytes()
    }
}

/// A bounded queue of frames.
///
/// Two ways lead in. Room events and the answers that have a place among them are pushed *in order*: behind a
/// gate they wait. Everything else is pushed past the gates, so nobody is silenced by a late disk.
///
/// Invariant: `waiting_bytes` is what `resumed`, `waiting` and `newest_pong` are charged, and
/// `in_flight_bytes` what the batch that was handed out last had left to send. Waiting and in flight
/// together never exceed the limit by more than `allowance_bytes` and a pong, nor gated [`GATED_LIMITS_MAX`] limits,
/// nor all of it a limit more than that; a join comes on top.
///
/// A frame is charged at least [`Frame::OVERHEAD_BYTES`], so there are never more frames than fit the limit so.
#[derive(Debug)]
pub(super) struct OutQueue {
    limit_bytes: usize,
    /// The rest of a batch whose send was short; leaves before `waiting`.
    resumed: Option<Box<SendBatch>>,
    waiting: VecDeque<Frame>,
    gated: Option<Box<Gates>>,
    /// A pong for which [`PONGS_WAITING_MAX`] or the limit left no place; leaves behind what waits with it.
    newest_pong: Option<Frame>,
    waiting_bytes: usize,
    /// Not zero exactly while a batch is handed out.
    in_flight_bytes: usize,
    /// Frames of that batch.
    in_flight_frames: u16,
    /// What a join has sent, and what gates have let go, on top of the limit, until what waits is within it
    /// again.
    allowance_bytes: usize,
    /// The part of it that a join has sent.
    join_bytes: usize,
    /// True once a batch was handed out, and with it the answer to the upgrade, which comes first.
    has_begun: bool,
    /// Pongs that were appended since a batch was handed out.
    pongs_waiting: u8,
    /// True once the last frame was queued; what is pushed later is ignored.
    sealed: bool,
    /// True while what is left of the batch under way is to be given up but for the frame half sent.
    truncated: bool,
}

impl OutQueue {
    /// An empty queue of so many bytes.
    pub(super) fn new(limit_bytes: usize) -> Self {
        Self {
            limit_bytes,
            resumed: None,
            waiting: VecDeque::new(),
            gated: None,
            newest_pong: None,
            waiting_bytes: 0,
            in_flight_bytes: 0,
            in_flight_frames: 0,
            allowance_bytes: 0,
            join_bytes: 0,
            has_begun: false,
            pongs_waiting: 0,
            sealed: false,
            truncated: false,
        }
    }

    /// Appends a frame that waits for no gate.
    ///
    /// # Errors
    ///
    /// [`Overflow::SlowReceiver`] when more than the limit would be queued; nothing was appended then.
    #[inline]
    pub(super) fn push(&mut self, frame: Frame) -> Result<(), Overflow> {
        if self.sealed {
            return Ok(());
        }
        if !self.has_room_for(&frame) {
            return Err(Overflow::SlowReceiver);
        }
        self.append(frame);
        Ok(())
    }

    /// Appends the answer to a ping, which always fits: where it does not, it waits aside in place of an earlier
    /// one.
    pub(super) fn push_pong(&mut self, pong: Frame) {
        if self.sealed {
            return;
        }
        if self.newest_pong.is_none() && self.pongs_waiting < PONGS_WAITING_MAX && self.has_room_for(&pong) {
            self.pongs_waiting += 1;
            self.append(pong);
            return;
        }
        self.waiting_bytes += pong.charged_bytes();
        if let Some(earlier) = self.newest_pong.replace(pong) {
            self.waiting_bytes -= earlier.charged_bytes();
        }
    }

    /// Appends a frame that has its place in the room's order.
    ///
    /// # Errors
    ///
    /// As for [`OutQueue::push`]; and [`Overflow::SlowStorage`] when too much waits behind gates.
    #[inline]
    pub(super) fn push_in_order(&mut self, frame: Frame) -> Result<(), Overflow> {
        if self.gated.is_none() {
            return self.push(frame);
        }
        self.find_room_behind_gates(&frame)?;
        self.append_in_order(frame);
        Ok(())
    }

    /// Appends an answer that leaves, and lets leave what has its place behind it, when [`OutQueue::open`] is
    /// called for its place.
    ///
    /// # Errors
    ///
    /// [`Overflow::SlowStorage`] when too much waits behind gates.
    pub(super) fn push_gate(&mut self, place: Place, answer: Frame) -> Result<(), Overflow> {
        if self.sealed {
            return Ok(());
        }
        self.find_room_behind_gates(&answer)?;
        self.gated.get_or_insert_default().push(Gated::Gate(place, answer));
        Ok(())
    }

    /// Opens the gate of a place; another answer, if there is one, takes the place of the one in it. What it
    /// lets go may exceed the limit: the peer had no chance to read it. False when there is no such gate any
    /// more.
    pub(super) fn open(&mut self, place: Place, other: Option<Frame>) -> bool {
        let Some(gated) = &mut self.gated else { return false };
        let gate = gated.queue.iter_mut().find(|gated| matches!(gated, Gated::Gate(its, _) if *its == place));
        let Some(gate) = gate else { return false };
        let before = gate.charged_bytes();
        let (Gated::Frame(answer) | Gated::Gate(_, answer)) = gate;
        *gate = Gated::Frame(other.unwrap_or_else(|| answer.clone()));
        gated.charged_bytes = gated.charged_bytes - before + gate.charged_bytes();
        let mut released_bytes = 0;
        while let Some(Gated::Frame(_)) = gated.queue.front()
            && let Some(Gated::Frame(frame)) = gated.queue.pop_front()
        {
            released_bytes += frame.charged_bytes();
            self.waiting.push_back(frame);
        }
        gated.charged_bytes -= released_bytes;
        if gated.queue.is_empty() {
            self.gated = None;
        }
        self.waiting_bytes += released_bytes;
        self.allowance_bytes += released_bytes;
        self.end_allowance();
        true
    }

    /// Appends what a join sends, in order, whatever its length: it is not the receiver's fault that a room has
    /// a long history. The caller reads nothing more from the peer until that has left (see
    /// [`OutQueue::is_over_limit`]), so a receiver that does not read cannot collect joins.
    pub(super) fn push_join(&mut self, frames: Vec<Frame>) {
        if self.sealed {
            return;
        }
        let join_bytes = frames.iter().map(Frame::charged_bytes).sum::<usize>();
        self.join_bytes += join_bytes;
        self.allowance_bytes += join_bytes;
        for frame in frames {
            self.append_in_order(frame);
        }
        self.end_allowance();
    }

    /// True while a join, or a late disk, has left more waiting than the limit, or more than that behind gates.
    /// Meanwhile nothing is to be read from the peer, so that it does not add to it.
    #[must_use]
    pub(super) fn is_over_limit(&self) -> bool {
        self.unsent_bytes() > self.limit_bytes || self.gated_bytes() > self.limit_bytes
    }

    /// Appends the last frame, which always fits: it is small, and there is only one. It does not wait for the
    /// disk: what is behind a gate is given up.
    pub(super) fn seal(&mut self, last: Option<Frame>) {
        if mem::replace(&mut self.sealed, true) {
            return;
        }
        self.gated = None;
        match last {
            Some(last) => {
                self.append_newest_pong();
                self.append(last);
            }
            // The last frame is in the queue already, or the peer has gone.
            None => {
                if let Some(pong) = self.newest_pong.take() {
                    self.waiting_bytes -= pong.charged_bytes();
                }
            }
        }
    }

    /// Gives up everything but the frame that is half sent, and appends the last one. Where nothing has
    /// been sent, the answer to the upgrade stays: without it the peer would not understand the last frame.
    pub(super) fn truncate(&mut self, last: Frame) {
        self.waiting.truncate(usize::from(!self.has_begun));
        self.waiting.shrink_to_fit();
        self.newest_pong = None;
        self.resumed = self.resumed.take().and_then(|batch| batch.half_sent()).map(Box::new);
        self.waiting_bytes = self.resumed.as_ref().map_or(0, |batch| batch.charged_bytes());
        self.waiting_bytes += self.waiting.iter().map(Frame::charged_bytes).sum::<usize>();
        self.truncated = self.in_flight_bytes > 0;
        self.sealed = false;
        self.seal(Some(last));
    }

    /// What to send now: `None` when nothing waits or a batch is still under way.
    #[must_use]
    pub(super) fn next_batch(&mut self) -> Option<SendBatch> {
        if self.in_flight_bytes > 0 {
            return None;
        }
        let batch = match self.resumed.take() {
            Some(batch) => *batch,
            None => {
                self.append_newest_pong();
                match self.waiting.len() {
                    0 => return None,
                    1 => SendBatch::one(self.waiting.pop_front().expect("Bug: one frame waits"), 0),
                    2..=BATCH_FRAMES_MAX => SendBatch::many(mem::take(&mut self.waiting), 0),
                    _ => SendBatch::many(self.waiting.drain(..BATCH_FRAMES_MAX).collect(), 0),
                }
            }
        };
        if self.waiting.is_empty() && self.waiting.capacity() > WAITING_CAPACITY_KEPT {
            self.waiting = VecDeque::new();
        }
        self.has_begun = true;
        self.pongs_waiting = 0;
        self.in_flight_bytes = batch.charged_bytes();
        self.in_flight_frames = batch.frame_count() as u16;
        self.waiting_bytes -= self.in_flight_bytes;
        Some(batch)
    }

    /// Takes back a batch of which `sent` bytes have left.
    pub(super) fn handle_sent(&mut self, batch: SendBatch, sent: usize) {
        assert!(self.in_flight_bytes > 0, "Bug: a batch came back that was not handed out");
        self.in_flight_bytes = 0;
        self.in_flight_frames = 0;
        let rest = batch.advance(sent);
        let rest = if mem::take(&mut self.truncated) { rest.and_then(SendBatch::half_sent) } else { rest };
        if let Some(rest) = rest {
            self.waiting_bytes += rest.charged_bytes();
            self.resumed = Some(Box::new(rest));
        }
        self.end_allowance();
    }

    /// Gives up everything, also a batch that was handed out, which will not come back; what is pushed later
    /// is ignored. The connection is lost.
    pub(super) fn give_up(&mut self) {
        self.in_flight_bytes = 0;
        self.in_flight_frames = 0;
        self.waiting = VecDeque::new();
        self.newest_pong = None;
        self.gated = None;
        self.resumed = None;
        self.waiting_bytes = 0;
        self.sealed = true;
    }

    /// True when nothing waits and nothing is under way.
    #[must_use]
    pub(super) fn is_empty(&self) -> bool {
        self.queued_bytes() == 0
    }

    /// What is charged for all that waits, be it behind a gate, or is under way.
    #[must_use]
    pub(super) fn queued_bytes(&self) -> usize {
        self.unsent_bytes() + self.gated_bytes()
    }

    #[inline]
    fn has_room_for(&self, frame: &Frame) -> bool {
        self.unsent_bytes() + frame.charged_bytes() <= self.limit_bytes + self.allowance_bytes
    }

    /// How many frames wait, be it behind a gate, or are under way.
    pub(super) fn queued_frames(&self) -> usize {
        let resumed = self.resumed.as_ref().map_or(0, |batch| batch.frame_count());
        let gated = self.gated.as_ref().map_or(0, |gates| gates.queue.len());
        let waiting = self.waiting.len() + usize::from(self.newest_pong.is_some()) + gated;
        waiting + resumed + usize::from(self.in_flight_frames)
    }

    /// True while frames wait that are not under way.
    pub(super) fn has_waiting(&self) -> bool {
        self.queued_frames() > usize::from(self.in_flight_frames)
    }

    /// What the peer could have read by now.
    fn unsent_bytes(&self) -> usize {
        self.waiting_bytes + self.in_flight_bytes
    }

    fn gated_bytes(&self) -> usize {
        self.gated.as_ref().map_or(0, |gates| gates.charged_bytes)
    }

    fn end_allowance(&mut self) {
        if !self.is_over_limit() {
            self.allowance_bytes = 0;
            self.join_bytes = 0;
        }
    }

    /// What gates have let go still counts: a peer that does not read it cannot fill the room behind the next gates
    /// again and again.
    fn find_room_behind_gates(&self, frame: &Frame) -> Result<(), Overflow> {
        let gated_bytes = self.gated_bytes() + frame.charged_bytes();
        let gated_bytes_max = GATED_LIMITS_MAX * self.limit_bytes + self.join_bytes;
        let is_within = gated_bytes <= gated_bytes_max
            && self.unsent_bytes() + gated_bytes <= self.limit_bytes + gated_bytes_max;
        is_within.then_some(()).ok_or(Overflow::SlowStorage)
    }

    fn append_in_order(&mut self, frame: Frame) {
        match &mut self.gated {
            Some(gated) if !frame.is_empty() => {
                gated.push(Gated::Frame(frame));
            }
            _ => self.append(frame),
        }
    }

    fn append(&mut self, frame: Frame) {
        if !frame.is_empty() {
            self.waiting_bytes += frame.charged_bytes();
            self.waiting.push_back(frame);
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
    use crate::hub::{MessageId, RoomIndex};

    const OVERHEAD: usize = Frame::OVERHEAD_BYTES;

    fn frame(len: usize) -> Frame {
        Frame::new(Bytes::from(vec![b'x'; len]))
    }

    /// A frame of this length in the queue's count.
    fn charged(bytes: usize) -> Frame {
        frame(bytes - OVERHEAD)
    }

    /// A queue for so many frames of so many bytes in all.
    fn queue(frames: usize, bytes: usize) -> OutQueue {
        OutQueue::new(frames * OVERHEAD + bytes)
    }

    fn place(id: u64) -> Place {
        Place { room: RoomIndex::GENERAL, id: MessageId(id) }
    }

    /// The lengths of what leaves now, in order.
    fn leaving(queue: &mut OutQueue) -> Vec<usize> {
        let Some(batch) = queue.next_batch() else { return Vec::new() };
        let lengths = (0..batch.frame_count()).map(|index| batch.slice(index).len()).collect();
        let bytes = batch.remaining_bytes();
        queue.handle_sent(batch, bytes);
        lengths
    }

    #[test]
    fn only_what_has_its_place_in_the_order_waits_for_gates() {
        let mut queue = queue(10, 100);
        queue.push_in_order(frame(1)).unwrap();
        queue.push_gate(place(1), frame(2)).unwrap();
        queue.push_in_order(frame(3)).unwrap();
        queue.push_gate(place(2), frame(4)).unwrap();
        queue.push_join(vec![frame(5), frame(6)]);
        queue.push(frame(7)).unwrap();
        assert_eq!(leaving(&mut queue), [1, 7]);
        assert!(queue.open(place(2), None));
        assert_eq!(leaving(&mut queue), [0; 0]);
        assert!(queue.open(place(1), Some(frame(8))));
        assert!(!queue.open(place(1), None));
        assert_eq!(leaving(&mut queue), [8, 3, 4, 5, 6]);
        assert!(queue.is_empty());
    }

    #[test]
    fn a_late_disk_does_not_count_against_the_receiver() {
        let mut queue = OutQueue::new(1_000);
        queue.push_gate(place(1), charged(200)).unwrap();
        for _ in 0..GATED_LIMITS_MAX - 1 {
            queue.push_in_order(charged(1_000)).unwrap();
        }
        assert!(queue.is_over_limit(), "nothing is read meanwhile");
        queue.push(charged(1_000)).unwrap();
        assert_eq!(queue.push(frame(1)), Err(Overflow::SlowReceiver));
        assert_eq!(leaving(&mut queue), [1_000 - OVERHEAD]);
        queue.push_in_order(charged(800)).unwrap();
        assert_eq!(queue.push_in_order(frame(1)), Err(Overflow::SlowStorage));
        assert_eq!(queue.push_gate(place(2), frame(1)), Err(Overflow::SlowStorage));
        assert!(queue.open(place(1), None));
        queue.push_in_order(frame(1)).unwrap();
        assert!(queue.is_over_limit());
        assert_eq!(queue.queued_bytes(), GATED_LIMITS_MAX * 1_000 + OVERHEAD + 1);
        assert_eq!(leaving(&mut queue).len(), GATED_LIMITS_MAX + 2);
        assert_eq!(queue.push(charged(1_001)), Err(Overflow::SlowReceiver), "the allowance has ended");
    }

    #[test]
    fn the_last_frame_waits_for_no_gate() {
        let mut queue = queue(4, 100);
        queue.push(frame(1)).unwrap();
        queue.push_gate(place(1), frame(2)).unwrap();
        queue.push_in_order(frame(3)).unwrap();
        queue.seal(Some(frame(4)));
        assert!(!queue.open(place(1), None));
        assert_eq!(leaving(&mut queue), [1, 4]);
        assert!(queue.is_empty());
    }

    #[test]
    fn everything_that_waits_leaves_in_one_batch() {
        let mut queue = queue(4, 100);
        for len in [10, 20, 30] {
            queue.push(frame(len)).unwrap();
        }
        let batch = queue.next_batch().unwrap();
        assert_eq!((batch.frame_count(), batch.remaining_bytes()), (3, 60));
        queue.push(frame(5)).unwrap();
        assert!(queue.next_batch().is_none(), "one batch at a time");
        queue.handle_sent(batch, 60);
        assert_eq!(queue.next_batch().unwrap().remaining_bytes(), 5);
    }

    #[test]
    fn a_short_send_continues_in_the_middle_of_a_frame() {
        let mut queue = queue(2, 100);
        queue.push(frame(10)).unwrap();
        queue.push(frame(20)).unwrap();
        let batch = queue.next_batch().unwrap();
        queue.handle_sent(batch, 13);
        assert_eq!(queue.queued_bytes(), OVERHEAD + 17);
        let rest = queue.next_batch().unwrap();
        assert_eq!((rest.frame_count(), rest.slice(0).len()), (1, 17));
    }

    #[test]
    fn the_limit_counts_what_is_under_way_too() {
        let mut queue = OutQueue::new(1_000);
        queue.push(charged(600)).unwrap();
        let _batch = queue.next_batch().unwrap();
        queue.push(charged(400)).unwrap();
        assert_eq!(queue.push(frame(1)), Err(Overflow::SlowReceiver));
    }

    #[test]
    fn a_join_may_exceed_the_limit_once() {
        let mut queue = OutQueue::new(1_000);
        queue.push_join(vec![charged(5_000), charged(5_000)]);
        assert!(queue.is_over_limit());
        queue.push(charged(1_000)).unwrap();
        assert_eq!(queue.push(frame(1)), Err(Overflow::SlowReceiver));
        let batch = queue.next_batch().unwrap();
        let bytes = batch.remaining_bytes();
        queue.handle_sent(batch, bytes);
        assert_eq!(
            queue.push(charged(1_001)),
            Err(Overflow::SlowReceiver),
            "the allowance has ended with the excess"
        );
    }

    #[test]
    fn truncating_keeps_only_the_frame_that_is_half_sent() {
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
    fn truncating_keeps_the_answer_to_the_upgrade() {
        let mut queue = OutQueue::new(100);
        queue.push_join(vec![frame(10), frame(20)]);
        queue.truncate(frame(4));
        assert_eq!(queue.queued_bytes(), 2 * OVERHEAD + 10 + 4);
        let batch = queue.next_batch().unwrap();
        assert_eq!(batch.frame_count(), 2);
        queue.handle_sent(batch, 3);
        assert_eq!(queue.queued_bytes(), 2 * OVERHEAD + 7 + 4, "the last frame stays");
    }

    #[test]
    fn a_queue_of_many_frames_leaves_in_batches_that_the_kernel_takes() {
        let mut queue = queue(BATCH_FRAMES_MAX + 1, 1_000);
        for _ in 0..BATCH_FRAMES_MAX + 1 {
            queue.push(frame(1)).unwrap();
        }
        let batch = queue.next_batch().unwrap();
        assert_eq!(batch.frame_count(), BATCH_FRAMES_MAX);
        queue.handle_sent(batch, BATCH_FRAMES_MAX);
        assert_eq!(queue.next_batch().unwrap().frame_count(), 1);
    }

    #[test]
    fn frames_without_content_fill_the_queue_too() {
        let mut queue = OutQueue::new(1 << 20);
        let taken = (0..1 << 20).take_while(|_| queue.push(frame(2)).is_ok()).count();
        assert_eq!(taken, (1 << 20) / (OVERHEAD + 2));
        assert_eq!(queue.push(frame(2)), Err(Overflow::SlowReceiver));
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
    fn no_pong_comes_behind_the_last_frame() {
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
        let count = 2 * BATCH_FRAMES_MAX + 1;
        (0..count).for_each(|_| queue.push(frame(1)).unwrap());
        for left in [BATCH_FRAMES_MAX, BATCH_FRAMES_MAX, 1] {
            assert_eq!(leaving(&mut queue).len(), left);
        }
        assert!(queue.waiting.capacity() <= WAITING_CAPACITY_KEPT);
    }
}
