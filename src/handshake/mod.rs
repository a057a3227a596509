//! The lobby: everything that happens once per connection, before it is a WebSocket.
//!
//! It owns a listener and the connections accepted from it until they leave, each in a task of its own: accept, shake
//! hands where the server speaks TLS, read the request head within its time, then either answer and end the
//! connection, or hand it to the floor as an [`Admission`]. What a request means is decided in [`crate::protocol`];
//! everything that the answer depends on comes from [`HandshakeServices`]. The lobby never speaks WebSocket, with one
//! exception: whoever finds the server full is told so here, because the floor has no place for them.

mod connection;
mod pending;

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use tokio::time::Instant;
use tokio_uring::net::{TcpListener, TcpStream};

use crate::accept_failures::AcceptFailures;
use crate::address::{AddressLimits, AddressRefusal};
use crate::log_limit::LogLimit;
use crate::metrics::{HandshakeKind, TlsFailure};
use crate::permit::ClientPermit;
use crate::protocol::frames::{self, MessageKind};
use crate::protocol::head::{Head, ParseSchedule, parse_within};
use crate::protocol::origin::{OriginPolicy, OriginRefusal};
use crate::protocol::response::{Response, Status};
use crate::protocol::route::{Endpoint, ORIGIN_QUESTION, Policy, Route, route};
use crate::protocol::tls::{self, ServerConfig, TlsStream};
use connection::{FIRST_READ_BYTES, PendingConnection, ReadFailure};
use pending::PendingConnections;

/// The content type of Prometheus' text format.
const METRICS_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// How much of a field of a client's the log repeats: as much as a name may have.
const SHOWN_BYTES_MAX: usize = 253;

/// What the lobby needs from the rest of its shard.
pub trait HandshakeServices {
    /// True from the moment when the server begins to shut down.
    fn is_draining(&self) -> bool;
    /// How TLS is spoken; `None` where it is not. New connections get what it says at the time.
    fn tls(&self) -> Option<Arc<ServerConfig>>;
    /// Whose pages may connect.
    fn origins(&self) -> &OriginPolicy;
    /// True while messages are refused because they cannot be stored.
    fn has_storage_failed(&self) -> bool;
    /// Whether users must sign in; see [`Policy::requires_sign_in`].
    fn requires_sign_in(&self) -> bool;
    /// The web client, for a browser that calls this server by the name `host`, a port included.
    fn page(&self, host: Option<&str>) -> Response;
    /// The metrics, as Prometheus reads them.
    fn metrics_text(&self) -> String;
    /// What each address may have.
    fn addresses(&self) -> &AddressLimits;
    /// A place for one more client, if there is one.
    fn acquire_client(&self) -> Option<ClientPermit>;
    /// Takes over a connection whose upgrade has been accepted.
    fn admit(&self, admission: Admission);
    /// Counts something that happened.
    fn note(&self, event: HandshakeEvent);
}

/// Something to be counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandshakeEvent {
    /// A connection was accepted.
    Accepted,
    /// A connection left the lobby, whereto ever.
    Left,
    /// Accepting failed.
    AcceptFailed,
    /// A TLS handshake was completed.
    Secured(HandshakeKind),
    /// A connection got no further than TLS.
    TlsFailed(TlsFailure),
    /// A connection was answered with a plain response.
    Responded(Status),
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

/// A connection on its way from the lobby to the floor.
///
/// The 101 has not been sent. The floor sends it ahead of everything else once the connection is a
/// member, so that a client that sees it can count on being one.
#[derive(Debug)]
pub struct Admission {
    /// The connection; nobody else has its descriptor, and no operation on it is under way.
    pub socket: OwnedFd,
    /// Who is at the other end.
    pub peer: SocketAddr,
    /// What it wants to speak.
    pub endpoint: Endpoint,
    /// The 101, complete.
    pub response: Bytes,
    /// What was received behind the request head: the client's first frames, or a part of them.
    pub received: Bytes,
    /// Its TLS, where it has any, behind the handshake.
    pub tls: Option<Box<TlsStream>>,
    /// Its place among the clients.
    pub permit: ClientPermit,
}

