//! A client's socket, as far as it is opened without the ring.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;

use socket2::{Domain, Protocol, Socket, Type};

use crate::plan::Plan;

/// The receive buffer of a client that stops reading: small, so that the server feels it soon.
const SLOW_RECEIVE_BYTES: usize = 4096;

/// A socket on its way to the server.
///
/// # Errors
///
/// What socket(2), bind(2) and connect(2) report, other than that the connect goes on.
pub fn connecting(plan: &Plan, client: u32) -> io::Result<OwnedFd> {
    let server = plan.server_of(client);
    let socket = Socket::new(Domain::for_address(server.address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    if plan.is_slow(client) {
        socket.set_recv_buffer_size(SLOW_RECEIVE_BYTES)?;
    }
    if !server.sources.is_empty() {
        // Not the client's own number: where servers are as many as sources, each would get one source alone.
        let on_server = client as usize / plan.servers.len();
        bind_source(&socket, server.sources[on_server % server.sources.len()])?;
    }
    match socket.connect(&server.address.into()) {
        Ok(()) => {}
        Err(error) if error.raw_os_error() == Some(nix::libc::EINPROGRESS) => {}
        Err(error) => return Err(error),
    }
    Ok(socket.into())
}

/// Fixes the source address and leaves the port to connect(2), which may then use one port for several
/// destinations (`IP_BIND_ADDRESS_NO_PORT`, ip(7)).
fn bind_source(socket: &Socket, source: Ipv4Addr) -> io::Result<()> {
    nix::sys::socket::setsockopt(socket, nix::sys::socket::sockopt::IpBindAddressNoPort, &true)?;
    socket.bind(&SocketAddr::from((source, 0)).into())
}
