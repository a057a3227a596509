//! Accepts connections, and keeps each in a task until it leaves.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

use tokio::sync::watch;
use tokio::time::Instant;
use tokio_uring::net::{TcpListener, TcpStream};
use uproar_websocket::AcceptFailures;

use super::connection::PendingConnection;
use super::hand_over::HandOver;
use super::intake::{Intake, IntakeWatch};
use super::operator_log::{log_crowded_address, log_too_many_handshakes};
use super::pending::PendingConnections;
use super::request::Requests;
use super::services::{HandshakeEvent, HandshakeLimits, HandshakeServices};

/// An acceptor: one thread's part of all handshakes.
pub struct Acceptor {
    services: Rc<dyn HandshakeServices>,
    intake: IntakeWatch,
    connections_max: usize,
    pending: Rc<PendingConnections>,
    requests: Requests,
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
        let intake = IntakeWatch::new(intake);
        Self {
            requests: Requests::new(Rc::clone(&services), hand_over, intake.clone(), limits),
            services,
            intake,
            connections_max: limits.connections_max,
            pending: Rc::default(),
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
        let intake = acceptor.intake.clone();
        tokio_uring::spawn(async move {
            // All tasks that hand over are on this thread, and look at the intake in the same step: from here on they
            // see what this one has seen. It fails when the server is gone, and then nobody waits to be told.
            if intake.draining().await {
                drained();
            }
        });
        let mut failures = AcceptFailures::default();
        loop {
            // Beyond as many as may be in a handshake, newcomers wait in the backlog. Until then the page and the state
            // of the server are told, however late its shards are.
            acceptor
                .intake
                .unless_closed(acceptor.requests.fewer_waiting_than(acceptor.connections_max))
                .await;
            if acceptor.intake.is_closed() {
                return Ok(());
            }
            let accepted = listener.accept().await;
            if acceptor.intake.is_closed() {
                return Ok(());
            }
            match accepted {
                Ok((stream, peer)) => Rc::clone(&acceptor).welcome(stream, peer),
                Err(error) => {
                    acceptor.services.note(HandshakeEvent::AcceptFailed);
                    acceptor.intake.unless_closed(failures.wait_out(&error)).await;
                }
            }
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
        } else if self.pending.len() >= self.connections_max && self.pending.displace(None, now) {
            log_too_many_handshakes(self.connections_max);
            self.services.note(HandshakeEvent::Displaced);
        }
        let ticket = self.pending.enter(network, now);
        let displaced = ticket.displaced();
        let connection = PendingConnection::new(stream, ticket);
        tokio_uring::spawn(async move {
            tokio::select! {
                biased;
                () = self.requests.serve(connection, peer) => {}
                // With the rest of its task the connection is dropped, and that ends the connection.
                () = displaced.notified() => {}
            }
            drop(handshake);
            self.services.note(HandshakeEvent::Left);
        });
    }
}