/// A lobby, ready to be opened.
pub struct Acceptor {
    /// The rest of the shard.
    pub services: Rc<dyn HandshakeServices>,
    /// How long a connection has from being accepted to the end of its request head, TLS included.
    pub handshake_timeout: Duration,
    /// The longest request head, in bytes.
    pub head_bytes_max: usize,
    /// How many connections there may be in the lobby. A silent one costs a descriptor and about 3 KiB
    /// for the handshake timeout. When there are so many, a newcomer takes the place of the oldest silent one.
    pub connections_max: usize,
}

impl Acceptor {
    /// Accepts connections for as long as it is polled. To be called on a tokio-uring runtime.
    ///
    /// # Errors
    ///
    /// When the listener cannot be set to blocking, which is what the ring needs.
    pub async fn serve(self, listener: std::net::TcpListener) -> io::Result<Infallible> {
        // With O_NONBLOCK the ring would report EAGAIN instead of waiting for a connection.
        listener.set_nonblocking(false)?;
        let listener = TcpListener::from_std(listener);
        let pending = Rc::new(PendingConnections::default());
        let lobby = Rc::new(self);
        let mut failures = AcceptFailures::default();
        loop {
            match listener.accept().await {
                Ok((stream, peer)) => Rc::clone(&lobby).welcome(&pending, stream, peer),
                Err(error) => {
                    lobby.services.note(HandshakeEvent::AcceptFailed);
                    failures.wait_out(&error).await;
                }
            }
        }
    }

    /// Gives a connection its task, and has another one make place for it where there are too many.
    fn welcome(self: Rc<Self>, pending: &Rc<PendingConnections>, stream: TcpStream, peer: SocketAddr) {
        self.services.note(HandshakeEvent::Accepted);
        let addresses = self.services.addresses();
        let network = addresses.counted(peer.ip());
        let now = Instant::now();
        let (handshake, is_within) = addresses.begin_handshake(peer.ip());
        if !is_within {
            log_crowded_address(network);
            self.services.note(HandshakeEvent::AddressDisplaced);
            // Where its others are all with other shards, the newcomer itself goes, by being dropped.
            if !pending.displace(network, now) {
                return self.services.note(HandshakeEvent::Left);
            }
        } else if pending.len() >= self.connections_max && pending.displace(None, now) {
            log_too_many_handshakes(self.connections_max);
            self.services.note(HandshakeEvent::Displaced);
        }
        let ticket = pending.enter(network, now);
        let displaced = ticket.displaced();
        let connection = PendingConnection::new(stream, ticket);
        tokio_uring::spawn(async move {
            tokio::select! {
                biased;
                () = self.receive(connection, peer) => {}
                // With the rest of its task the connection is dropped, and that ends the connection.
                () = displaced.notified() => {}
            }
            drop(handshake);
            self.services.note(HandshakeEvent::Left);
        });
    }

