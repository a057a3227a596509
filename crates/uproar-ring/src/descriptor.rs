//! Functions for sockets that another library owns: a second descriptor, and what the kernel knows of the socket.

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

/// The core on which the kernel has received the last packet of a socket (`SO_INCOMING_CPU`, socket(7)).
///
/// # Errors
///
/// The error of `getsockopt(2)` if it is not a socket.
pub fn incoming_cpu(socket: &impl AsRawFd) -> io::Result<u32> {
    // SAFETY: `socket` is borrowed for this call, and with it its descriptor, which stays open until then.
    let socket = unsafe { BorrowedFd::borrow_raw(socket.as_raw_fd()) };
    Ok(rustix::net::sockopt::socket_incoming_cpu(socket)?)
}

/// How many sent bytes the peer of a TCP socket has not acknowledged (`SIOCOUTQ`, tcp(7)).
///
/// # Errors
///
/// The error of `ioctl(2)` if it is not a connected TCP socket.
pub fn unacknowledged_bytes(socket: &impl AsRawFd) -> io::Result<u64> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: the request writes one `int` to its argument, which outlives the call; a wrong descriptor is an
    // error like any other.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(u64::try_from(bytes).unwrap_or(0))
}
