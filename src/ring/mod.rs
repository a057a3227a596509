//! A shard's ring: every socket operation of established connections, behind an interface that
//! safe code cannot misuse.
//!
//! The ring owns the sockets that are attached to it. Submitting a send hands over the frames; its
//! completion hands them back. Received bytes are lent for as long as nothing else is asked of the ring.
//! A connection's slot, its descriptor and its memory are given up only when the kernel has reported the
//! last operation on it (the invariant *terminal completion*).
//!
//! One turn of a caller: [`Ring::enter`], then [`Ring::next_completion`] until `None`, with
//! [`Ring::submit`] in between. Nothing here knows what the bytes mean.
//!
//! This module is the only one with unsafe code.
#![allow(unsafe_code)]

mod allocator;
mod buffers;
mod descriptor;
mod features;
mod slot;
mod submission;
mod token;
mod trial;
mod waker;

use std::collections::VecDeque;
use std::io;
use std::mem;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::time::Duration;

use io_uring::{EnterFlags, IoUring, cqueue, opcode, squeue, types};

use crate::connection_id::ConnectionId;
pub use allocator::{Heap, give_back_ends, heap, trim};
use buffers::Buffers;
pub use descriptor::{duplicate, incoming_cpu, unacknowledged_bytes};
pub use features::{Feature, Features, UnknownFeature};
use slot::{InFlight, Receive, SendKind, Slot, Vectors};
pub use submission::{BATCH_FRAMES_MAX, CloseMode, Completion, SendBatch, Submission};
use token::Operation;
pub use trial::retrying_enomem;
pub use waker::Waker;

/// Sizes of a ring.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Entries of the submission queue; a power of two. When it is full, what is queued is submitted, so
    /// this bounds how many submissions enter the kernel at once.
    pub submissions: u32,
    /// Entries of the completion queue; a power of two, at least twice `submissions`. When it is full the
    /// kernel keeps what follows in a list of its own, which is slower, and nothing is lost.
    pub completions: u32,
    /// Receive buffers, shared by all connections; a power of two up to 32,768.
    pub buffers: u16,
    /// Bytes of a receive buffer.
    pub buffer_bytes: u32,
    /// Features to use where the kernel has them.
    pub features: Features,
}

impl Default for Options {
    /// For thousands of connections on one core.
    fn default() -> Self {
        Self {
            // A fan-out to thousands submits this many sends at a time; larger queues only leave the cache.
            submissions: 1024,
            // One completion each for a send and a receive of 16,384 connections.
            completions: 32_768,
            // 1 MiB, which stays in the core's cache, and as much as a turn can read of small messages. What has come
            // beyond that waits in its socket, where TCP slows its sender down; a shard that is behind and receives it
            // all the same spends its time with moving it. With 4,096 buffers a core that is offered 300,000 echoes of
            // 512 bytes a second answers less than half of them.
            buffers: 512,
            buffer_bytes: 2048,
            features: Features::ALL,
        }
    }
}

/// Pieces of deferred work that a call into the kernel runs, since Linux 6.13; before, it runs all. Each has a completion
/// or more, so one that brings fewer has left nothing.
const DEFERRED_WORK_A_CALL: usize = 20;

/// The most bytes of one frame in one send, whose length is a `u32`.
const SEND_BYTES_MAX: usize = 1 << 30;

/// Completions that are collected before they are handled. There are hardly more at a time: as many receives as there
/// are buffers, and a send for each connection.
const COLLECTED_MAX: usize = 65_536;

/// The connection in the token of an operation that is no connection's.
const NOBODY: ConnectionId = ConnectionId { index: 0, generation: 0 };

/// What a completion queue entry says, copied out before anything is handled.
#[derive(Clone, Copy, Debug)]
struct RawCompletion {
    token: u64,
    result: i32,
    flags: u32,
}

/// How often this ring did what.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// Submissions made.
    pub submissions: u64,
    /// Completions collected.
    pub completions: u64,
    /// Receives that ended because no buffer was free.
    pub buffer_shortages: u64,
}