    /// One connection's stay in the lobby.
    async fn receive(&self, mut connection: PendingConnection, peer: SocketAddr) {
        let deadline = Instant::now() + self.handshake_timeout;
        let mut received = Vec::with_capacity(FIRST_READ_BYTES);
        if let Some(config) = self.services.tls() {
            match connection.secure(&config, &mut received, deadline).await {
                Ok(true) => self.services.note(HandshakeEvent::Secured(HandshakeKind::Resumed)),
                Ok(false) => self.services.note(HandshakeEvent::Secured(HandshakeKind::Full)),
                Err(failure) => return self.refuse_tls(connection, peer, failure).await,
            }
        }
        let mut schedule = ParseSchedule::default();
        loop {
            let is_due = schedule.is_due(&received, self.head_bytes_max);
            match if is_due { parse_within(&received, self.head_bytes_max) } else { Ok(None) } {
                Ok(Some(head)) => {
                    let policy = Policy {
                        origins: self.services.origins(),
                        draining: self.services.is_draining(),
                        requires_sign_in: self.services.requires_sign_in(),
                    };
                    let response = match route(&head, policy) {
                        Route::Upgrade { endpoint, response } => {
                            let head_bytes = head.bytes;
                            let behind = Bytes::from(received).slice(head_bytes..);
                            return self.admit(connection, peer, endpoint, response, behind).await;
                        }
                        Route::Page { origin } => {
                            let page = self.services.page(head.authority().map(|authority| authority.text));
                            match origin {
                                None => page,
                                Some(origin) => page.with_field(ORIGIN_QUESTION, about_origin(origin)),
                            }
                        }
                        Route::Metrics => {
                            Response::new(Status::OK, METRICS_TYPE, self.services.metrics_text().into())
                        }
                        Route::Readiness if self.services.has_storage_failed() => {
                            let response = Response::text(Status::SERVICE_UNAVAILABLE, "storage failed");
                            // Nobody is refused by it, so it is not counted as a refusal.
                            return connection.finish(response.encode(head.wants_body(), SystemTime::now())).await;
                        }
                        Route::Readiness => Response::text(Status::OK, "ready"),
                        Route::Respond(response) => response,
                        Route::OriginRefused(response, refusal) => {
                            log_refused_origin(&head, refusal);
                            response
                        }
                        Route::SignInRequired(response) => {
                            // Too many upgrades come ahead of what one may not do with them.
                            if let Err(refusal) = self.services.addresses().upgrade(peer.ip()) {
                                return self.refuse_address(connection, peer.ip(), refusal).await;
                            }
                            self.services.note(HandshakeEvent::SignInRequired);
                            return connection.finish(response.encode(true, SystemTime::now())).await;
                        }
                    };
                    return self.respond(connection, &response, head.wants_body()).await;
                }
                Ok(None) => {}
                Err(error) => return self.respond(connection, &error.into(), true).await,
            }
            let received_before = received.len();
            match connection.read(&mut received, self.head_bytes_max, deadline).await {
                Err(ReadFailure::Expired) => {
                    let response = Response::text(Status::REQUEST_TIMEOUT, Status::REQUEST_TIMEOUT.reason());
                    return self.respond(connection, &response, true).await;
                }
                Err(ReadFailure::Lost) => return,
                Err(failure) => return self.refuse_tls(connection, peer, failure).await,
                Ok(()) if received.len() > received_before => {}
                // The peer ended its side: between requests it just leaves, within one it gets told.
                Ok(()) if received.is_empty() => return connection.leave().await,
                Ok(()) => {
                    return self.respond(connection, &Response::bad_request("Incomplete request"), true).await;
                }
            }
        }
    }

    /// Ends a connection that got no further than TLS.
    async fn refuse_tls(&self, connection: PendingConnection, peer: SocketAddr, failure: ReadFailure) {
        let reason = match &failure {
            ReadFailure::Expired => TlsFailure::Timeout,
            ReadFailure::Lost | ReadFailure::Tls(tls::Error::Truncated) => TlsFailure::Ended,
            ReadFailure::NotTls => TlsFailure::NotTls,
            ReadFailure::Tls(tls::Error::Alert(_)) => TlsFailure::Alert,
            ReadFailure::Tls(_) => TlsFailure::Violation,
        };
        self.services.note(HandshakeEvent::TlsFailed(reason));
        match failure {
            ReadFailure::NotTls => {
                let hint = "This port speaks TLS: use https:// or wss://";
                self.respond(connection, &Response::bad_request(hint), true).await;
            }
            ReadFailure::Tls(error) => {
                tracing::debug!(%peer, "a client {error}");
                connection.see_off().await;
            }
            ReadFailure::Expired | ReadFailure::Lost => {}
        }
    }

    /// Hands an upgrade to the floor, or says why not.
    async fn admit(
        &self,
        connection: PendingConnection,
        peer: SocketAddr,
        endpoint: Endpoint,
        response: Bytes,
        received: Bytes,
    ) {
        let address = match self.services.addresses().upgrade(peer.ip()) {
            Ok(address) => address,
            Err(refusal) => return self.refuse_address(connection, peer.ip(), refusal).await,
        };
        let Some(permit) = self.services.acquire_client() else {
            self.services.note(HandshakeEvent::Full);
            return connection.finish(server_is_full(&response)).await;
        };
        let permit = permit.counted_by(address);
        match connection.release() {
            Ok((socket, tls)) => {
                self.services.admit(Admission { socket, peer, endpoint, response, received, tls, permit });
            }
            Err((connection, error)) => {
                tracing::warn!(%error, "a client has no descriptor; raise the descriptor limit");
                drop(permit);
                let refusal = Response::text(Status::SERVICE_UNAVAILABLE, "Out of descriptors");
                self.respond(connection, &refusal, true).await;
            }
        }
    }

