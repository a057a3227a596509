//! Owned descriptors out of libraries that only lend the number.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

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
