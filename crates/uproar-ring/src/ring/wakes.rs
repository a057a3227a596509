//! Threads with rings wake each other: with a message between the rings, or with an event.

use std::os::fd::RawFd;

use io_uring::{opcode, squeue, types};

use super::{NO_CONNECTION, Ring};
use crate::connection_id::ConnectionId;
use crate::features::Feature;
use crate::token::{self, Operation};
use crate::waker::Waker;

impl Ring {
    /// Submits a read of the waker's event, which completes when the waker is used.
    pub(super) fn arm_wake(&mut self) {
        if self.is_ending {
            return;
        }
        self.is_wake_armed = true;
        let event = types::Fd(self.waker.event());
        let entry =
            opcode::Read::new(event, (&raw mut *self.wake_value).cast(), size_of::<u64>() as u32).build();
        // SAFETY: the kernel writes 8 bytes to the box, which nothing else looks at, and which lives until this
        // operation's completion was seen or is leaked by `Drop`.
        unsafe { self.push(&entry.user_data(token::pack(Operation::Wake, NO_CONNECTION))) };
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
    pub(super) fn push_message(&mut self, ring: RawFd, number: u32) {
        let woken = token::pack(Operation::Woken, NO_CONNECTION);
        let number = ConnectionId { index: number, ..NO_CONNECTION };
        let entry = opcode::MsgRingData::new(types::Fd(ring), 0, woken, None).build();
        let entry = entry.flags(squeue::Flags::SKIP_SUCCESS);
        // SAFETY: the kernel reads no memory of ours for a message. A descriptor that is no ring's ends it.
        unsafe { self.push(&entry.user_data(token::pack(Operation::Message, number))) };
    }

    /// A message did not reach its ring: its thread is woken with its event, like all threads from now on.
    pub(super) fn step_message(&mut self, number: u32) {
        self.features = self.features.without(Feature::RingMessages);
        if let Some(waker) = self.messaged.get(number as usize) {
            waker.ring();
        }
    }
}