    /// Answers an upgrade of an address that has enough.
    async fn refuse_address(&self, connection: PendingConnection, address: IpAddr, refusal: AddressRefusal) {
        log_refused_address(address, refusal);
        self.services.note(HandshakeEvent::AddressRefused(refusal));
        let response = match refusal {
            AddressRefusal::Clients => {
                Response::text(Status::TOO_MANY_REQUESTS, "Too many connections from your address")
            }
            AddressRefusal::Rate => {
                Response::text(Status::TOO_MANY_REQUESTS, "Too many upgrades from your address in a second")
                    .with_field("Retry-After", "1")
            }
        };
        connection.finish(response.encode(true, SystemTime::now())).await;
    }

    async fn respond(&self, connection: PendingConnection, response: &Response, with_body: bool) {
        self.services.note(HandshakeEvent::Responded(response.status()));
        connection.finish(response.encode(with_body, SystemTime::now())).await;
    }
}

/// The answer to [`ORIGIN_QUESTION`].
fn about_origin(origin: Result<(), OriginRefusal>) -> &'static str {
    match origin {
        Ok(()) => "allowed",
        Err(OriginRefusal::OtherOrigin) => "other-origin",
        Err(OriginRefusal::UnknownHost) => "unknown-host",
    }
}

/// Tells the operator of a page that could not connect, which is mostly due to a proxy that replaces `Host`.
fn log_refused_origin(head: &Head<'_>, refusal: OriginRefusal) {
    static LINES: LogLimit = LogLimit::new();
    let Some(left_out) = LINES.allow() else { return };
    let origins: Vec<&[u8]> = head.values("origin").collect();
    let origin = escaped(&origins.join(&b", "[..]));
    let host = head.authority().map(|authority| escaped(authority.text.as_bytes())).unwrap_or_default();
    match refusal {
        OriginRefusal::OtherOrigin => tracing::warn!(
            origin,
            host,
            left_out,
            "an upgrade was refused because its origin is not that of its Host; --allow-origin lets other origins in, \
             and a proxy should pass Host on"
        ),
        OriginRefusal::UnknownHost => tracing::warn!(
            origin,
            host,
            left_out,
            "an upgrade was refused because this server listens on loopback, and its Host is another name; \
             --allow-host lets it in"
        ),
    }
}

/// Tells the operator of an address that was refused an upgrade.
fn log_refused_address(address: IpAddr, refusal: AddressRefusal) {
    static CLIENTS: LogLimit = LogLimit::new();
    static RATE: LogLimit = LogLimit::new();
    let address = address.to_canonical();
    match refusal {
        AddressRefusal::Clients => {
            if let Some(left_out) = CLIENTS.allow() {
                tracing::info!(
                    %address, left_out,
                    "an upgrade was refused because its address has as many clients as --max-clients-per-address allows"
                );
            }
        }
        AddressRefusal::Rate => {
            if let Some(left_out) = RATE.allow() {
                tracing::info!(
                    %address, left_out,
                    "an upgrade was refused because its address upgrades more often than --connect-rate-per-address allows"
                );
            }
        }
    }
}

/// Tells the operator of an address with too many connections that want nothing.
fn log_crowded_address(network: Option<IpAddr>) {
    static LINES: LogLimit = LogLimit::new();
    if let (Some(address), Some(left_out)) = (network, LINES.allow()) {
        tracing::warn!(
            %address, left_out,
            "an address has too many connections without an upgrade or an answer; its oldest ones are closed"
        );
    }
}

/// Tells the operator that there are too many connections that want nothing.
fn log_too_many_handshakes(connections_max: usize) {
    static LINES: LogLimit = LogLimit::new();
    if let Some(left_out) = LINES.allow() {
        tracing::warn!(
            connections_max,
            left_out,
            "too many connections without an upgrade or an answer; the oldest ones are closed"
        );
    }
}

/// What a client has sent, cut, and without what could disturb a terminal. As a field of a log line it is quoted, so it
/// cannot look like another field.
fn escaped(sent: &[u8]) -> String {
    sent[..sent.len().min(SHOWN_BYTES_MAX)].escape_ascii().to_string()
}

/// The whole conversation with a client for whom there is no place.
fn server_is_full(switching_protocols: &[u8]) -> Vec<u8> {
    let message = frames::message(MessageKind::Text, b"Server is full");
    [switching_protocols, &message, &frames::close(1013, "")].concat()
}
