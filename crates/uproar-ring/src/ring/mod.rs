//! The ring: its connections, submissions and completions.
//!
//! - `kernel` submits and collects; `sends`, `receives`, `wakes` and `closes` are the operations;
//! - `trial` tries out what the kernel can do.

mod closes;
mod kernel;
mod receives;
mod sends;
mod trial;
mod wakes;

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;

use io_uring::IoUring;

use crate::buffers::Buffers;
use crate::connection_id::ConnectionId;
use crate::descriptor::{TcpFacts, duplicate, tcp_facts};
use crate::features::{self, Feature, Features};
use crate::options::Options;
use crate::slot::{Receive, Slot};
use crate::submission::{Completion, Submission};
use crate::token::{self, Operation};
use crate::waker::Waker;

/// The connection in the token of an operation without one.
const NO_CONNECTION: ConnectionId = ConnectionId { index: 0, generation: 0 };

/// A completion queue entry, copied before anything is handled.
#[derive(Clone, Copy, Debug)]
struct RawCompletion {
    token: u64,
    result: i32,
    flags: u32,
}

/// The result of a receive's completion.
enum Received {
    Nothing,
    Bytes(u16, usize),
    End,
    Failure(io::Error),
}

/// Counts of a ring's operations.
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
    /// The error that made the ring unusable.
    failure: Option<io::Error>,
    counts: Counts,
}

impl Ring {
    /// Sets up a ring owned by the calling thread, which other threads wake with `waker`. A waker is of use to one
    /// ring.
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
        // The counts do not include the trials above.
        ring.counts = Counts::default();
        Ok(ring)
    }

    /// The counts since the ring was created.
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

    /// True from when connections have bytes waiting for which there was no buffer, until all of these connections
    /// have been received from: some calls of [`Ring::enter`] later, for there may be more of them than buffers. It
    /// changes at a [`Ring::next_completion`] that is `None`.
    #[must_use]
    pub fn is_short_of_buffers(&self) -> bool {
        self.is_short_of_buffers
    }

    /// What the kernel knows of a connection; `None` for one that is not attached, or not of TCP.
    #[must_use]
    pub fn tcp_facts(&self, id: ConnectionId) -> Option<TcpFacts> {
        let slot = self.slots.get(id.index as usize)?.as_ref()?;
        (slot.generation == id.generation).then(|| tcp_facts(&slot.socket).ok())?
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
}

#[cfg(test)]
mod tests;
