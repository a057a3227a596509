//! Where the interface listens: a TCP port, or a unix socket.

use std::fs;
use std::io;
use std::net::TcpListener;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::config::ApiAddress;

/// The permissions of the socket: its owner and its group may connect, and need no key.
const SOCKET_MODE: u32 = 0o660;

/// Why the interface cannot listen.
#[derive(Debug, Error)]
#[error("cannot listen on {address} for the API: {source}; {advice}")]
pub struct ApiListenError {
    address: ApiAddress,
    source: io::Error,
    advice: &'static str,
}

/// A listening socket.
#[derive(Debug)]
pub enum ApiListener {
    /// TCP.
    Tcp(TcpListener),
    /// A unix socket.
    Unix(UnixSocket),
}

/// A listening unix socket. Its file is removed when this is dropped.
#[derive(Debug)]
pub struct UnixSocket {
    listener: UnixListener,
    path: PathBuf,
}

impl UnixSocket {
    /// Another handle to the socket.
    pub(super) fn listener(&self) -> io::Result<UnixListener> {
        self.listener.try_clone()
    }
}

impl Drop for UnixSocket {
    fn drop(&mut self) {
        // If it is gone, there is nothing to remove.
        let _ = fs::remove_file(&self.path);
    }
}

impl ApiListener {
    /// Listens.
    ///
    /// # Errors
    ///
    /// [`ApiListenError`], which says what to change.
    pub fn open(address: &ApiAddress) -> Result<Self, ApiListenError> {
        let refused = |source: io::Error| {
            let advice = match source.kind() {
                io::ErrorKind::AddrInUse => "another program uses it; choose another one with --api-listen",
                io::ErrorKind::AddrNotAvailable => {
                    "this machine does not have that address; choose one with --api-listen"
                }
                io::ErrorKind::NotFound => "the directory of the socket must exist",
                io::ErrorKind::PermissionDenied => {
                    "ports below 1024 need the capability CAP_NET_BIND_SERVICE, and a unix socket a directory that \
                     the server may write"
                }
                _ => "choose another address with --api-listen",
            };
            ApiListenError { address: address.clone(), source, advice }
        };
        match address {
            ApiAddress::Tcp(address) => TcpListener::bind(address).map(Self::Tcp),
            ApiAddress::Unix(path) => listen_unix(path).map(Self::Unix),
        }
        .map_err(refused)
    }

    /// The address, with the port that the kernel has chosen for port 0.
    ///
    /// # Errors
    ///
    /// As getsockname(2).
    pub fn address(&self) -> io::Result<ApiAddress> {
        match self {
            Self::Tcp(listener) => listener.local_addr().map(ApiAddress::Tcp),
            Self::Unix(socket) => Ok(ApiAddress::Unix(socket.path.clone())),
        }
    }
}

/// Listens on a unix socket. The socket of a server that was killed is replaced; one that still answers is not, and no other
/// file is.
fn listen_unix(path: &Path) -> io::Result<UnixSocket> {
    if let Ok(found) = fs::symlink_metadata(path) {
        let is_dead = found.file_type().is_socket()
            && UnixStream::connect(path).is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused);
        if !is_dead {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        fs::remove_file(path)?;
    }
    let listener = UnixListener::bind(path)?;
    let socket = UnixSocket { listener, path: path.to_owned() };
    fs::set_permissions(path, fs::Permissions::from_mode(SOCKET_MODE))?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dead_socket_is_replaced_and_nothing_else_is() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("api.sock");
        let address = ApiAddress::Unix(path.clone());
        let socket = ApiListener::open(&address).unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, SOCKET_MODE);
        let taken = ApiListener::open(&address).unwrap_err().to_string();
        assert!(taken.contains("another program uses it"), "{taken}");
        drop(socket);
        assert!(!path.exists(), "removed at the end");
        drop(UnixListener::bind(&path).unwrap());
        drop(ApiListener::open(&address).expect("its server is gone"));
        fs::write(&path, "precious").unwrap();
        ApiListener::open(&address).unwrap_err();
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    }
}
