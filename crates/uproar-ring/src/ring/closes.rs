//! Closing connections, and dropping the ring with all of them.

use std::mem;
use std::time::Duration;

use io_uring::opcode;

use super::Ring;
use crate::buffers;
use crate::connection_id::ConnectionId;
use crate::slot::Receive;
use crate::submission::CloseMode;
use crate::token::{self, Operation};

/// How long dropping a ring waits for the kernel to end its operations.
const DROP_WAIT: Duration = Duration::from_millis(100);
const DROP_WAITS_MAX: u32 = 50;

impl Ring {
    pub(super) fn close(&mut self, id: ConnectionId, mode: CloseMode) {
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
    pub(super) fn finish_close(&mut self, id: ConnectionId) {
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

    pub(super) fn cancel(&mut self, operation: Operation, id: ConnectionId) {
        let entry = opcode::AsyncCancel::new(token::pack(operation, id)).build();
        // SAFETY: a cancellation names an operation by its token; the kernel reads no memory of ours for it.
        unsafe { self.push(&entry.user_data(token::pack(Operation::Cancel, id))) };
    }
}

impl Drop for Ring {
    /// Closes every connection and waits until the kernel holds no operation. After five seconds, memory that the
    /// kernel may still use is leaked: better than freeing it.
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
            // The kernel's ring lives on while others hold its waker, and must not refer to freed memory. It fails
            // only when the group is not registered.
            let _ = self.ring.submitter().unregister_buf_ring(buffers::GROUP);
        }
    }
}
