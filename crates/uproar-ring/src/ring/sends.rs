//! Sends: those that end within the call that submits them, and those that wait in the kernel.

use std::io;
use std::mem;
use std::os::fd::AsRawFd as _;

use io_uring::{opcode, squeue, types};

use super::Ring;
use crate::connection_id::ConnectionId;
use crate::features::Feature;
use crate::slot::{IMMEDIATE, InFlight, SendKind, Vectors};
use crate::submission::SendBatch;
use crate::token::{self, Operation};

/// The most bytes of one frame in one send, whose length is a `u32`.
const SEND_BYTES_MAX: usize = 1 << 30;

impl Ring {
    pub(super) fn send(&mut self, id: ConnectionId, batch: SendBatch) {
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
    pub(super) fn push_send(&mut self, id: ConnectionId) {
        let slot = self.slot(id);
        let socket = types::Fd(slot.socket.as_raw_fd());
        let send = slot.send.as_ref().expect("Bug: a slot without a send");
        let kind = send.kind;
        // Without MSG_DONTWAIT the kernel would wait for room, and the end of the send would not become known; without
        // MSG_WAITALL a short send would count as a success.
        let flags = if kind == SendKind::Immediate { IMMEDIATE } else { 0 };
        let entry = match &send.vectors {
            None => {
                let bytes = send.batch.slice(0);
                // A longer frame takes several sends, like every short send.
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
    pub(super) fn step_send(
        &mut self,
        id: ConnectionId,
        result: i32,
    ) -> Option<(SendBatch, io::Result<usize>)> {
        let slot = self.slot(id);
        let send = slot.send.as_mut().expect("Bug: a send completed that was not under way");
        // The rest of a short immediate send is sent by one that waits.
        slot.is_congested = usize::try_from(result) != Ok(send.batch.remaining_bytes());
        if result == -libc::EAGAIN && slot.closing.is_none() {
            send.kind = SendKind::Waiting;
            self.push_send(id);
            return None;
        }
        let result = usize::try_from(result).map_err(|_| io::Error::from_raw_os_error(-result));
        self.end_send(id).map(|batch| (batch, result))
    }

    /// Takes the batch of a send back that has ended. `None` when a close waited for it.
    pub(super) fn end_send(&mut self, id: ConnectionId) -> Option<SendBatch> {
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
    /// Such a send ends within the call that submits it, and has a completion only if it did not send everything. So
    /// when the kernel has taken the whole queue, and all completions are collected, the others have succeeded.
    pub(super) fn settle_sends(&mut self) {
        if self.unsettled.is_empty() {
            return;
        }
        let submission = self.ring.submission();
        if !submission.is_empty() || submission.cq_overflow() {
            return;
        }
        drop(submission);
        // Nearly always all have succeeded. Then their slots, which may be many, need not be checked.
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
}
