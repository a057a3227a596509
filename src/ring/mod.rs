//! The floor's raw ring: every socket operation of established connections, behind an interface that
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
mod slot;
mod submission;
mod token;
mod trial;

use std::collections::VecDeque;
use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use io_uring::{IoUring, cqueue, opcode, squeue, types};

use crate::connection_id::ConnectionId;
pub use allocator::{Heap, give_back_ends, heap, trim};
use buffers::Buffers;
pub use descriptor::{awaitable, duplicate, incoming_cpu, unacknowledged_bytes};
use slot::{InFlight, Receive, Slot, Vectors};
pub use submission::{BATCH_FRAMES_MAX, CloseMode, Completion, SendBatch, Submission};
use token::Operation;
pub use trial::retrying_enomem;

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
}

impl Default for Options {
    /// For thousands of connections on one core.
    fn default() -> Self {
        Self {
            // A fan-out to thousands submits this many sends at a time; larger queues only leave the cache.
            submissions: 1024,
            // One completion each for a send and a receive of 16,384 connections.
            completions: 32_768,
            // 8 MiB, of which only what has been used is resident.
            buffers: 4096,
            buffer_bytes: 2048,
        }
    }
}

/// Deferred work that the kernel is asked to run at a time: all that there usually is, and little enough for it to be
/// interrupted.
const DEFERRED_WORK_MAX: usize = 4_096;

/// The most bytes of one frame in one send, whose length is a `u32`.
const SEND_BYTES_MAX: usize = 1 << 30;

/// Completions that are collected before they are handled. There are hardly more at a time: as many receives as there
/// are buffers, and a send for each connection.
const COLLECTED_MAX: usize = 65_536;

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
    event: OwnedFd,
    /// Collected, not yet handled.
    collected: VecDeque<RawCompletion>,
    /// Ended, not yet reported.
    closed: VecDeque<ConnectionId>,
    /// Connections whose receive found no buffer.
    starved: Vec<ConnectionId>,
    /// True when some were starved as of the last collected completion.
    is_short_of_buffers: bool,
    /// The buffer that the last completion lent out.
    lent: Option<u16>,
    attached: usize,
    /// What made a submission impossible.
    failure: Option<io::Error>,
    counts: Counts,
}

impl Ring {
    /// Sets up a ring owned by the calling thread.
    ///
    /// # Errors
    ///
    /// What `io_uring_setup(2)` and `io_uring_register(2)` report: `ENOSYS` without io_uring, `EPERM` when
    /// it is forbidden, `EINVAL` before Linux 6.1, `ENOMEM`, `EMFILE`.
    pub fn new(options: Options) -> io::Result<Self> {
        let ring: IoUring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_taskrun_flag()
            .setup_submit_all()
            .setup_cqsize(options.completions)
            .build(options.submissions)?;
        let buffers = Buffers::register(&ring, options.buffers, options.buffer_bytes)?;
        let event = rustix::event::eventfd(
            0,
            rustix::event::EventfdFlags::CLOEXEC | rustix::event::EventfdFlags::NONBLOCK,
        )?;
        ring.submitter().register_eventfd(event.as_raw_fd())?;
        Ok(Self {
            ring,
            buffers,
            slots: Vec::new(),
            event,
            collected: VecDeque::new(),
            closed: VecDeque::new(),
            starved: Vec::new(),
            is_short_of_buffers: false,
            lent: None,
            attached: 0,
            failure: None,
            counts: Counts::default(),
        })
    }

    /// True when, at the last [`Ring::next_completion`] that was `None`, connections had bytes waiting for which
    /// there had been no buffer. The next [`Ring::enter`] receives them.
    #[must_use]
    pub fn is_short_of_buffers(&self) -> bool {
        self.is_short_of_buffers
    }

    /// An eventfd that becomes readable when there is something to collect and [`Ring::is_idle`] has been
    /// asked before. (Under `DEFER_TASKRUN` the ring's own descriptor does not.) It is made for edge
    /// triggered use: nobody needs to read it.
    #[must_use]
    pub fn event_descriptor(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }

