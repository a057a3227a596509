//! Handshakes: everything that happens once for each connection, before it is a WebSocket.
//!
//! An [`Acceptor`] has a thread of its own, beside the shards. It accepts connections and keeps them until they leave,
//! each in a task of its own: it shakes hands where the server speaks TLS, reads the request head within its time, and
//! then either answers and ends the connection, or hands it to a shard as an [`Admission`]. What a request means is
//! decided in [`uproar_protocol`]; everything that the answer depends on comes from [`HandshakeServices`]. An acceptor
//! never speaks WebSocket, with one exception: clients that find the server full are told so here, because no shard has
//! a place for them.
//!
//! `connection` is a connection on its way through here, `pending` decides which one makes place when there are too
//! many, and `hand_over` to which shard one goes.

mod admission;
mod connection;
mod hand_over;
pub mod origin;
mod pending;
pub mod route;

use std::cell::Cell;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::log_limit::LogLimit;
use bytes::Bytes;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_uring::net::{TcpListener, TcpStream};
use uproar_protocol::frames::{self, MessageKind};
use uproar_protocol::head::{Head, ParseSchedule, parse_within};
use uproar_protocol::response::{Response, StatusCode};
use uproar_protocol::tls::{self, ServerConfig};
use uproar_websocket::AcceptFailures;

use crate::address::{AddressLimits, AddressRefusal};
use crate::metrics::{HandshakeKind, TlsFailure};
use crate::permit::ClientPermit;
pub use admission::Admission;
use connection::{FIRST_READ_BYTES, PendingConnection, ReadFailure};
use hand_over::Reservation;
pub use hand_over::{ADMISSIONS_MAX, Admissions, HandOver};
use origin::{OriginPolicy, OriginRefusal};
use pending::PendingConnections;
use route::{Endpoint, ORIGIN_QUESTION, Policy, Route, route};

/// The content type of Prometheus' text format.
const METRICS_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// How much of a field of a client's the log repeats: as much as a name may have.
const SHOWN_BYTES_MAX: usize = 253;

/// How long one turn of a shard may take until the server is not ready for more clients. The longest that clients can
/// cause take some 10 ms.
const READY_TURN_MAX: Duration = Duration::from_secs(2);

/// How long one turn of a shard may take until the server is better started again: no machine is so slow, so the shard
/// will not come back.
const HEALTHY_TURN_MAX: Duration = Duration::from_secs(30);

/// The answer when a shard takes longer.
const STALLED: &str = "shard stalled";

/// What acceptors are to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Intake {
    /// Serve.
    #[default]
    Open,
    /// Hand nothing over, and answer every request with 503 `draining`.
    Draining,
    /// Return.
    Closed,
}

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

/// An acceptor: one thread's part of all handshakes.
pub struct Acceptor {
    services: Rc<dyn HandshakeServices>,
    hand_over: HandOver,
    intake: watch::Receiver<Intake>,
    limits: HandshakeLimits,
    pending: Rc<PendingConnections>,
    waiting: WaitingConnections,
}

impl Acceptor {
    /// An acceptor without connections, which hands over this way and serves until `intake` says otherwise.
    #[must_use]
    pub fn new(
        services: Rc<dyn HandshakeServices>,
        hand_over: HandOver,
        intake: watch::Receiver<Intake>,
        limits: HandshakeLimits,
    ) -> Self {
        Self {
            services,
            hand_over,
            intake,
            limits,
            pending: Rc::default(),
            waiting: WaitingConnections::default(),
        }
    }