/// An io_uring instance that owns connected sockets.
///
/// It belongs to the thread that made it (`IORING_SETUP_SINGLE_ISSUER`). Completions are only produced
/// while that thread is inside [`Ring::enter`] or [`Ring::wait`] (`IORING_SETUP_DEFER_TASKRUN`), so they
/// never interrupt it.
pub struct Ring {
    // Declared before the memory that the kernel may use: fields are dropped in order.
    ring: IoUring,
    buffers: Buffers,
    slots: Vec<Option<Slot>>,
    waker: Waker,
    /// Where the kernel writes what it reads of the waker's event.
    wake_value: Box<u64>,
    /// True exactly while that read is with the kernel.
    is_wake_armed: bool,
    /// True once the ring is being dropped: then the event is not read again.
    is_ending: bool,
    /// Collected, not yet handled.
    collected: VecDeque<RawCompletion>,
    /// Ended, not yet reported.
    closed: VecDeque<ConnectionId>,
    features: Features,
    /// Rings that this one has sent a message to, by the number in the message's token.
    messaged: Vec<Waker>,
    /// Connections with an immediate send that was queued, and is not known to have left.
    unsettled: Vec<ConnectionId>,
    /// True when one of these sends has a completion.
    has_completed_sends: bool,
    /// Connections whose immediate send has left, which is to be reported.
    sent: VecDeque<ConnectionId>,
    /// Connections whose receive found no buffer.
    starved: VecDeque<ConnectionId>,
    /// How many of those that were starved when this round began have not been tried again.
    round_left: usize,
    /// See [`Ring::is_short_of_buffers`].
    is_short_of_buffers: bool,
    /// The buffer that the last completion lent out.
    lent: Option<u16>,
    attached: usize,
    /// What made a submission impossible.
    failure: Option<io::Error>,
    counts: Counts,
}

impl Ring {
    /// Sets up a ring owned by the calling thread, which other threads wake with `waker`. A waker is of use to one ring.
    ///
    /// # Errors
    ///
    /// What `io_uring_setup(2)` and `io_uring_register(2)` report: `ENOSYS` without io_uring, `EPERM` when
    /// it is forbidden, `EINVAL` before Linux 6.1, `ENOMEM`, `EMFILE`.
    pub fn new(options: Options, waker: Waker) -> io::Result<Self> {
        let ring: IoUring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_taskrun_flag()
            .setup_submit_all()
            .setup_cqsize(options.completions)
            .build(options.submissions)?;
        let features = features::of(&ring, options.features);
        let buffers = Buffers::register(&ring, options.buffers, options.buffer_bytes)?;
        let mut ring = Self {
            ring,
            buffers,
            slots: Vec::new(),
            waker,
            wake_value: Box::new(0),
            is_wake_armed: false,
            is_ending: false,
            collected: VecDeque::new(),
            closed: VecDeque::new(),
            features,
            messaged: Vec::new(),
            unsettled: Vec::new(),
            has_completed_sends: false,
            sent: VecDeque::new(),
            starved: VecDeque::new(),
            round_left: 0,
            is_short_of_buffers: false,
            lent: None,
            attached: 0,
            failure: None,
            counts: Counts::default(),
        };
        if features.has(Feature::ImmediateSends) && !ring.try_immediate_sends()? {
            ring.features = ring.features.without(Feature::ImmediateSends);
        }
        if features.has(Feature::RingMessages) {
            match ring.try_message()? {
                true => ring.waker.receive_messages(duplicate(&ring.ring)?),
                false => ring.features = ring.features.without(Feature::RingMessages),
            }
        }
        ring.arm_wake();
        // They count what the caller asks for, and not what was tried out.
        ring.counts = Counts::default();
        Ok(ring)
    }

    /// How often this ring did what, since it was made.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// The features that it uses: those that were asked for and that the kernel has.
    #[must_use]
    pub fn features(&self) -> Features {
        self.features
    }

    /// How many connections are attached.
    #[must_use]
    pub fn attached_count(&self) -> usize {
        self.attached
    }

