//! Accepts connections, and serves each in a task.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tokio_uring::net::{TcpListener, TcpStream};

use super::connection::PendingConnection;
use super::crowd::count_handshake;
use super::hand_over::HandOver;
use super::intake::{Intake, IntakeWatch};
use super::operator_log::{log_failed_accept, log_too_many_handshakes};
use super::pending::PendingConnections;
use super::request::Requests;
use super::services::{HandshakeEvent, HandshakeLimits, HandshakeServices};
use crate::address::ClientAddress;

/// The pause after a failed accept. The usual cause, too many open files, lasts longer, and 20 attempts a second cost
/// nothing.
const FAILURE_PAUSE: Duration = Duration::from_millis(50);

/// An acceptor: accepts connections and does their handshakes, on one thread.
pub struct Acceptor {
    services: Rc<dyn HandshakeServices>,
    intake: IntakeWatch,
    connections_max: usize,
    pending: Rc<PendingConnections>,
    requests: Requests,
}

impl Acceptor {
    /// An acceptor without connections, which serves until `intake` changes.
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
    /// `drained` is called once, after [`Intake::Draining`], when it has stopped handing connections over.
    ///
    /// An accept under way cannot be dropped: the connection that it may have accepted would leak. So after
    /// [`Intake::Closed`] the listener is shut down (shutdown(2)), which ends every accept.
    ///
    /// # Errors
    ///
    /// When the listener cannot be set to blocking, which the ring needs.
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
            // All tasks that hand over run on this thread, and check the intake in the same step, so none hands over
            // after this. It fails when the server has ended, and then nobody waits for it.
            if intake.draining().await {
                drained();
            }
        });
        loop {
            // When as many upgrades as there may be handshakes wait for a shard, new connections stay in the backlog.
            // Until then the page and the health checks are served, even if shards are late.
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
                    log_failed_accept(&error);
                    acceptor.intake.unless_closed(sleep(FAILURE_PAUSE)).await;
                }
            }
        }
    }

    /// Starts the task of a connection, and closes another one if there are too many.
    fn welcome(self: Rc<Self>, stream: TcpStream, peer: SocketAddr) {
        self.services.note(HandshakeEvent::Accepted);
        let peer = ClientAddress::from(peer);
        let Some(handshake) = count_handshake(&*self.services, &self.pending, peer.ip()) else {
            return self.services.note(HandshakeEvent::Left);
        };
        let now = Instant::now();
        if self.pending.len() >= self.connections_max && self.pending.displace(None, now) {
            log_too_many_handshakes(self.connections_max);
            self.services.note(HandshakeEvent::Displaced);
        }
        let network = self.services.addresses().counted(peer.ip());
        let ticket = self.pending.enter(network, now);
        let displaced = ticket.displaced();
        let connection = PendingConnection::new(stream, ticket);
        tokio_uring::spawn(async move {
            tokio::select! {
                biased;
                () = self.requests.serve(connection, peer) => {}
                // Dropping the task drops the connection, which closes it.
                () = displaced.notified() => {}
            }
            drop(handshake);
            self.services.note(HandshakeEvent::Left);
        });
    }
}
