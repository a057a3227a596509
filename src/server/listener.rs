//! The listener: one for the whole server, from which all acceptors accept.

use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener};
use std::thread;
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::error::ServerError;
use crate::preflight::BACKLOG_WANTED;

/// The most unsent bytes of a connection in the kernel (`TCP_NOTSENT_LOWAT`, tcp(7)). The rest stays in the out-queue,
/// where a broadcast is held once for all clients, and where it can still be dropped.
const NOT_SENT_BYTES_MAX: u32 = 64 * 1024;

/// How long and how often a port in use is tried again.
const BIND_TIMEOUT: Duration = Duration::from_secs(2);
const BIND_PAUSE: Duration = Duration::from_millis(20);

/// The port of a server that does not listen yet: connections to it are refused.
#[derive(Debug)]
pub(super) struct Port {
    /// `None` where the kernel is to choose a port, which it does for good only when that is listened on.
    socket: Option<Socket>,
    address: SocketAddr,
}

/// The listening socket. It is shut down when this is dropped, even if other handles exist.
#[derive(Debug)]
pub(super) struct Listener(TcpListener);

impl Port {
    /// Takes the port of an address. If it is in use, tries again for a while: the kernel closes the sockets of a server
    /// that was killed only after it has ended its io_uring operations.
    pub(super) fn bind(address: SocketAddr) -> Result<Self, ServerError> {
        if address.port() == 0 {
            return Ok(Self { socket: None, address });
        }
        let deadline = Instant::now() + BIND_TIMEOUT;
        loop {
            match bound(address) {
                Err(error) if error.kind() == io::ErrorKind::AddrInUse && Instant::now() < deadline => {
                    thread::sleep(BIND_PAUSE);
                }
                Ok(socket) => return Ok(Self { socket: Some(socket), address }),
                Err(error) => return Err(refused(address, error)),
            }
        }
    }

    /// Listens.
    pub(super) fn listen(self) -> Result<Listener, ServerError> {
        let Self { socket, address } = self;
        let backlog = i32::try_from(BACKLOG_WANTED).unwrap_or(i32::MAX);
        let listening = || {
            let socket = socket.map_or_else(|| bound(address), Ok)?;
            // Fails where another program has done so meanwhile.
            socket.listen(backlog)?;
            Ok(Listener(socket.into()))
        };
        listening().map_err(|source| refused(address, source))
    }
}

impl Listener {
    /// The address, with the port that the kernel has chosen for port 0.
    pub(super) fn address(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }

    /// A handle for an acceptor.
    pub(super) fn handle(&self) -> io::Result<TcpListener> {
        self.0.try_clone()
    }

    /// Stops listening: connections in the backlog are reset, and every accept under way fails. Nothing else would
    /// end those (shutdown(2) on a listening socket).
    pub(super) fn close(&self) {
        // Fails when it is closed already.
        let _ = SockRef::from(&self.0).shutdown(Shutdown::Both);
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.close();
    }
}

/// Without SO_REUSEPORT, so that another server of the same user cannot share the port by accident.
fn bound(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    // Accepted connections inherit both.
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_notsent_lowat(NOT_SENT_BYTES_MAX)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

fn refused(address: SocketAddr, source: io::Error) -> ServerError {
    let advice = match source.kind() {
        io::ErrorKind::AddrInUse => "another program uses this port; choose another one with --listen",
        io::ErrorKind::AddrNotAvailable => {
            "this machine does not have that address; choose one with --listen"
        }
        io::ErrorKind::PermissionDenied => "ports below 1024 need the capability CAP_NET_BIND_SERVICE",
        _ => "choose another address with --listen",
    };
    ServerError::Listen { address, source, advice }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closed_listener_ends_accepts_through_every_handle() {
        let port = Port::bind(([127, 0, 0, 1], 0).into()).expect("a free port");
        let listener = port.listen().expect("nobody else listens");
        let (address, handle) =
            (listener.address().expect("an address"), listener.handle().expect("a handle"));
        let accepting = thread::spawn(move || handle.accept().map(drop));
        drop(listener);
        assert!(accepting.join().expect("no panic").is_err());
        drop(Port::bind(address).expect("the port is free again"));
    }
}