    /// How often this ring did what, since it was made.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// How many connections are attached.
    #[must_use]
    pub fn attached_count(&self) -> usize {
        self.attached
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
    /// is called is among it, so that nobody is called silent whose bytes are here.
    ///
    /// # Errors
    ///
    /// What `io_uring_enter(2)` reports beyond what a later call mends; it means that the ring is unusable.
    pub fn enter(&mut self) -> io::Result<()> {
        self.give_back_lent();
        if let Some(failure) = self.failure.take() {
            return Err(failure);
        }
        self.flush_submissions()?;
        self.collect();
        // Since Linux 6.13 a call runs 20 pieces of deferred work, or as many as it waits for: it is asked for more
        // than there are, and not to wait. What had overflowed is flushed by the same call, for which there is room
        // now.
        while self.has_deferred_work() && self.collected.len() < COLLECTED_MAX {
            let before = self.collected.len();
            self.submit_and_wait_for(DEFERRED_WORK_MAX, &types::Timespec::new())?;
            self.collect();
            if self.collected.len() == before {
                break;
            }
        }
        Ok(())
    }

    /// As [`Ring::enter`], but sleeps until something has completed or `timeout` has passed.
    ///
    /// # Errors
    ///
    /// As for [`Ring::enter`].
    pub fn wait(&mut self, timeout: Duration) -> io::Result<()> {
        self.give_back_lent();
        if self.collected.is_empty() && self.closed.is_empty() && self.ring.completion().is_empty() {
            let timeout = types::Timespec::new().sec(timeout.as_secs()).nsec(timeout.subsec_nanos());
            self.submit_and_wait_for(1, &timeout)?;
        }
        self.enter()
    }

    /// True while the kernel may have completions that it makes only when it is entered, or has no room for. It does
    /// not take its word back for work that was added and done within one call, so only a call that brings nothing
    /// tells that there is nothing.
    fn has_deferred_work(&mut self) -> bool {
        let submission = self.ring.submission();
        submission.taskrun() || submission.cq_overflow()
    }

    /// Submits what is queued, and waits until so many have completed or the time is up.
    fn submit_and_wait_for(&mut self, completions: usize, timeout: &types::Timespec) -> io::Result<()> {
        let args = types::SubmitArgs::new().timespec(timeout);
        match self.ring.submitter().submit_with_args(completions, &args) {
            Err(error) if !is_passing(&error) && error.raw_os_error() != Some(libc::ETIME) => Err(error),
            _ => Ok(()),
        }
    }

    /// True when nothing is waiting to be collected; the event descriptor then tells when that changes.
    /// Until it is asked, nothing is signalled, which spares the kernel a wake-up for each completion of a
    /// busy turn.
    pub fn is_idle(&mut self) -> bool {
        if !self.collected.is_empty() || !self.closed.is_empty() {
            return false;
        }
        self.ring.completion().enable_eventfd();
        // Checked after enabling, so that what arrives in between is either seen here or signalled. The
        // fence pairs with the kernel's, which adds the work before it reads the flag.
        std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
        if self.has_deferred_work()
            && let Err(error) = self.submit_and_wait_for(DEFERRED_WORK_MAX, &types::Timespec::new())
        {
            self.failure = Some(error);
        }
        let is_submitted = self.ring.submission().is_empty();
        let idle = is_submitted && self.failure.is_none() && self.ring.completion().is_empty();
        if !idle {
            self.ring.completion().disable_eventfd();
        }
        idle
    }

    /// Makes the event descriptor readable, for a caller that has more to do and wants to be back at once.
    ///
    /// # Errors
    ///
    /// None that an eventfd in use can have.
    pub fn wake(&self) -> io::Result<()> {
        match rustix::io::write(&self.event, &1_u64.to_ne_bytes()) {
            // Its counter is full, so it is readable anyway; this write still made an edge.
            Ok(_) | Err(rustix::io::Errno::AGAIN) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// The next collected completion. The bytes in it are lent until the next call on the ring.
    pub fn next_completion(&mut self) -> Option<Completion<'_>> {
        self.give_back_lent();
        loop {
            if let Some(id) = self.closed.pop_front() {
                return Some(Completion::Closed(id));
            }
            let Some(raw) = self.collected.pop_front() else {
                self.feed_starved();
                return None;
            };
            let (operation, id) = token::unpack(raw.token);
            match operation {
                Operation::Cancel => {}
                Operation::Send => {
                    if let Some((batch, result)) = self.end_send(id, raw.result) {
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
        let slot = self.slot(id);
        assert!(slot.send.is_none(), "Bug: a second send under way on {id}");
        assert!(slot.closing.is_none(), "Bug: a send on {id} after its close");
        let socket = types::Fd(slot.socket.as_raw_fd());
        let (entry, vectors) = if batch.frame_count() == 1 {
            let bytes = batch.slice(0);
            // What is longer leaves in several sends, like everything that the kernel takes in part.
            let len = bytes.len().min(SEND_BYTES_MAX) as u32;
            (opcode::Send::new(socket, bytes.as_ptr(), len).build(), None)
        } else {
            let vectors = Vectors::of(&batch);
            (opcode::SendMsg::new(socket, &raw const vectors.header).build(), Some(vectors))
        };
        slot.send = Some(InFlight { batch, vectors });
        // SAFETY: the kernel reads the frames' bytes, and for several the header and vectors. The slot owns
        // the batch (whose `Rc`s keep the bytes at their address, unchanged) and the boxed vectors until
        // `end_send` has seen this operation's completion, and `Drop` leaks them if it never came.
        unsafe { self.push(&entry.user_data(token::pack(Operation::Send, id))) };
    }

    fn end_send(&mut self, id: ConnectionId, result: i32) -> Option<(SendBatch, io::Result<usize>)> {
        let slot = self.slot(id);
        let InFlight { batch, vectors } =
            slot.send.take().expect("Bug: a send completed that was not under way");
        drop(vectors);
        if slot.closing.is_some() {
            self.finish_close(id);
            return None;
        }
        let result = usize::try_from(result).map_err(|_| io::Error::from_raw_os_error(-result));
        Some((batch, result))
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
                self.starved.push(id);
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

    /// Receives that had found no buffer are tried again, now that what was lent has come back.
    fn feed_starved(&mut self) {
        self.is_short_of_buffers = !self.starved.is_empty();
        for id in mem::take(&mut self.starved) {
            let still = self.slots[id.index as usize]
                .as_ref()
                .is_some_and(|slot| slot.generation == id.generation && slot.receive == Receive::Starved);
            if still {
                self.arm_receive(id);
            }
        }
    }

    fn give_back_lent(&mut self) {
        if let Some(buffer) = self.lent.take() {
            self.buffers.give_back(buffer);
        }
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
        match self.ring.submit() {
            Ok(_) => Ok(()),
            // EBUSY: completions must be collected first, which every caller does next.
            Err(error) if is_passing(&error) => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn collect(&mut self) {
        self.ring.completion().disable_eventfd();
        let before = self.collected.len();
        self.collected.extend(self.ring.completion().map(|entry| RawCompletion {
            token: entry.user_data(),
            result: entry.result(),
            flags: entry.flags(),
        }));
        self.counts.completions += (self.collected.len() - before) as u64;
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
        for _ in 0..DROP_WAITS_MAX {
            while self.next_completion().is_some() {}
            if self.attached == 0 || self.wait(DROP_WAIT).is_err() {
                break;
            }
        }
        if self.attached > 0 {
            mem::forget(mem::take(&mut self.slots));
            self.buffers.leak();
        }
    }
}

#[cfg(test)]
mod tests;