    /// How many sends were queued whose end is not known yet.
    #[must_use]
    pub fn unsettled_count(&self) -> usize {
        self.unsettled.len()
    }

    /// True from when connections have bytes waiting for which there was no buffer, until all of these connections have
    /// been received from: some calls of [`Ring::enter`] later, for there may be more of them than buffers. It changes at
    /// a [`Ring::next_completion`] that is `None`.
    #[must_use]
    pub fn is_short_of_buffers(&self) -> bool {
        self.is_short_of_buffers
    }

    /// Takes over a socket and starts to receive on it. It may still be connecting.
    ///
    /// # Panics
    ///
    /// When the slot is still in use: its `Closed` must have been handled first.
    pub fn attach(&mut self, id: ConnectionId, socket: OwnedFd) {
        let index = id.index as usize;
        if self.slots.len() <= index {
            self.slots.resize_with(index + 1, || None);
        }
        assert!(self.slots[index].is_none(), "Bug: slot {id} attached before its predecessor was closed");
        self.slots[index] = Some(Slot {
            socket,
            generation: id.generation,
            receive: Receive::Paused,
            paused: false,
            send: None,
            is_congested: false,
            closing: None,
        });
        self.attached += 1;
        self.arm_receive(id);
    }

    /// Queues a submission. It reaches the kernel with the next [`Ring::enter`] or [`Ring::wait`], or as
    /// soon as the queue is full.
    ///
    /// # Panics
    ///
    /// On an unknown connection, on a second send under way, or after [`Submission::Close`].
    pub fn submit(&mut self, submission: Submission) {
        match submission {
            Submission::Send(id, batch) => self.send(id, batch),
            Submission::PauseReceive(id) => self.pause_receive(id),
            Submission::ResumeReceive(id) => {
                self.slot(id).paused = false;
                self.arm_receive(id);
            }
            Submission::ShutdownWrite(id) => {
                // Fails with ENOTCONN when the peer has reset the connection; its receive then says so.
                let _ = rustix::net::shutdown(&self.slot(id).socket, rustix::net::Shutdown::Write);
            }
            Submission::Close(id, mode) => self.close(id, mode),
        }
    }

    /// Submits what is queued and collects what has completed, all of it, without waiting. What had arrived when it
    /// is called is among it, as far as there are buffers: see [`Ring::is_short_of_buffers`].
    ///
    /// # Errors
    ///
    /// What `io_uring_enter(2)` reports beyond what a later call mends; it means that the ring is unusable.
    pub fn enter(&mut self) -> io::Result<()> {
        self.prepare()?;
        self.flush_submissions()?;
        self.collect_all(false)
    }

    /// As [`Ring::enter`], but sleeps until something has completed, the ring's [`Waker`] is used, or `timeout` has
    /// passed, if there is one. `has_news` is asked when the waker can be used, and says that there is no need to sleep.
    ///
    /// # Errors
    ///
    /// As for [`Ring::enter`].
    pub fn wait(&mut self, timeout: Option<Duration>, has_news: impl FnOnce() -> bool) -> io::Result<()> {
        self.prepare()?;
        if !self.has_nothing_to_report() || !self.starved.is_empty() || !self.ring.completion().is_empty() {
            return self.enter();
        }
        self.waker.publish_sleep();
        let has_news = has_news();
        let outcome = if has_news { self.flush_submissions() } else { self.submit_and_wait_for(1, timeout) };
        self.waker.publish_awake();
        outcome?;
        self.collect_all(!has_news)
    }

    /// Submits what is queued, and collects nothing.
    ///
    /// # Errors
    ///
    /// As for [`Ring::enter`].
    pub fn submit_queued(&mut self) -> io::Result<()> {
        self.prepare()?;
        self.flush_submissions()
    }

    /// True when the next [`Ring::enter`] has something to collect.
    pub fn has_completions(&mut self) -> bool {
        !self.has_nothing_to_report()
            || !self.starved.is_empty()
            || !self.ring.completion().is_empty()
            || self.has_deferred_work()
    }

