//! The lobby: everything that happens once per connection, before it is a WebSocket.
//!
//! It owns a listener and the connections accepted from it until they leave, each in a task of its own:
//! accept, read the request head within its time, then either answer and end the connection, or hand it
//! to the floor as an [`Admission`]. What a request means is decided in [`crate::protocol`]; everything
//! that the answer depends on comes from [`LobbyServices`]. The lobby never speaks WebSocket, with one
//! exception: whoever finds the server full is told so here, because the floor has no place for them.
//!
//! One rule holds the reading and writing together. A tokio-uring operation whose future is dropped is
//! *not* cancelled: it keeps its buffer and the descriptor until the peer does something. So every
//! connection is a `Guest`, which shuts the socket down when it is dropped, and with that ends
//! whatever operation a deadline has left behind.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::{Shutdown, SocketAddr};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep, timeout_at};
use tokio_uring::buf::BoundedBuf;
use tokio_uring::net::{TcpListener, TcpStream};

use crate::permit::ClientPermit;
use crate::protocol::frames::{self, MessageKind};
use crate::protocol::head::{HEAD_BYTES_MAX, parse};
use crate::protocol::response::{Response, Status};
use crate::protocol::route::{Endpoint, Policy, Route, route};
use crate::ring;

/// What a connection's first read may hold. Programs send heads of 200 bytes, browsers of 500 to 900;
/// a larger one makes the buffer grow up to [`HEAD_BYTES_MAX`].
const FIRST_READ_BYTES: usize = 1024;

/// How long sending an answer may take: as long as a phone on a poor line needs for the page.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(10);

/// How long a peer that has been answered may take to end the connection.
const LINGER_TIME_MAX: Duration = Duration::from_secs(2);

/// How much of what such a peer still sends is read and thrown away.
const LINGER_BYTES_MAX: usize = 64 * 1024;

/// How long accepting pauses after it has failed. What it fails for, mostly a lack of descriptors, does
/// not pass sooner, and 20 attempts a second cost nothing.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The shortest time between two log lines about failed accepts.
const ACCEPT_LOG_INTERVAL: Duration = Duration::from_secs(1);

/// What the lobby needs from the rest of its shard.
pub trait LobbyServices {
    /// True from the moment when the server begins to shut down.
    fn is_draining(&self) -> bool;
    /// Origins whose pages may connect; see [`Policy::allowed_origins`].
    fn allowed_origins(&self) -> &[String];
    /// Whether users must sign in; see [`Policy::requires_sign_in`].
    fn requires_sign_in(&self) -> bool;
    /// The web client, for a browser that calls this server by the name `host`.
    fn page(&self, host: Option<&str>) -> Response;
    /// The metrics, as Prometheus reads them.
    fn metrics_text(&self) -> String;
    /// A place for one more client, if there is one.
    fn acquire_client(&self) -> Option<ClientPermit>;
    /// Takes over a connection whose upgrade has been accepted.
    fn admit(&self, admission: Admission);
    /// Counts something that happened.
    fn note(&self, event: LobbyEvent);
}

/// Something to be counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LobbyEvent {
    /// A connection was accepted.
    Accepted,
    /// A connection left the lobby, whereto ever.
    Left,
    /// Accepting failed.
    AcceptFailed,
    /// A connection was answered with a plain response.
    Responded(Status),
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
    /// Its place among the clients.
    pub permit: ClientPermit,
}

/// A lobby, ready to be opened.
pub struct Lobby {
    /// The rest of the shard.
    pub services: Rc<dyn LobbyServices>,
    /// How long a connection has from being accepted to the end of its request head.
    pub handshake_timeout: Duration,
    /// How many connections there may be in the lobby. A silent one costs a descriptor and about 3 KiB
    /// for the handshake timeout. When all places are taken, further connections wait in the backlog.
    pub connections_max: usize,
}

