//! What an acceptor hands to a shard, beside the socket.

use std::net::SocketAddr;

use bytes::Bytes;
use uproar_protocol::tls::TlsStream;

use super::route::Endpoint;
use crate::permit::ClientPermit;

/// A client that has asked for a WebSocket, on its way from an acceptor to a shard.
///
/// The 101 has not been sent. The shard sends it ahead of everything else once the client is a member, so that a client
/// that sees it misses nothing that happens afterwards.
#[derive(Debug)]
pub struct Admission {
    /// The endpoint that it asked for.
    pub endpoint: Endpoint,
    /// The address and port at the other end.
    pub peer: SocketAddr,
    /// The 101, complete.
    pub response: Bytes,
    /// The bytes received behind the request head: the client's first frames, or a part of them.
    pub received: Bytes,
    /// Its TLS, where it has any, behind the handshake.
    pub tls: Option<Box<TlsStream>>,
    /// Its place among the clients, given back at its end.
    pub permit: ClientPermit,
}
