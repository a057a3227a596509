//! From the text of an address to a socket that listens.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, ToSocketAddrs};

use rustix::io::Errno;
use socket2::{Domain, Protocol, Socket, Type};

use super::error::ListenError;
use super::listen_options::ListenOptions;

/// Listens at the first of the addresses that this machine has.
pub(super) fn bind(address: &str, options: &ListenOptions) -> Result<TcpListener, ListenError> {
    let malformed = |source| ListenError::Address { address: address.to_owned(), source };
    let addresses: Vec<SocketAddr> = match address.strip_prefix(':') {
        Some(port) => {
            let port = port.parse().map_err(|_| malformed(io::ErrorKind::InvalidInput.into()))?;
            // One socket for both families, or IPv4 alone where there is no IPv6.
            vec![(Ipv6Addr::UNSPECIFIED, port).into(), (Ipv4Addr::UNSPECIFIED, port).into()]
        }
        None => address.to_socket_addrs().map_err(malformed)?.collect(),
    };
    let mut failure = malformed(io::ErrorKind::NotFound.into());
    for address in addresses {
        match bind_to(address, options) {
            Ok(listener) => return Ok(listener),
            Err(source) => {
                // An address that is taken is not made up for by another one.
                let errno = Errno::from_io_error(&source);
                let is_absent = matches!(errno, Some(Errno::ADDRNOTAVAIL | Errno::AFNOSUPPORT));
                failure = ListenError::Bind { address, source };
                if !is_absent {
                    break;
                }
            }
        }
    }
    Err(failure)
}

fn bind_to(address: SocketAddr, options: &ListenOptions) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // Connections of a server that has gone may still be in TIME-WAIT; they are no reason to wait (socket(7)).
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(options.reuse_port)?;
    if let SocketAddr::V6(address) = address {
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    socket.bind(&address.into())?;
    socket.listen(i32::try_from(options.backlog).unwrap_or(i32::MAX))?;
    Ok(socket.into())
}
