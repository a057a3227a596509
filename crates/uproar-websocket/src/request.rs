//! A request that waits for its answer: a page, a refusal, or the socket that it asks for.

use std::net::SocketAddr;
use std::rc::Rc;

use tokio::time::timeout;

use super::listen_options::ListenOptions;
use super::places::Place;
use super::socket::Socket;
use super::stream::Stream;
use super::upgrade::upgrade;
use uproar_protocol::head::{Head, parse};
use uproar_protocol::response::Response;

/// A client's request, and its connection.
///
/// A handler of [`serve`](super::serve) takes as long as it needs to decide on it, and what it finds out it keeps for
/// the socket. Nothing else limits the time that it takes. Dropping the request ends the connection without an
/// answer.
#[derive(Debug)]
pub struct Request {
    /// Invariant: what it has received begins with a whole head.
    stream: Stream,
    place: Rc<Place>,
}

impl Request {
    pub(super) fn new(stream: Stream, place: Rc<Place>) -> Self {
        Self { stream, place }
    }

    /// Its method, target and fields, at most 16 KiB. They are read out of the request each time, and gone once it
    /// is answered: a socket keeps the target alone.
    #[must_use]
    pub fn head(&self) -> Head<'_> {
        match parse(self.stream.received()) {
            Ok(Some(head)) => head,
            _ => unreachable!("Bug: a request without a whole head"),
        }
    }

    /// The address of the client.
    #[must_use]
    pub fn peer_address(&self) -> SocketAddr {
        self.stream.peer_address()
    }

    /// The version and the cipher suite of TLS, such as `TLSv1_3 TLS13_AES_256_GCM_SHA384`; `None` without TLS.
    #[must_use]
    pub fn tls(&self) -> Option<String> {
        self.stream.tls()
    }

    /// Makes a WebSocket of the connection, with [`ListenOptions::subprotocols`] and [`ListenOptions::socket`].
    /// `None` when the request does not ask for one as RFC 6455 demands: it has been answered so (400 or 426).
    pub async fn upgrade(self) -> Option<Socket> {
        let Self { stream, place } = self;
        let ListenOptions { subprotocols, socket, .. } = place.options();
        match upgrade(stream, subprotocols, socket) {
            Ok(socket) => {
                place.note_upgrade();
                Some(socket)
            }
            Err(refused) => {
                // Apart, so that those who are upgraded need no room for it.
                Box::pin(Self { stream: refused.stream, place }.respond(&refused.response)).await;
                None
            }
        }
    }

    /// Answers, and ends the connection when the client has the answer, for which it is given
    /// [`ListenOptions::handshake_timeout`]. To a `HEAD`, the body is left out.
    pub async fn respond(self, response: &Response) {
        let with_body = self.head().wants_body();
        let peer = self.peer_address();
        let responding = self.stream.respond(response, with_body);
        match timeout(self.place.options().handshake_timeout, responding).await {
            Ok(Ok(())) => {}
            Ok(Err(failure)) => tracing::debug!(%peer, %failure, "a response was not taken"),
            Err(_) => tracing::debug!(%peer, "taking a response took too long"),
        }
    }
}