    /// What comes ahead of each call into the kernel.
    fn prepare(&mut self) -> io::Result<()> {
        self.give_back_lent();
        self.failure.take().map_or(Ok(()), Err)
    }

    /// Collects what has completed, and has the kernel complete what it has deferred. `has_run_deferred` says that the
    /// last call has already done so, as far as one call does.
    fn collect_all(&mut self, has_run_deferred: bool) -> io::Result<()> {
        let mut collected = self.collect();
        // Since Linux 6.13 a call runs 20 pieces of deferred work, or as many as it waits for. To wait for many with a
        // timeout of zero would run all of them in one call, and would make the kernel set a timer and sleep until it
        // fires, which costs more than some calls that wait for nothing. What had overflowed is flushed by the same call,
        // for which there is room now.
        let mut has_more = match has_run_deferred {
            true => collected >= DEFERRED_WORK_A_CALL || self.ring.submission().cq_overflow(),
            false => self.has_deferred_work(),
        };
        while has_more && self.collected.len() < COLLECTED_MAX {
            self.submit_and_run_deferred()?;
            collected = self.collect();
            has_more =
                collected >= DEFERRED_WORK_A_CALL || collected > 0 && self.ring.submission().cq_overflow();
        }
        self.settle_sends();
        Ok(())
    }

    fn has_nothing_to_report(&self) -> bool {
        self.collected.is_empty() && self.closed.is_empty() && self.sent.is_empty()
    }

    /// True when the kernel may have completions that it makes only when it is entered, or has no room for. It does not
    /// take its word back for work that was added and done within one call, so it is asked once.
    fn has_deferred_work(&mut self) -> bool {
        let submission = self.ring.submission();
        submission.taskrun() || submission.cq_overflow()
    }

    /// Submits what is queued, and waits until so many have completed or the time is up.
    fn submit_and_wait_for(&mut self, completions: usize, timeout: Option<Duration>) -> io::Result<()> {
        let timespec =
            timeout.map(|timeout| types::Timespec::new().sec(timeout.as_secs()).nsec(timeout.subsec_nanos()));
        let args = types::SubmitArgs::new();
        let args = timespec.as_ref().map_or(args, |timespec| args.timespec(timespec));
        let flags = match self.features.has(Feature::NoIowait) {
            true => EnterFlags::NO_IOWAIT,
            false => EnterFlags::empty(),
        };
        match self.ring.submitter().submit_with_args_and_flags(completions, &args, flags) {
            Err(error) if !is_passing(&error) && error.raw_os_error() != Some(libc::ETIME) => Err(error),
            _ => Ok(()),
        }
    }

