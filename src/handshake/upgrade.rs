//! Upgrades: the permit of a client, a slot in a shard's queue, and the hand-over.

use std::cell::Cell;
use std::rc::Rc;
use std::time::SystemTime;

use bytes::Bytes;
use tokio::sync::Notify;
use uproar_protocol::frames::{self, MessageKind};
use uproar_protocol::response::{Response, StatusCode};

use super::admission::{Admission, UpgradeRequest};
use super::answer::{refuse_address, respond};
use super::connection::PendingConnection;
use super::endpoint::Endpoint;
use super::hand_over::{HandOver, Reservation};
use super::intake::IntakeWatch;
use super::operator_log::log_too_many_topics;
use super::services::{HandshakeEvent, HandshakeServices};
use super::token::refuse_unauthorized;

/// The upgrades of an acceptor.
pub(super) struct Upgrades {
    services: Rc<dyn HandshakeServices>,
    hand_over: HandOver,
    intake: IntakeWatch,
    waiting: WaitingConnections,
}

impl Upgrades {
    pub(super) fn new(services: Rc<dyn HandshakeServices>, hand_over: HandOver, intake: IntakeWatch) -> Self {
        Self { services, hand_over, intake, waiting: WaitingConnections::default() }
    }

    /// Waits until fewer of them wait for a shard.
    pub(super) async fn fewer_waiting_than(&self, count: usize) {
        self.waiting.fewer_than(count).await;
    }

    /// Hands an upgrade to a shard, or rejects it.
    ///
    /// A rejected connection may linger. It counts neither for its address nor for its topic meanwhile.
    pub(super) async fn admit(
        &self,
        mut connection: PendingConnection,
        mut request: UpgradeRequest,
        received: Bytes,
    ) {
        let address = match self.services.addresses().upgrade(request.peer.ip()) {
            Ok(address) => address,
            Err(refusal) => {
                return refuse_address(&*self.services, connection, request.peer.ip(), refusal).await;
            }
        };
        let token = request.query.token.take();
        match self.services.authorize(&request.endpoint, token.as_deref(), request.peer.ip()) {
            Ok(identity) => request.identity = identity,
            Err(refusal) => {
                drop(address);
                let address = request.peer.ip();
                return refuse_unauthorized(&*self.services, connection, address, refusal).await;
            }
        }
        let topic = match &request.endpoint {
            Endpoint::Raw { topic } => match self.services.topics().enter(topic) {
                Some(permit) => Some(permit),
                None => {
                    drop(address);
                    log_too_many_topics();
                    self.services.note(HandshakeEvent::TopicsFull);
                    let refusal = Response::text(StatusCode::SERVICE_UNAVAILABLE, "Too many topics");
                    return connection.finish(refusal.encode(true, SystemTime::now())).await;
                }
            },
            Endpoint::Chat | Endpoint::Hub | Endpoint::Echo => None,
        };
        let Some(permit) = self.services.acquire_client() else {
            drop((address, topic));
            self.services.note(HandshakeEvent::Full);
            return connection.finish(server_is_full(&request.response)).await;
        };
        let permit = permit.counted_by(address).counted_on_topic(topic);
        let Some(reservation) = self.reserve(&mut connection).await else {
            drop(permit);
            let refusal = Response::text(StatusCode::SERVICE_UNAVAILABLE, "draining");
            return respond(&*self.services, connection, &refusal, true).await;
        };
        match connection.release() {
            Ok((socket, tls)) => {
                reservation.hand_over(socket, Admission { request, received, tls, permit });
            }
            Err((connection, error)) => {
                tracing::warn!(%error, "cannot hand a connection over: too many open files; raise the limit (ulimit -n)");
                drop((permit, reservation));
                let refusal = Response::text(StatusCode::SERVICE_UNAVAILABLE, "Out of descriptors");
                respond(&*self.services, connection, &refusal, true).await;
            }
        }
    }

    /// Waits for a slot in the queue of a shard. `None` when the server has begun to shut down.
    async fn reserve(&self, connection: &mut PendingConnection) -> Option<Reservation<'_>> {
        // It has a client's permit, so it is no longer closed in favour of a new connection.
        connection.withdraw();
        let _waiting = self.waiting.begin();
        let reservation = tokio::select! {
            biased;
            reservation = self.hand_over.reserve(connection.incoming_cpu()) => reservation,
            _ = self.intake.draining() => None,
        };
        // The caller hands over without another wait: see `Acceptor::serve`.
        reservation.filter(|_| !self.intake.is_draining())
    }
}

/// The connections of an acceptor that wait for a slot in the queue of a shard.
#[derive(Debug, Default)]
struct WaitingConnections {
    count: Cell<usize>,
    /// Notified when there is one less.
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

/// All that a client gets from a full server: 101, a message and a close.
fn server_is_full(switching_protocols: &[u8]) -> Vec<u8> {
    let message = frames::message(MessageKind::Text, b"Server is full");
    [switching_protocols, &message, &frames::close(1013, "")].concat()
}
