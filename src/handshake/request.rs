//! Serves one connection, until it is answered or handed over.

use std::net::IpAddr;
use std::rc::Rc;
use std::time::SystemTime;

use bytes::Bytes;
use tokio::time::Instant;
use uproar_protocol::head::{Head, ParseSchedule, parse_within};
use uproar_protocol::response::{Response, StatusCode};
use uproar_protocol::tls;

use super::admission::UpgradeRequest;
use super::answer::{about_origin, refuse_address, respond, state};
use super::connection::{FIRST_READ_BYTES, HeaderFailure, PendingConnection, ReadFailure};
use super::crowd::count_handshake;
use super::forwarded;
use super::hand_over::HandOver;
use super::intake::IntakeWatch;
use super::operator_log::{log_missing_proxy_header, log_refused_origin};
use super::query::UpgradeQuery;
use super::route::{ORIGIN_QUESTION, Route, RoutePolicy, route};
use super::services::{AuthorizationRefusal, HandshakeEvent, HandshakeLimits, HandshakeServices};
use super::token::{self, refuse_unauthorized};
use super::upgrade::Upgrades;
use crate::address::{AddressPermit, AddressRefusal, ClientAddress};
use crate::metrics::{HandshakeKind, TEXT_TYPE, TlsFailure};

/// The answer to a request.
enum Answer {
    /// Hand the connection to a shard.
    Upgrade(UpgradeRequest),
    /// Reject the upgrade because of the limits of its address.
    RejectAddress(IpAddr, AddressRefusal),
    /// Reject the upgrade because its address is banned.
    RejectBanned(IpAddr),
    /// Respond, and count the response by its status.
    Respond(Response),
    /// Respond with something that is counted otherwise, or not at all.
    RespondUncounted(Response),
}

/// The other end of a connection.
#[derive(Clone, Copy, Debug)]
struct Peer {
    /// Its address, or the one that it has told by the PROXY protocol.
    address: ClientAddress,
    /// True when it is a trusted proxy.
    is_proxy: bool,
}

/// Serves the requests of an acceptor's connections.
pub(super) struct Requests {
    services: Rc<dyn HandshakeServices>,
    intake: IntakeWatch,
    limits: HandshakeLimits,
    upgrades: Upgrades,
}

impl Requests {
    pub(super) fn new(
        services: Rc<dyn HandshakeServices>,
        hand_over: HandOver,
        intake: IntakeWatch,
        limits: HandshakeLimits,
    ) -> Self {
        let upgrades = Upgrades::new(Rc::clone(&services), hand_over, intake.clone());
        Self { services, intake, limits, upgrades }
    }

    /// Waits until fewer upgrades wait for a shard.
    pub(super) async fn fewer_waiting_than(&self, count: usize) {
        self.upgrades.fewer_waiting_than(count).await;
    }