    /// The next collected completion. The bytes in it are lent until the next call on the ring.
    pub fn next_completion(&mut self) -> Option<Completion<'_>> {
        self.give_back_lent();
        loop {
            if let Some(id) = self.closed.pop_front() {
                return Some(Completion::Closed(id));
            }
            if let Some(id) = self.sent.pop_front() {
                let in_flight = self.slot(id).send.as_ref();
                let bytes = in_flight.map_or(0, |send| send.batch.remaining_bytes());
                if let Some(batch) = self.end_send(id) {
                    return Some(Completion::Sent(id, batch, Ok(bytes)));
                }
                continue;
            }
            let Some(raw) = self.collected.pop_front() else {
                self.feed_starved();
                return None;
            };
            let (operation, id) = token::unpack(raw.token);
            match operation {
                // A message has done its work when it has ended the wait.
                Operation::Cancel | Operation::Woken => {}
                Operation::Message => self.step_message(id.index),
                Operation::Wake => {
                    self.is_wake_armed = false;
                    self.arm_wake();
                }
                Operation::Send => {
                    if let Some((batch, result)) = self.step_send(id, raw.result) {
                        return Some(Completion::Sent(id, batch, result));
                    }
                }
                Operation::Receive => match self.step_receive(id, raw) {
                    Received::Nothing => {}
                    Received::Bytes(buffer, len) => {
                        return Some(Completion::Received(id, self.buffers.bytes(buffer, len)));
                    }
                    Received::End => return Some(Completion::EndOfStream(id)),
                    Received::Failure(error) => return Some(Completion::ReceiveFailed(id, error)),
                },
            }
        }
    }

    fn send(&mut self, id: ConnectionId, batch: SendBatch) {
        let has_immediate_sends = self.features.has(Feature::ImmediateSends);
        let slot = self.slot(id);
        assert!(slot.send.is_none(), "Bug: a second send under way on {id}");
        assert!(slot.closing.is_none(), "Bug: a send on {id} after its close");
        let kind = match has_immediate_sends && !slot.is_congested {
            true => SendKind::Immediate,
            false => SendKind::Waiting,
        };
        let vectors = (batch.frame_count() > 1).then(|| Vectors::of(&batch));
        slot.send = Some(InFlight { batch, kind, vectors });
        self.push_send(id);
    }

    /// Queues the send that a slot has.
    fn push_send(&mut self, id: ConnectionId) {
        let slot = self.slot(id);
        let socket = types::Fd(slot.socket.as_raw_fd());
        let send = slot.send.as_ref().expect("Bug: a slot without a send");
        let kind = send.kind;
        // Without MSG_DONTWAIT the kernel would wait for room, and nobody would learn when the frames are free; without
        // MSG_WAITALL it would call a short send a success.
        let flags = if kind == SendKind::Immediate { trial::IMMEDIATE } else { 0 };
        let entry = match &send.vectors {
            None => {
                let bytes = send.batch.slice(0);
                // What is longer leaves in several sends, like everything that the kernel takes in part.
                let len = bytes.len().min(SEND_BYTES_MAX) as u32;
                opcode::Send::new(socket, bytes.as_ptr(), len).flags(flags).build()
            }
            Some(vectors) => {
                opcode::SendMsg::new(socket, &raw const vectors.header).flags(flags as u32).build()
            }
        };
        let entry = match kind {
            SendKind::Waiting | SendKind::Ended => entry,
            SendKind::Immediate => entry.flags(squeue::Flags::SKIP_SUCCESS),
        };
        // SAFETY: the kernel reads the frames' bytes, and for several the header and vectors. The slot owns
        // the batch (whose `Rc`s keep the bytes at their address, unchanged) and the boxed vectors until
        // `end_send`, which is called when this operation's completion was seen, or when `settle_sends` has shown that
        // there is none to come; and `Drop` leaks them if that never was.
        unsafe { self.push(&entry.user_data(token::pack(Operation::Send, id))) };
        if kind == SendKind::Immediate {
            self.unsettled.push(id);
        }
    }

    /// Handles the completion of a send.
    fn step_send(&mut self, id: ConnectionId, result: i32) -> Option<(SendBatch, io::Result<usize>)> {
        let slot = self.slot(id);
        let send = slot.send.as_mut().expect("Bug: a send completed that was not under way");
        // What an immediate send could not take is sent by one that waits.
        slot.is_congested = usize::try_from(result) != Ok(send.batch.remaining_bytes());
        if result == -libc::EAGAIN && slot.closing.is_none() {
            send.kind = SendKind::Waiting;
            self.push_send(id);
            return None;
        }
        let result = usize::try_from(result).map_err(|_| io::Error::from_raw_os_error(-result));
        self.end_send(id).map(|batch| (batch, result))
    }

    /// Takes back what a send had that has ended. `None` where that was the last thing that a close waited for.
    fn end_send(&mut self, id: ConnectionId) -> Option<SendBatch> {
        let slot = self.slot(id);
        let InFlight { batch, .. } = slot.send.take().expect("Bug: a send ended that was not under way");
        if slot.closing.is_some() {
            self.finish_close(id);
            return None;
        }
        Some(batch)
    }

    /// Finds the immediate sends that have left.
    ///
    /// Such a send ends within the call that submits it, and only one that could not send everything has a completion.
    /// So when the kernel has taken all that was queued, and has no completion that was not collected, the others have
    /// succeeded.
    fn settle_sends(&mut self) {
        if self.unsettled.is_empty() {
            return;
        }
        let submission = self.ring.submission();
        if !submission.is_empty() || submission.cq_overflow() {
            return;
        }
        drop(submission);
        // Nearly always all have succeeded. Then their slots, which may be many, need not be looked at.
        if !mem::take(&mut self.has_completed_sends) {
            self.sent.extend(self.unsettled.drain(..));
            return;
        }
        for id in mem::take(&mut self.unsettled) {
            if let Some(send) = self.live_slot(id).and_then(|slot| slot.send.as_mut())
                && send.kind == SendKind::Immediate
            {
                send.kind = SendKind::Ended;
                self.sent.push_back(id);
            }
        }
    }

    fn arm_receive(&mut self, id: ConnectionId) {
        let slot = self.slot(id);
        // While the end of the last one is awaited, its completion arms the next.
        if slot.closing.is_some()
            || slot.paused
            || !matches!(slot.receive, Receive::Paused | Receive::Starved)
        {
            return;
        }
        slot.receive = Receive::Armed;
        let socket = types::Fd(slot.socket.as_raw_fd());
        let entry = opcode::RecvMulti::new(socket, buffers::GROUP).build();
        // SAFETY: the kernel writes only into buffers of the registered group, which `self.buffers` owns for
        // as long as an operation may be under way (see `Drop`).
        unsafe { self.push(&entry.user_data(token::pack(Operation::Receive, id))) };
    }

    /// Has the kernel read the waker's event, which completes when the waker is used.
    fn arm_wake(&mut self) {
        if self.is_ending {
            return;
        }
        self.is_wake_armed = true;
        let event = types::Fd(self.waker.event());
        let entry =
            opcode::Read::new(event, (&raw mut *self.wake_value).cast(), size_of::<u64>() as u32).build();
        // SAFETY: the kernel writes 8 bytes to the box, which nothing else looks at, and which lives until this
        // operation's completion was seen or is leaked by `Drop`.
        unsafe { self.push(&entry.user_data(token::pack(Operation::Wake, NOBODY))) };
    }

    /// Wakes the thread of another ring if it sleeps. Where that is by a message between the rings, it leaves with the
    /// next call into the kernel, which must follow soon: nobody else wakes that thread meanwhile.
    pub fn wake(&mut self, other: &Waker) {
        if !other.take_sleep() {
            return;
        }
        let ring = match self.features.has(Feature::RingMessages) {
            true => other.message_to(),
            false => None,
        };
        let Some(ring) = ring else { return other.ring() };
        let known = self.messaged.iter().position(|known| known.is_same(other));
        let number = known.unwrap_or(self.messaged.len());
        if known.is_none() {
            self.messaged.push(other.clone());
        }
        self.push_message(ring, number as u32);
    }

    /// Queues a message to a ring, which ends its wait.
    fn push_message(&mut self, ring: RawFd, number: u32) {
        let woken = token::pack(Operation::Woken, NOBODY);
        let number = ConnectionId { index: number, ..NOBODY };
        let entry = opcode::MsgRingData::new(types::Fd(ring), 0, woken, None).build();
        let entry = entry.flags(squeue::Flags::SKIP_SUCCESS);
        // SAFETY: the kernel reads no memory of ours for a message. A descriptor that is no ring's ends it.
        unsafe { self.push(&entry.user_data(token::pack(Operation::Message, number))) };
    }

    /// A message did not reach its ring: its thread is woken by its event, as all are from now on.
    fn step_message(&mut self, number: u32) {
        self.features = self.features.without(Feature::RingMessages);
        if let Some(waker) = self.messaged.get(number as usize) {
            waker.ring();
        }
    }

    fn pause_receive(&mut self, id: ConnectionId) {
        let slot = self.slot(id);
        slot.paused = true;
        if slot.receive == Receive::Armed {
            slot.receive = Receive::Cancelling;
            self.cancel(Operation::Receive, id);
        }
    }

    fn step_receive(&mut self, id: ConnectionId, raw: RawCompletion) -> Received {
        let buffer = cqueue::buffer_select(raw.flags);
        if let Some(buffer) = buffer {
            self.buffers.take(buffer);
            self.lent = Some(buffer);
        }
        let more = cqueue::more(raw.flags);
        let slot = self.slot(id);
        debug_assert!(matches!(slot.receive, Receive::Armed | Receive::Cancelling));
        if !more {
            slot.receive = Receive::Paused;
        }
        if slot.closing.is_some() {
            self.give_back_lent();
            if !more {
                self.finish_close(id);
            }
            return Received::Nothing;
        }
        match raw.result {
            1.. => {
                if !more {
                    self.arm_receive(id);
                }
                let buffer = buffer.expect("Bug: bytes without a buffer");
                Received::Bytes(buffer, raw.result as usize)
            }
            0 => {
                self.slot(id).receive = Receive::Ended;
                Received::End
            }
            error if -error == libc::ENOBUFS => {
                self.counts.buffer_shortages += 1;
                self.slot(id).receive = Receive::Starved;
                self.starved.push_back(id);
                Received::Nothing
            }
            error if matches!(-error, libc::ECANCELED | libc::EINTR | libc::EAGAIN) => {
                // Paused, or resumed again before the end of the last receive had come.
                self.arm_receive(id);
                Received::Nothing
            }
            error => {
                self.slot(id).receive = Receive::Ended;
                Received::Failure(io::Error::from_raw_os_error(-error))
            }
        }
    }

    fn close(&mut self, id: ConnectionId, mode: CloseMode) {
        let slot = self.slot(id);
        assert!(slot.closing.is_none(), "Bug: {id} was closed twice");
        slot.closing = Some(mode);
        if slot.send.is_some() {
            self.cancel(Operation::Send, id);
        }
        if self.slot(id).receive == Receive::Armed {
            self.slot(id).receive = Receive::Cancelling;
            self.cancel(Operation::Receive, id);
        }
        self.finish_close(id);
    }

    /// Closes the descriptor once the kernel holds no operation on it.
    fn finish_close(&mut self, id: ConnectionId) {
        let slot = self.slot(id);
        if !slot.is_quiet() {
            return;
        }
        if slot.closing == Some(CloseMode::Abort) {
            // Fails only on a descriptor that is no socket; then there is nothing to abort.
            let _ = rustix::net::sockopt::set_socket_linger(&slot.socket, Some(Duration::ZERO));
        }
        self.slots[id.index as usize] = None;
        self.attached -= 1;
        self.closed.push_back(id);
    }

    fn cancel(&mut self, operation: Operation, id: ConnectionId) {
        let entry = opcode::AsyncCancel::new(token::pack(operation, id)).build();
        // SAFETY: a cancellation names an operation by its token; the kernel reads no memory of ours for it.
        unsafe { self.push(&entry.user_data(token::pack(Operation::Cancel, id))) };
    }

    /// Receives that had found no buffer are tried again, now that all buffers have come back: in the order in which they
    /// ran out, and no more than there are buffers, since each has bytes waiting.
    fn feed_starved(&mut self) {
        let is_round_over = self.round_left == 0;
        // Those who ran out since this round began are the next one's.
        let has_had_all = self.is_short_of_buffers && is_round_over;
        self.is_short_of_buffers = !self.starved.is_empty() && !has_had_all;
        if is_round_over {
            self.round_left = self.starved.len();
        }
        for _ in 0..self.buffers.count() {
            let Some(id) = self.starved.pop_front() else { return };
            self.round_left = self.round_left.saturating_sub(1);
            if self.live_slot(id).is_some_and(|slot| slot.receive == Receive::Starved) {
                self.arm_receive(id);
            }
        }
    }

    fn give_back_lent(&mut self) {
        if let Some(buffer) = self.lent.take() {
            self.buffers.give_back(buffer);
        }
    }

    /// The slot of a connection that may have ended.
    fn live_slot(&mut self, id: ConnectionId) -> Option<&mut Slot> {
        let slot = self.slots.get_mut(id.index as usize)?.as_mut()?;
        (slot.generation == id.generation).then_some(slot)
    }

    fn slot(&mut self, id: ConnectionId) -> &mut Slot {
        let slot = self.slots.get_mut(id.index as usize).and_then(Option::as_mut);
        let slot = slot.unwrap_or_else(|| panic!("Bug: connection {id} is not attached"));
        assert_eq!(slot.generation, id.generation, "Bug: a stale connection id reached the ring");
        slot
    }

    /// # Safety
    ///
    /// All memory that the entry points at stays valid, and unchanged where the kernel reads it, until the
    /// entry's last completion.
    unsafe fn push(&mut self, entry: &squeue::Entry) {
        self.counts.submissions += 1;
        loop {
            // SAFETY: passed on to our caller.
            if unsafe { self.ring.submission().push(entry) }.is_ok() {
                return;
            }
            // The queue is full: let the kernel take it, and make room for what completes meanwhile.
            if let Err(error) = self.flush_submissions() {
                // The ring is unusable, which the next `enter` reports.
                self.failure = Some(error);
                return;
            }
            self.collect();
        }
    }

    fn flush_submissions(&mut self) -> io::Result<()> {
        if self.ring.submission().is_empty() { Ok(()) } else { self.submit_and_run_deferred() }
    }

    /// Submits what is queued, and has the kernel do some of the work that it has deferred, if any.
    fn submit_and_run_deferred(&mut self) -> io::Result<()> {
        match self.ring.submit() {
            Ok(_) => Ok(()),
            // EBUSY: completions must be collected first, which every caller does next.
            Err(error) if is_passing(&error) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Collects what is in the completion queue, and says how much that is.
    fn collect(&mut self) -> usize {
        let before = self.collected.len();
        self.collected.extend(self.ring.completion().map(|entry| RawCompletion {
            token: entry.user_data(),
            result: entry.result(),
            flags: entry.flags(),
        }));
        let collected = self.collected.len() - before;
        self.counts.completions += collected as u64;
        if self.unsettled.is_empty() {
            return collected;
        }
        for place in before..self.collected.len() {
            if let (Operation::Send, id) = token::unpack(self.collected[place].token)
                && let Some(send) = self.live_slot(id).and_then(|slot| slot.send.as_mut())
            {
                send.kind = SendKind::Ended;
                self.has_completed_sends = true;
            }
        }
        collected
    }
}

/// What a receive's completion came to.
enum Received {
    Nothing,
    Bytes(u16, usize),
    End,
    Failure(io::Error),
}

/// Errors of `io_uring_enter(2)` after which the same call may succeed.
fn is_passing(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EINTR | libc::EAGAIN | libc::EBUSY))
}

