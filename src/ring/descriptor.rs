//! Descriptors between libraries: owned ones out of a library that only lends the number, and awaitable
//! ones for the runtime.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// A second descriptor for the same socket (dup(2) with close-on-exec), so that the first may be closed by
/// the library that owns it.
///
/// # Errors
///
/// `EMFILE` when the process has no descriptor left.
pub fn duplicate(socket: &impl AsRawFd) -> io::Result<OwnedFd> {
    // SAFETY: `socket` is borrowed for this call, and with it its descriptor, which stays open until
    // `try_clone_to_owned` has returned.
    unsafe { BorrowedFd::borrow_raw(socket.as_raw_fd()) }.try_clone_to_owned()
}

/// Registers a descriptor with the runtime, to await its readiness.
///
/// # Errors
///
/// What `epoll_ctl(2)` reports.
///
/// # Panics
///
/// Outside of a tokio runtime with I/O enabled.
pub fn awaitable(descriptor: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` names one descriptor for as long as it lives, and keeps it open; the `AsyncFd`
    // owns it and deregisters it before it is closed.
    Ok(unsafe { AsyncFd::register_with_interest(descriptor, Interest::READABLE) }?)
}
