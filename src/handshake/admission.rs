//! An upgraded connection on its way from an acceptor to a shard, without its socket.

use bytes::Bytes;
use uproar_protocol::tls::TlsStream;

use super::endpoint::Endpoint;
use super::query::UpgradeQuery;
use crate::accounts::Identity;
use crate::address::ClientAddress;
use crate::permit::ClientPermit;

/// A request for a WebSocket that was accepted.
#[derive(Debug)]
pub struct UpgradeRequest {
    /// The endpoint of the request.
    pub endpoint: Endpoint,
    /// Its query.
    pub query: UpgradeQuery,
    /// Who the client is, if it has shown a token.
    pub identity: Option<Identity>,
    /// The client's address, as a trusted proxy tells it, or else the peer's.
    pub peer: ClientAddress,
    /// The 101, complete.
    pub response: Bytes,
}

/// A client that has requested a WebSocket, on its way from an acceptor to a shard.
///
/// The 101 has not been sent. The shard sends it once the client is a member, ahead of everything else, so that a
/// client that has received it misses no later event.
#[derive(Debug)]
pub struct Admission {
    /// What was requested.
    pub request: UpgradeRequest,
    /// The bytes received after the request head: the client's first frames, or a part of them.
    pub received: Bytes,
    /// The TLS state after the handshake, for a TLS connection.
    pub tls: Option<Box<TlsStream>>,
    /// Counts the connection as a client until it ends.
    pub permit: ClientPermit,
}
