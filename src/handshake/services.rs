//! What acceptors need from the rest of the server, and what they tell it.

use std::sync::Arc;
use std::time::Duration;

use uproar_protocol::response::{Response, StatusCode};
use uproar_protocol::tls::ServerConfig;

use super::origin::OriginPolicy;
use crate::address::{AddressLimiter, AddressRefusal};
use crate::metrics::{HandshakeKind, TlsFailure};
use crate::permit::ClientPermit;

/// What an acceptor needs from the rest of the server.
pub trait HandshakeServices {
    /// How TLS is spoken; `None` where it is not. New connections get what it says at the time.
    fn tls(&self) -> Option<Arc<ServerConfig>>;
    /// Whose pages may connect.
    fn origins(&self) -> &OriginPolicy;
    /// True while messages are refused because they cannot be stored.
    fn has_storage_failed(&self) -> bool;
    /// How long the current turn of a shard has taken so far, the longest of all shards.
    fn longest_turn(&self) -> Duration;
    /// Whether users must sign in; see [`RoutePolicy::requires_sign_in`](super::route::RoutePolicy::requires_sign_in).
    fn requires_sign_in(&self) -> bool;
    /// The web client, for a browser that calls this server by the name `host`, a port included.
    fn page(&self, host: Option<&str>) -> Response;
    /// The metrics, as Prometheus reads them.
    fn metrics_text(&self) -> String;
    /// What each address may have.
    fn addresses(&self) -> &AddressLimiter;
    /// A place for one more client, if there is one.
    fn acquire_client(&self) -> Option<ClientPermit>;
    /// Counts something that happened.
    fn note(&self, event: HandshakeEvent);
}

/// Something to be counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandshakeEvent {
    /// A connection was accepted.
    Accepted,
    /// A connection left the acceptor: it was handed over, or has ended.
    Left,
    /// Accepting failed.
    AcceptFailed,
    /// A TLS handshake was completed.
    Secured(HandshakeKind),
    /// A connection got no further than TLS.
    TlsFailed(TlsFailure),
    /// A connection was answered with a plain response.
    Responded(StatusCode),
    /// A connection had to make place for a newcomer, because there were as many as there may be.
    Displaced,
    /// A connection had to make place for a newcomer of its address, or was that newcomer, because the address had as
    /// many as it may have.
    AddressDisplaced,
    /// An upgrade was refused because of what its address has already.
    AddressRefused(AddressRefusal),
    /// An upgrade was refused because all places are taken.
    Full,
    /// An upgrade was refused because its dialect has no way to sign in.
    SignInRequired,
}

/// What connections may take before they are upgraded.
#[derive(Clone, Copy, Debug)]
pub struct HandshakeLimits {
    /// How long a connection has from being accepted to the end of its request head, TLS included.
    pub timeout: Duration,
    /// The longest request head, in bytes.
    pub head_bytes_max: usize,
    /// How many connections may be pending. A silent one costs a descriptor and about 3 KiB
    /// for the timeout. When there are so many, a newcomer takes the place of the oldest silent one.
    pub connections_max: usize,
}
