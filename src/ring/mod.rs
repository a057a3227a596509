//! The raw ring. (Being written; this is its interface.)
#![allow(unsafe_code)]
mod submission;

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use crate::connection_id::ConnectionId;
pub use submission::{BATCH_FRAMES_MAX, CloseMode, Completion, SendBatch, Submission};

/// Sizes of a ring.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Submission queue entries; a power of two.
    pub submissions: u32,
    /// Completion queue entries; a power of two.
    pub completions: u32,
    /// Receive buffers shared by all connections; a power of two up to 32,768.
    pub buffers: u16,
    /// Bytes of one receive buffer.
    pub buffer_bytes: u32,
}

/// The ring.
#[derive(Debug)]
pub struct Ring {}

impl Ring {
    /// Sets up a ring owned by the calling thread.
    pub fn new(_options: Options) -> io::Result<Self> {
        todo!()
    }
    /// Readable when completions may be waiting (an eventfd); edge triggered use needs no read of it.
    pub fn event_descriptor(&self) -> BorrowedFd<'_> {
        todo!()
    }
    /// Takes over a connected (or connecting, non-blocking) socket and starts receiving on it.
    pub fn attach(&mut self, _id: ConnectionId, _socket: OwnedFd) {
        todo!()
    }
    /// Queues one submission; it reaches the kernel with the next `enter` or `wait` (or earlier, when the queue is full).
    pub fn submit(&mut self, _submission: Submission) {
        todo!()
    }
    /// Submits what is queued and collects what has completed, without waiting.
    pub fn enter(&mut self) -> io::Result<()> {
        todo!()
    }
    /// As `enter`, but sleeps until something has completed or the time is up.
    pub fn wait(&mut self, _timeout: Duration) -> io::Result<()> {
        todo!()
    }
    /// The next collected completion; its bytes are lent until the next call on the ring.
    pub fn next_completion(&mut self) -> Option<Completion<'_>> {
        todo!()
    }
}

/// Gives a second descriptor for the same open file (stand-in).
///
/// # Errors
///
/// `EMFILE` when the process has no descriptor to spare.
pub fn duplicate(fd: &impl AsRawFd) -> io::Result<OwnedFd> {
    // SAFETY: the descriptor is open for as long as `fd` is borrowed, and the borrow ends in this line.
    unsafe { BorrowedFd::borrow_raw(fd.as_raw_fd()) }.try_clone_to_owned()
}