    /// Serves a connection until it is answered or handed over.
    pub(super) async fn serve(&self, mut connection: PendingConnection, address: ClientAddress) {
        let deadline = Instant::now() + self.limits.timeout;
        let mut peer = Peer { address, is_proxy: self.services.proxies().trusts(address.ip()) };
        let mut _handshake = None;
        if peer.is_proxy && self.services.proxies().has_proxy_protocol {
            match connection.read_proxy_header(deadline).await {
                Ok(None) => {}
                Ok(Some(client)) => {
                    peer.address = client;
                    _handshake = self.count(&mut connection, client.ip());
                    if _handshake.is_none() {
                        return;
                    }
                }
                Err(HeaderFailure::NothingSent) => return,
                Err(HeaderFailure::Missing) => {
                    log_missing_proxy_header(address.ip());
                    return self.services.note(HandshakeEvent::NoProxyHeader);
                }
            }
        }
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
                    let (answer, with_body, head_bytes) =
                        (self.answer(&head, peer), head.wants_body(), head.bytes);
                    return match answer {
                        Answer::Upgrade(request) => {
                            let behind = Bytes::from(received).slice(head_bytes..);
                            self.upgrades.admit(connection, request, behind).await;
                        }
                        Answer::RejectAddress(address, refusal) => {
                            refuse_address(&*self.services, connection, address, refusal).await;
                        }
                        Answer::RejectBanned(address) => {
                            let refusal = AuthorizationRefusal::Banned;
                            refuse_unauthorized(&*self.services, connection, address, refusal).await;
                        }
                        Answer::Respond(response) => self.respond(connection, &response, with_body).await,
                        Answer::RespondUncounted(response) => {
                            connection.finish(response.encode(with_body, SystemTime::now())).await;
                        }
                    };
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
                // The peer ended its side: before a request it is just closed, within one it gets an answer.
                Ok(()) if received.is_empty() => return connection.leave().await,
                Ok(()) => {
                    let response = Response::bad_request("Incomplete request");
                    return self.respond(connection, &response, true).await;
                }
            }
        }
    }

    /// Counts a connection for the address that a proxy has told. `None` when it must go.
    fn count(&self, connection: &mut PendingConnection, address: IpAddr) -> Option<AddressPermit> {
        let ticket = connection.ticket_mut();
        let permit = count_handshake(&*self.services, ticket.pending(), address)?;
        ticket.count_for(self.services.addresses().counted(address));
        Some(permit)
    }

    /// Decides on the answer to a request, and logs and counts rejected ones.
    fn answer(&self, head: &Head<'_>, peer: Peer) -> Answer {
        let client = forwarded::client_address(head, peer.address, self.services.proxies());
        let mut query = UpgradeQuery::parse(head.query());
        query.token = token::of(head, query.token.take()).filter(|_| self.services.takes_tokens());
        let policy = RoutePolicy {
            origins: self.services.origins(),
            is_from_proxy: peer.is_proxy,
            dialects: self.services.dialects(),
            draining: self.intake.is_draining(),
            requires_sign_in: self.services.requires_sign_in() && query.token.is_none(),
            takes_tokens: self.services.takes_tokens(),
            has_metrics: self.services.has_public_metrics(),
        };
        match route(head, policy) {
            Route::Upgrade { endpoint, response } => {
                Answer::Upgrade(UpgradeRequest { endpoint, query, identity: None, peer: client, response })
            }
            Route::Page { origin } => {
                let page = self.services.page(head.authority().map(|authority| authority.text));
                Answer::Respond(match origin {
                    None => page,
                    Some(Ok(())) if self.services.is_banned(client.ip()) => {
                        page.with_field(ORIGIN_QUESTION, "banned")
                    }
                    Some(origin) => page.with_field(ORIGIN_QUESTION, about_origin(origin)),
                })
            }
            Route::Metrics => {
                let text = self.services.metrics_text();
                Answer::Respond(Response::new(StatusCode::OK, TEXT_TYPE, text.into()))
            }
            Route::Health => Answer::RespondUncounted(state(self.services.health().problem(), "ok")),
            Route::Readiness => {
                Answer::RespondUncounted(state(self.services.health().readiness_problem(), "ready"))
            }
            Route::Respond(response) => Answer::Respond(response),
            Route::OriginRefused(response, refusal) => {
                log_refused_origin(head, refusal);
                Answer::Respond(response)
            }
            // The limits of the address come first, and then its ban.
            Route::SignInRequired(response) => match self.services.addresses().upgrade(client.ip()) {
                Err(refusal) => Answer::RejectAddress(client.ip(), refusal),
                Ok(_) if self.services.is_banned(client.ip()) => Answer::RejectBanned(client.ip()),
                Ok(_) => {
                    self.services.note(HandshakeEvent::SignInRequired);
                    Answer::RespondUncounted(response)
                }
            },
        }
    }

    /// Ends a connection whose TLS has failed.
    async fn refuse_tls(&self, connection: PendingConnection, peer: Peer, failure: ReadFailure) {
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
                tracing::debug!(peer = %peer.address, "a client {error}");
                connection.see_off().await;
            }
            ReadFailure::Expired | ReadFailure::Lost => {}
        }
    }

    async fn respond(&self, connection: PendingConnection, response: &Response, with_body: bool) {
        respond(&*self.services, connection, response, with_body).await;
    }
}
