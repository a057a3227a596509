//! The ring's state of one connection: its descriptor, and the operations on it.

use std::os::fd::OwnedFd;

use crate::submission::{CloseMode, SendBatch};

/// The flags of a send that does not wait, and whose success has no completion.
pub(crate) const IMMEDIATE: i32 = libc::MSG_DONTWAIT | libc::MSG_WAITALL;

/// The receive operation of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Receive {
    /// A multishot receive is with the kernel.
    Armed,
    /// It is with the kernel, and is being cancelled.
    Cancelling,
    /// None is with the kernel, because reading is paused.
    Paused,
    /// None is with the kernel, because no buffer was free; it is armed again when buffers are returned.
    Starved,
    /// None is with the kernel, and none will be: the stream has ended or failed.
    Ended,
}

/// How the end of a send becomes known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SendKind {
    /// It waits in the kernel for as long as it takes, and has a completion.
    Waiting,
    /// It ends within the call that submits it, and has a completion only if it did not send everything. None was
    /// seen so far.
    Immediate,
    /// It has a completion, or is known to have succeeded; its end is still to be reported.
    Ended,
}

/// A send that is with the kernel, and everything that the kernel may read for it.
#[derive(Debug)]
pub(crate) struct InFlight {
    pub(crate) batch: SendBatch,
    pub(crate) kind: SendKind,
    /// The message header and vectors of a batch of several frames; they point into `batch`'s frames.
    pub(crate) vectors: Option<Box<Vectors>>,
}

/// A `msghdr` and the vectors that it points at, at an address of their own.
#[derive(Debug)]
pub(crate) struct Vectors {
    pub(crate) header: libc::msghdr,
    pub(crate) iovecs: Vec<libc::iovec>,
}

impl Vectors {
    /// The vectors of a batch, and a header that points at them.
    pub(crate) fn of(batch: &SendBatch) -> Box<Self> {
        let iovecs = (0..batch.frame_count())
            .map(|index| {
                let slice = batch.slice(index);
                libc::iovec { iov_base: slice.as_ptr().cast_mut().cast(), iov_len: slice.len() }
            })
            .collect();
        // SAFETY: a `msghdr` of zeroes is valid: null pointers with zero lengths (sendmsg(2)).
        let header = unsafe { std::mem::zeroed() };
        let mut vectors = Box::new(Self { header, iovecs });
        vectors.header.msg_iov = vectors.iovecs.as_mut_ptr();
        vectors.header.msg_iovlen = vectors.iovecs.len();
        vectors
    }
}

/// One connection as the ring sees it.
#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) socket: OwnedFd,
    pub(crate) generation: u32,
    pub(crate) receive: Receive,
    /// True when receiving is paused.
    pub(crate) paused: bool,
    /// Present exactly when a send was submitted and its end has not been handled.
    pub(crate) send: Option<InFlight>,
    /// True after a send for which the socket had no room, until one that it took whole: the next send waits in the
    /// kernel.
    pub(crate) is_congested: bool,
    /// Present once the connection is being closed.
    pub(crate) closing: Option<CloseMode>,
}

impl Slot {
    /// True when the kernel holds no operation of this connection, so its end may be reported.
    pub(crate) fn is_quiet(&self) -> bool {
        self.send.is_none() && !matches!(self.receive, Receive::Armed | Receive::Cancelling)
    }
}
