//! The interface of acceptors to the rest of the server.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use uproar_protocol::response::{Response, StatusCode};
use uproar_protocol::tls::ServerConfig;

use super::endpoint::Dialects;
use super::origin::OriginPolicy;
use super::proxies::ProxyPolicy;
use super::route::Endpoint;
use crate::accounts::Identity;
use crate::address::{AddressLimiter, AddressRefusal};
use crate::metrics::{HandshakeKind, Health, TlsFailure};
use crate::permit::ClientPermit;
use crate::tokens::TokenError;
use crate::topics::TopicLimiter;

/// The services of the server that an acceptor uses.
pub trait HandshakeServices {
    /// The TLS configuration for new connections; `None` without TLS. It may change.
    fn tls(&self) -> Option<Arc<ServerConfig>>;
    /// The origins whose pages may connect.
    fn origins(&self) -> &OriginPolicy;
    /// The proxies that tell the addresses of clients.
    fn proxies(&self) -> &ProxyPolicy;
    /// The dialects that are spoken.
    fn dialects(&self) -> Dialects;
    /// Whether the server works.
    fn health(&self) -> Health;
    /// Whether users must sign in; see [`RoutePolicy::requires_sign_in`](super::route::RoutePolicy::requires_sign_in).
    fn requires_sign_in(&self) -> bool;
    /// Whether tokens are looked at.
    fn takes_tokens(&self) -> bool;
    /// Decides whether a client may connect to an endpoint, with its token or without one.
    ///
    /// # Errors
    ///
    /// When the token is bad, the client is banned, or it may not connect there.
    fn authorize(
        &self,
        endpoint: &Endpoint,
        token: Option<&str>,
        address: IpAddr,
    ) -> Result<Option<Identity>, AuthorizationRefusal>;
    /// Whether a client without a token may not connect because of its address.
    fn is_banned(&self, address: IpAddr) -> bool;
    /// The web client, for a browser that uses `host` (name and port) for this server.
    fn page(&self, host: Option<&str>) -> Response;
    /// Whether the metrics are served on the clients' port.
    fn has_public_metrics(&self) -> bool;
    /// The metrics in Prometheus' text format.
    fn metrics_text(&self) -> String;
    /// The limits of each address.
    fn addresses(&self) -> &AddressLimiter;
    /// The raw topics, and their limit.
    fn topics(&self) -> &TopicLimiter;
    /// A permit for one more client; `None` when the server is full.
    fn acquire_client(&self) -> Option<ClientPermit>;
    /// Counts an event.
    fn note(&self, event: HandshakeEvent);
}

/// An event to be counted.
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
    /// TLS failed.
    TlsFailed(TlsFailure),
    /// A connection was answered with a plain response.
    Responded(StatusCode),
    /// A connection was closed in favour of a new one, because there were as many as allowed.
    Displaced,
    /// A connection was closed in favour of a new one of its address, or was that new one, because the address had as
    /// many as allowed.
    AddressDisplaced,
    /// An upgrade was rejected because of the limits of its address.
    AddressRefused(AddressRefusal),
    /// A trusted proxy did not begin a connection with a header of the PROXY protocol.
    NoProxyHeader,
    /// An upgrade was rejected because there are as many topics as allowed.
    TopicsFull,
    /// An upgrade was rejected because the server is full.
    Full,
    /// An upgrade was rejected because users must sign in, and it has no token.
    SignInRequired,
    /// An upgrade was rejected because of its token, because it has none, or because of a ban.
    Unauthorized(AuthorizationRefusal),
}

/// Why a client may not connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthorizationRefusal {
    /// A check of its token has failed.
    BadToken(TokenError),
    /// Its account, or without a token its address, is banned.
    Banned,
    /// It has no right to connect to this endpoint.
    Forbidden,
}

/// The limits of connections before they are upgraded.
#[derive(Clone, Copy, Debug)]
pub struct HandshakeLimits {
    /// How long a connection has from being accepted to the end of its request head, TLS included.
    pub timeout: Duration,
    /// The longest request head, in bytes.
    pub head_bytes_max: usize,
    /// The most pending connections. A silent one costs a descriptor and about 3 KiB until the timeout. When there
    /// are so many, a new connection replaces the oldest silent one.
    pub connections_max: usize,
}
