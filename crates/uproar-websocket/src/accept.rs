//! From a listener to the handler of requests: accepting, TLS, and the head of a request, in a task for each
//! connection, for which there has to be a [`Place`].

use std::cell::RefCell;
use std::future::Future;
use std::net::{Shutdown, SocketAddr, TcpListener as StdListener};
use std::rc::Rc;

use socket2::SockRef;
use tokio::sync::{Notify, OwnedSemaphorePermit};
use tokio::time::timeout;
use tokio_uring::net::{TcpListener, TcpStream};

use super::error::Failure;
use super::listen_options::ListenOptions;
use super::options::Options;
use super::places::{Place, Places};
use super::request::Request;
use super::stream::Stream;
use super::upgrade::{RequestError, receive_head};
use crate::AcceptFailures;
use uproar_protocol::response::Response;

/// What ends accepting.
#[derive(Debug)]
pub(super) struct Gate {
    /// Until accepting stops.
    listener: RefCell<Option<StdListener>>,
    /// Told when accepting stops.
    closing: Notify,
}

impl Gate {
    /// The gate of what a listener accepts, of which this is a clone.
    pub(super) fn new(listener: StdListener) -> Rc<Self> {
        Rc::new(Self { listener: RefCell::new(Some(listener)), closing: Notify::new() })
    }

    /// Stops accepting.
    pub(super) fn close(&self) {
        if let Some(listener) = self.listener.take() {
            // An accept that is under way holds the listener until a connection comes; this ends it.
            let _ = SockRef::from(&listener).shutdown(Shutdown::Both);
            self.closing.notify_waiters();
        }
    }

    fn is_closed(&self) -> bool {
        self.listener.borrow().is_none()
    }
}

/// Accepts connections until the gate is closed.
pub(super) async fn accept<H, F>(gate: Rc<Gate>, places: Rc<Places>, listener: TcpListener, handler: Rc<H>)
where
    H: Fn(Request) -> F + 'static,
    F: Future<Output = ()> + 'static,
{
    let mut failures = AcceptFailures::default();
    loop {
        let closing = gate.closing.notified();
        if gate.is_closed() {
            return;
        }
        let permit = tokio::select! {
            permit = places.reserve() => permit,
            () = closing => return,
        };
        // It is not given up half way: a connection that it had taken already would be lost. It ends when the
        // listener is shut down.
        let accepted = listener.accept().await;
        let closing = gate.closing.notified();
        if gate.is_closed() {
            return;
        }
        match accepted {
            Ok((tcp, peer)) => admit(&places, &handler, permit, tcp, peer),
            Err(error) => tokio::select! {
                () = failures.wait_out(&error) => {}
                () = closing => return,
            },
        }
    }
}

/// Gives a connection its place and its task.
fn admit<H, F>(
    places: &Rc<Places>,
    handler: &Rc<H>,
    permit: OwnedSemaphorePermit,
    tcp: TcpStream,
    mut peer: SocketAddr,
) where
    H: Fn(Request) -> F + 'static,
    F: Future<Output = ()> + 'static,
{
    // A socket of both families names IPv4 clients in IPv6 (RFC 4291, section 2.5.5.2).
    peer.set_ip(peer.ip().to_canonical());
    // It fails for one that has ended already.
    let Ok(stream) = Stream::plain(tcp, peer) else { return };
    // Until there is a socket, which has its own.
    let close_timeout = places.options.handshake_timeout;
    stream.link.set_options(&Options { close_timeout, ..Options::default() });
    let place = places.take(permit, &stream.link);
    tokio_uring::spawn(attend(place, stream, Rc::clone(handler)));
}

/// One connection.
async fn attend<H, F>(place: Rc<Place>, stream: Stream, handler: Rc<H>)
where
    H: Fn(Request) -> F,
    F: Future<Output = ()>,
{
    let (peer, options) = (stream.peer_address(), place.options());
    // What only the beginning needs is given back then: the task lives as long as the connection.
    let receiving = Box::pin(receive_request(options, stream));
    match timeout(options.handshake_timeout, receiving).await {
        Ok(Ok(Some(stream))) => handler(Request::new(stream, Rc::clone(&place))).await,
        Ok(Ok(None)) => {}
        Ok(Err(failure)) => tracing::debug!(%peer, %failure, "there was no request"),
        Err(_) => tracing::debug!(%peer, "the request took too long"),
    }
}

/// TLS, and the head of a request. `None` when it was no request, and has been answered so.
async fn receive_request(options: &ListenOptions, mut stream: Stream) -> Result<Option<Stream>, Failure> {
    if let Some(config) = &options.tls {
        if !stream.receive().await? {
            return Err(Failure::EndOfStream);
        }
        // The first record of TLS is a handshake (RFC 8446, section 5.1), and no request begins so.
        if stream.received().first() != Some(&22) {
            let response = Response::bad_request("This port speaks TLS: use wss:// or https://");
            stream.respond(&response, true).await?;
            return Ok(None);
        }
        stream.accept_tls(config).await?;
    }
    match receive_head(&mut stream).await {
        Ok(()) => Ok(Some(stream)),
        Err(RequestError::Failed(failure)) => Err(failure),
        Err(RequestError::Head(error)) => {
            stream.respond(&error.into(), true).await?;
            Ok(None)
        }
    }
}