/// How long dropping a ring waits for the kernel to let go of its operations.
const DROP_WAIT: Duration = Duration::from_millis(100);
const DROP_WAITS_MAX: u32 = 50;

impl Drop for Ring {
    /// Ends every connection and waits until the kernel holds no operation. If it does not let go within
    /// five seconds, what it may still use is leaked: memory lost is better than memory shared.
    fn drop(&mut self) {
        let open = (0..).zip(&self.slots).filter_map(|(index, slot)| {
            let slot = slot.as_ref().filter(|slot| slot.closing.is_none())?;
            Some(ConnectionId { index, generation: slot.generation })
        });
        let open: Vec<_> = open.collect();
        for id in open {
            self.close(id, CloseMode::Abort);
        }
        self.is_ending = true;
        self.waker.ring();
        for _ in 0..DROP_WAITS_MAX {
            while self.next_completion().is_some() {}
            if self.attached == 0 && !self.is_wake_armed || self.wait(Some(DROP_WAIT), || false).is_err() {
                break;
            }
        }
        if self.attached > 0 || self.is_wake_armed {
            mem::forget(mem::take(&mut self.slots));
            mem::forget(mem::take(&mut self.wake_value));
            self.buffers.leak();
        } else {
            // The kernel's ring lives on while others hold its waker, and is to know nothing of memory that is freed.
            // It fails only where the group is not registered.
            let _ = self.ring.submitter().unregister_buf_ring(buffers::GROUP);
        }
    }
}

#[cfg(test)]
mod tests;