    /// Accepts connections until [`Intake::Closed`]. To be called on a tokio-uring runtime.
    ///
    /// `drained` is called once, behind [`Intake::Draining`], when nothing more is going to be handed over.
    ///
    /// An accept cannot be given up half way: a connection that it had taken already would be lost, and its descriptor
    /// with it. So the sender of [`Intake::Closed`] shuts the listener down afterwards (shutdown(2)), which ends every
    /// accept that is under way.
    ///
    /// # Errors
    ///
    /// When the listener cannot be set to blocking, which is what the ring needs.
    pub async fn serve(
        self,
        listener: std::net::TcpListener,
        drained: impl FnOnce() + 'static,
    ) -> io::Result<()> {
        // With O_NONBLOCK the ring would report EAGAIN instead of waiting for a connection.
        listener.set_nonblocking(false)?;
        let listener = TcpListener::from_std(listener);
        let acceptor = Rc::new(self);
        let mut intake = acceptor.intake.clone();
        tokio_uring::spawn(async move {
            // All tasks that hand over are on this thread, and look at the intake in the same step: from here on they
            // see what this one has seen. It fails when the server is gone, and then nobody waits to be told.
            if intake.wait_for(|intake| *intake >= Intake::Draining).await.is_ok() {
                drained();
            }
        });
        let mut failures = AcceptFailures::default();
        loop {
            // Beyond as many as may be in a handshake, newcomers wait in the backlog. Until then the page and the state
            // of the server are told, however late its shards are.
            acceptor.unless_closed(acceptor.waiting.fewer_than(acceptor.limits.connections_max)).await;
            if acceptor.is_closed() {
                return Ok(());
            }
            let accepted = listener.accept().await;
            if acceptor.is_closed() {
                return Ok(());
            }
            match accepted {
                Ok((stream, peer)) => Rc::clone(&acceptor).welcome(stream, peer),
                Err(error) => {
                    acceptor.services.note(HandshakeEvent::AcceptFailed);
                    acceptor.unless_closed(failures.wait_out(&error)).await;
                }
            }
        }
    }

    fn is_draining(&self) -> bool {
        *self.intake.borrow() >= Intake::Draining
    }

    /// True as well when the server is gone.
    fn is_closed(&self) -> bool {
        *self.intake.borrow() == Intake::Closed || self.intake.has_changed().is_err()
    }

    /// Waits for something, but not beyond [`Intake::Closed`].
    async fn unless_closed(&self, event: impl Future<Output = ()>) {
        let mut intake = self.intake.clone();
        tokio::select! {
            () = event => {}
            _ = intake.wait_for(|intake| *intake == Intake::Closed) => {}
        }
    }

