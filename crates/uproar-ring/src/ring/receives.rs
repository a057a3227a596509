//! Receives, and the buffers that they fill.

use std::io;
use std::os::fd::AsRawFd as _;

use io_uring::{cqueue, opcode, types};

use super::{RawCompletion, Received, Ring};
use crate::buffers;
use crate::connection_id::ConnectionId;
use crate::slot::Receive;
use crate::token::{self, Operation};

impl Ring {
    pub(super) fn arm_receive(&mut self, id: ConnectionId) {
        let slot = self.slot(id);
        // While the last one is being cancelled, its completion arms the next.
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

    pub(super) fn pause_receive(&mut self, id: ConnectionId) {
        let slot = self.slot(id);
        slot.paused = true;
        if slot.receive == Receive::Armed {
            slot.receive = Receive::Cancelling;
            self.cancel(Operation::Receive, id);
        }
    }

    pub(super) fn step_receive(&mut self, id: ConnectionId, raw: RawCompletion) -> Received {
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

    /// Arms receives again that had found no buffer, now that all buffers are back: in the order in which they
    /// stopped, and no more than there are buffers, since each has bytes waiting.
    pub(super) fn feed_starved(&mut self) {
        let is_round_over = self.round_left == 0;
        // Those that stopped since this round began have their turn in the next one.
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

    pub(super) fn give_back_lent(&mut self) {
        if let Some(buffer) = self.lent.take() {
            self.buffers.give_back(buffer);
        }
    }
}
