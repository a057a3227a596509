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

/// What the kernel knows of a TCP connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpFacts {
    /// Bytes that the peer has acknowledged since the connection was made.
    pub acknowledged_bytes: u64,
    /// The smoothed round-trip time in microseconds.
    pub round_trip_us: u32,
}

/// What the kernel knows of a TCP socket (`TCP_INFO`, tcp(7)).
///
/// # Errors
///
/// The error of `getsockopt(2)` if it is not a TCP socket.
pub fn tcp_facts(socket: &impl AsRawFd) -> io::Result<TcpFacts> {
    // SAFETY: a `tcp_info` is numbers alone, so zeroes are valid.
    let mut info: libc::tcp_info = unsafe { std::mem::zeroed() };
    let mut length = size_of_val(&info) as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes to `info`, and one `socklen_t` to `length`; both outlive the call. A
    // wrong descriptor is an error like any other.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            (&raw mut info).cast(),
            &raw mut length,
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(TcpFacts { acknowledged_bytes: info.tcpi_bytes_acked, round_trip_us: info.tcpi_rtt })
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

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::{TcpListener, TcpStream};
    use std::os::unix::net::UnixStream;
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn the_kernel_tells_what_a_peer_has_acknowledged() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        let before = tcp_facts(&server).unwrap().acknowledged_bytes;
        server.write_all(&[7; 1_000]).unwrap();
        client.read_exact(&mut [0; 1_000]).unwrap();
        // The acknowledgement may come a moment later.
        let deadline = Instant::now() + Duration::from_secs(60);
        while tcp_facts(&server).unwrap().acknowledged_bytes < before + 1_000 {
            assert!(Instant::now() < deadline, "never acknowledged");
            std::thread::yield_now();
        }
        assert!(tcp_facts(&server).unwrap().round_trip_us > 0);
    }

    #[test]
    fn other_sockets_have_no_such_facts() {
        let (one, _other) = UnixStream::pair().unwrap();
        tcp_facts(&one).unwrap_err();
    }
}