impl Lobby {
    /// Accepts connections for as long as it is polled. To be called on a tokio-uring runtime.
    ///
    /// # Errors
    ///
    /// When the listener cannot be set to blocking, which is what the ring needs.
    pub async fn serve(self, listener: std::net::TcpListener) -> io::Result<Infallible> {
        // With O_NONBLOCK the ring would report EAGAIN instead of waiting for a connection.
        listener.set_nonblocking(false)?;
        let listener = TcpListener::from_std(listener);
        let places = Arc::new(Semaphore::new(self.connections_max));
        let lobby = Rc::new(self);
        let mut failures = AcceptFailures::default();
        loop {
            let place = Arc::clone(&places).acquire_owned().await.expect("Bug: the semaphore was closed");
            match listener.accept().await {
                Ok((stream, peer)) => {
                    lobby.services.note(LobbyEvent::Accepted);
                    let lobby = Rc::clone(&lobby);
                    tokio_uring::spawn(async move {
                        lobby.receive(Guest::new(stream), peer, place).await;
                        lobby.services.note(LobbyEvent::Left);
                    });
                }
                Err(error) => {
                    lobby.services.note(LobbyEvent::AcceptFailed);
                    failures.log(&error);
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// One connection's stay in the lobby.
    async fn receive(&self, guest: Guest, peer: SocketAddr, _place: OwnedSemaphorePermit) {
        let deadline = Instant::now() + self.handshake_timeout;
        let mut received = Vec::with_capacity(FIRST_READ_BYTES);
        loop {
            match parse(&received) {
                Ok(Some(head)) => {
                    let policy = Policy {
                        allowed_origins: self.services.allowed_origins(),
                        draining: self.services.is_draining(),
                        requires_sign_in: self.services.requires_sign_in(),
                    };
                    let response = match route(&head, policy) {
                        Route::Upgrade { endpoint, response } => {
                            let head_bytes = head.bytes;
                            let behind = Bytes::from(received).slice(head_bytes..);
                            return self.admit(guest, peer, endpoint, response, behind).await;
                        }
                        Route::Page => self.services.page(head.only_value("host")),
                        Route::Metrics => Response::metrics(self.services.metrics_text()),
                        Route::Respond(response) => response,
                        Route::SignInRequired(response) => {
                            self.services.note(LobbyEvent::SignInRequired);
                            return guest.finish(response.encode(true)).await;
                        }
                    };
                    return self.respond(guest, &response, head.wants_body()).await;
                }
                Ok(None) => {}
                Err(error) => return self.respond(guest, &error.into(), true).await,
            }
            if received.len() == received.capacity() {
                received.reserve_exact(received.len().min(HEAD_BYTES_MAX - received.len()));
            }
            let received_before = received.len();
            received = match guest.read(received, deadline).await {
                Err(Expired) => {
                    let response = Response::text(Status::RequestTimeout, Status::RequestTimeout.reason());
                    return self.respond(guest, &response, true).await;
                }
                Ok(Err(_)) => return,
                Ok(Ok(received)) if received.len() > received_before => received,
                // The peer ended its side: between requests it just leaves, within one it gets told.
                Ok(Ok(received)) if received.is_empty() => return,
                Ok(Ok(_)) => {
                    return self.respond(guest, &Response::bad_request("Incomplete request"), true).await;
                }
            };
        }
    }

    /// Hands an upgrade to the floor, or says why not.
    async fn admit(
        &self,
        guest: Guest,
        peer: SocketAddr,
        endpoint: Endpoint,
        response: Bytes,
        received: Bytes,
    ) {
        let Some(permit) = self.services.acquire_client() else {
            self.services.note(LobbyEvent::Full);
            return guest.finish(server_is_full(&response)).await;
        };
        match guest.release() {
            Ok(socket) => {
                self.services.admit(Admission { socket, peer, endpoint, response, received, permit });
            }
            Err((guest, error)) => {
                tracing::warn!(%error, "a client has no descriptor; raise the descriptor limit");
                drop(permit);
                let refusal = Response::text(Status::ServiceUnavailable, "Out of descriptors");
                self.respond(guest, &refusal, true).await;
            }
        }
    }

    async fn respond(&self, guest: Guest, response: &Response, with_body: bool) {
        self.services.note(LobbyEvent::Responded(response.status()));
        guest.finish(response.encode(with_body)).await;
    }
}

/// The whole conversation with a client for whom there is no place.
fn server_is_full(switching_protocols: &[u8]) -> Vec<u8> {
    let message = frames::message(MessageKind::Text, b"Server is full");
    [switching_protocols, &message, &frames::close(1013, "")].concat()
}

/// A deadline has passed.
#[derive(Debug)]
struct Expired;

/// A connection while it is in the lobby.
struct Guest {
    stream: TcpStream,
    /// True once the socket belongs to the floor, and is no longer ours to shut down.
    is_released: bool,
}

impl Guest {
    fn new(stream: TcpStream) -> Self {
        Self { stream, is_released: false }
    }

    /// Reads behind what `buffer` holds, as much as its capacity has room for. At the end of the stream
    /// the buffer comes back as it was.
    async fn read(&self, buffer: Vec<u8>, deadline: Instant) -> Result<io::Result<Vec<u8>>, Expired> {
        let filled = buffer.len();
        assert!(filled < buffer.capacity(), "Bug: no room to read into");
        let (result, slice) = within(deadline, self.stream.read(buffer.slice(filled..))).await?;
        Ok(result.map(|_| slice.into_inner()))
    }

    /// Sends the last that this connection will hear and sees it off.
    ///
    /// A socket that is closed with unread data makes the kernel send a reset, and a reset makes the
    /// peer's kernel throw away what it has received from us. So our side ends first, and what the peer
    /// still sends is read until it ends too (RFC 9112, 9.6), within limits.
    async fn finish(self, bytes: Vec<u8>) {
        let write_deadline = Instant::now() + ANSWER_TIME_MAX;
        let Ok((Ok(()), _)) = within(write_deadline, self.stream.write_all(bytes)).await else { return };
        if self.stream.shutdown(Shutdown::Write).is_err() {
            return;
        }
        let deadline = Instant::now() + LINGER_TIME_MAX;
        let mut discarded_bytes = 0;
        let mut buffer = Vec::with_capacity(FIRST_READ_BYTES);
        while discarded_bytes < LINGER_BYTES_MAX {
            buffer.clear();
            match self.read(buffer, deadline).await {
                Ok(Ok(filled)) if !filled.is_empty() => buffer = filled,
                _ => return,
            }
            discarded_bytes += buffer.len();
        }
    }

    /// Gives the socket away. Nothing is under way on it: each read that was begun was waited for.
    fn release(mut self) -> Result<OwnedFd, (Self, io::Error)> {
        match ring::duplicate(&self.stream) {
            Ok(socket) => {
                self.is_released = true;
                Ok(socket)
            }
            Err(error) => Err((self, error)),
        }
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        if !self.is_released {
            // It fails only when the connection has ended already, and with it all operations.
            let _ = self.stream.shutdown(Shutdown::Both);
        }
    }
}

async fn within<F: Future>(deadline: Instant, operation: F) -> Result<F::Output, Expired> {
    timeout_at(deadline, operation).await.map_err(|_| Expired)
}

/// Keeps a lasting failure from filling the log.
#[derive(Default)]
struct AcceptFailures {
    unlogged: u64,
    logged_at: Option<Instant>,
}

impl AcceptFailures {
    fn log(&mut self, error: &io::Error) {
        self.unlogged += 1;
        let now = Instant::now();
        if self.logged_at.is_none_or(|at| now.duration_since(at) >= ACCEPT_LOG_INTERVAL) {
            tracing::warn!(%error, failures = self.unlogged, "connections cannot be accepted");
            *self = Self { unlogged: 0, logged_at: Some(now) };
        }
    }
}