    /// Gives a connection its task, and has another one make place for it where there are too many.
    fn welcome(self: Rc<Self>, stream: TcpStream, peer: SocketAddr) {
        self.services.note(HandshakeEvent::Accepted);
        let addresses = self.services.addresses();
        let network = addresses.counted(peer.ip());
        let now = Instant::now();
        let (handshake, is_within) = addresses.begin_handshake(peer.ip());
        if !is_within {
            log_crowded_address(network);
            self.services.note(HandshakeEvent::AddressDisplaced);
            // Where its others are all with other acceptors, the newcomer itself goes, by being dropped.
            if !self.pending.displace(network, now) {
                return self.services.note(HandshakeEvent::Left);
            }
        } else if self.pending.len() >= self.limits.connections_max && self.pending.displace(None, now) {
            log_too_many_handshakes(self.limits.connections_max);
            self.services.note(HandshakeEvent::Displaced);
        }
        let ticket = self.pending.enter(network, now);
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

    /// One connection, from being accepted to being answered or handed over.
    async fn receive(&self, mut connection: PendingConnection, peer: SocketAddr) {
        let deadline = Instant::now() + self.limits.timeout;
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
            let is_due = schedule.is_due(&received, self.limits.head_bytes_max);
            match if is_due { parse_within(&received, self.limits.head_bytes_max) } else { Ok(None) } {
                Ok(Some(head)) => {
                    let policy = Policy {
                        origins: self.services.origins(),
                        draining: self.is_draining(),
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
                            Response::new(StatusCode::OK, METRICS_TYPE, self.services.metrics_text().into())
                        }
                        Route::Health => {
                            let problem = self.health_problem();
                            return report(connection, problem, "ok", head.wants_body()).await;
                        }
                        Route::Readiness => {
                            let problem = self.readiness_problem();
                            return report(connection, problem, "ready", head.wants_body()).await;
                        }
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
            match connection.read(&mut received, self.limits.head_bytes_max, deadline).await {
                Err(ReadFailure::Expired) => {
                    let response = Response::of_status(StatusCode::REQUEST_TIMEOUT);
                    return self.respond(connection, &response, true).await;
                }
                Err(ReadFailure::Lost) => return,
                Err(failure) => return self.refuse_tls(connection, peer, failure).await,
                Ok(()) if received.len() > received_before => {}
                // The peer ended its side: between requests it just leaves, within one it gets told.
                Ok(()) if received.is_empty() => return connection.leave().await,
                Ok(()) => {
                    return self
                        .respond(connection, &Response::bad_request("Incomplete request"), true)
                        .await;
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

    /// Why the server is better started again.
    fn health_problem(&self) -> Option<&'static str> {
        (self.services.longest_turn() >= HEALTHY_TURN_MAX).then_some(STALLED)
    }

    /// Why the server is not to be sent clients.
    fn readiness_problem(&self) -> Option<&'static str> {
        if self.services.has_storage_failed() {
            return Some("storage failed");
        }
        (self.services.longest_turn() >= READY_TURN_MAX).then_some(STALLED)
    }

    /// Hands an upgrade to a shard, or says why not.
    async fn admit(
        &self,
        mut connection: PendingConnection,
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
        let Some(reservation) = self.reserve(&mut connection).await else {
            drop(permit);
            let refusal = Response::text(StatusCode::SERVICE_UNAVAILABLE, "draining");
            return self.respond(connection, &refusal, true).await;
        };
        match connection.release() {
            Ok((socket, tls)) => {
                reservation.hand_over(socket, Admission { peer, endpoint, response, received, tls, permit });
            }
            Err((connection, error)) => {
                tracing::warn!(%error, "a client has no descriptor; raise the descriptor limit");
                drop((permit, reservation));
                let refusal = Response::text(StatusCode::SERVICE_UNAVAILABLE, "Out of descriptors");
                self.respond(connection, &refusal, true).await;
            }
        }
    }

    /// Waits for a place with a shard. `None` when the server has begun to shut down.
    async fn reserve(&self, connection: &mut PendingConnection) -> Option<Reservation<'_>> {
        // It has a place among the clients, so it need not make place for one that has not.
        connection.withdraw();
        let _waiting = self.waiting.begin();
        let mut intake = self.intake.clone();
        let reservation = tokio::select! {
            biased;
            reservation = self.hand_over.reserve(connection.incoming_cpu()) => reservation,
            _ = intake.wait_for(|intake| *intake >= Intake::Draining) => None,
        };
        // The caller hands over without another wait: see `serve`.
        reservation.filter(|_| !self.is_draining())
    }

    /// Answers an upgrade of an address that has enough.
    async fn refuse_address(&self, connection: PendingConnection, address: IpAddr, refusal: AddressRefusal) {
        log_refused_address(address, refusal);
        self.services.note(HandshakeEvent::AddressRefused(refusal));
        let response = match refusal {
            AddressRefusal::Clients => {
                Response::text(StatusCode::TOO_MANY_REQUESTS, "Too many connections from your address")
            }
            AddressRefusal::Rate => Response::text(
                StatusCode::TOO_MANY_REQUESTS,
                "Too many upgrades from your address in a second",
            )
            .with_field("Retry-After", "1"),
        };
        connection.finish(response.encode(true, SystemTime::now())).await;
    }

    async fn respond(&self, connection: PendingConnection, response: &Response, with_body: bool) {
        self.services.note(HandshakeEvent::Responded(response.status()));
        connection.finish(response.encode(with_body, SystemTime::now())).await;
    }
}

/// The connections of an acceptor that wait for a shard to have room.
#[derive(Debug, Default)]
struct WaitingConnections {
    count: Cell<usize>,
    /// Told when there is one less.
    fewer: Notify,
}

impl WaitingConnections {
    fn begin(&self) -> WaitingConnection<'_> {
        self.count.set(self.count.get() + 1);
        WaitingConnection(self)
    }

    /// Waits until there are fewer.
    async fn fewer_than(&self, count: usize) {
        while self.count.get() >= count {
            self.fewer.notified().await;
        }
    }
}

/// One of them, until it is dropped.
struct WaitingConnection<'a>(&'a WaitingConnections);

impl Drop for WaitingConnection<'_> {
    fn drop(&mut self) {
        self.0.count.set(self.0.count.get() - 1);
        self.0.fewer.notify_one();
    }
}

/// Answers a question about the server's state. Nobody is refused by it, so it is not counted as a refusal.
async fn report(
    connection: PendingConnection,
    problem: Option<&'static str>,
    all_is_well: &'static str,
    with_body: bool,
) {
    let response = match problem {
        Some(problem) => Response::text(StatusCode::SERVICE_UNAVAILABLE, problem),
        None => Response::text(StatusCode::OK, all_is_well),
    };
    connection.finish(response.encode(with_body, SystemTime::now())).await;
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
