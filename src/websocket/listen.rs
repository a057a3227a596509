//! A server: a task for each connection, from accept to the end of its handler.

use std::cell::RefCell;
use std::fmt;
use std::future::Future;
use std::net::{Shutdown, SocketAddr, TcpListener as StdListener};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

use slab::Slab;
use socket2::SockRef;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_uring::net::{TcpListener, TcpStream};

use super::bind::bind;
use super::error::{Failure, ListenError};
use super::link::Link;
use super::message::Close;
use super::options::{OptionError, Options, check, check_count, check_subprotocols, check_time};
use super::request::Request;
use super::socket::Socket;
use super::stream::Stream;
use super::upgrade::receive_head;
use super::writer::Writer;
use crate::protocol::response::Response;
use crate::protocol::tls::ServerConfig;

/// How long accepting pauses after it has failed. What it fails for, mostly a lack of descriptors, does not
/// pass sooner.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How a server serves.
#[derive(Clone, Debug)]
pub struct ListenOptions {
    /// How many connections may wait in the kernel until they are accepted: 1,024. The kernel makes it smaller
    /// if `net.core.somaxconn` is.
    pub backlog: u32,
    /// Whether others may listen at the same address too, if they say so as well: the kernel then shares the
    /// connections out among them (`SO_REUSEPORT` of socket(7)). Not unless asked for, so that a second server
    /// on a port that is taken is told.
    pub reuse_port: bool,
    /// How many connections there may be, 10,000. Further ones wait in the backlog.
    pub connections_max: usize,
    /// How long a connection has from being accepted to the end of its request, and then to take a response that
    /// is no upgrade: 10 s.
    pub handshake_timeout: Duration,
    /// Certificate and key, to speak TLS and nothing else; see [`server_tls`](super::server_tls).
    pub tls: Option<Arc<ServerConfig>>,
    /// The subprotocols that the handler speaks, the best first.
    pub subprotocols: Vec<String>,
    /// How sockets behave.
    pub socket: Options,
}

impl Default for ListenOptions {
    fn default() -> Self {
        Self {
            backlog: 1024,
            reuse_port: false,
            connections_max: 10_000,
            handshake_timeout: Duration::from_secs(10),
            tls: None,
            subprotocols: Vec::new(),
            socket: Options::default(),
        }
    }
}

impl ListenOptions {
    fn check(&self) -> Result<(), OptionError> {
        check("backlog", self.backlog, self.backlog > 0, "at least 1")?;
        check_count("connections_max", self.connections_max)?;
        check_time("handshake_timeout", self.handshake_timeout)?;
        check_subprotocols(&self.subprotocols)?;
        self.socket.check()
    }
}

/// What becomes of open sockets when a server closes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenSockets {
    /// Their handlers go on until they end by themselves.
    Finish,
    /// They are sent a close with 1001, which their handlers see answered. Who has not upgraded yet is cut off.
    Close,
}

/// A server at work. Dropping it stops accepting, as [`Server::close`] does, and leaves open sockets alone.
#[derive(Debug)]
pub struct Server {
    local_addr: SocketAddr,
    shared: Rc<Shared>,
    accepting: JoinHandle<()>,
}

struct Shared {
    /// Until accepting stops.
    listener: RefCell<Option<StdListener>>,
    options: ListenOptions,
    /// Told when accepting stops.
    closing: Notify,
    open: RefCell<Slab<Open>>,
    /// Told when a place is free again.
    vacated: Notify,
}

impl fmt::Debug for Shared {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Shared").field("open", &self.open.borrow().len()).finish_non_exhaustive()
    }
}

/// A connection.
struct Open {
    link: Weak<Link>,
    /// True once the opening handshake is over.
    is_upgraded: bool,
}

/// A connection's place among those that there may be. It is free again when both the connection has ended and
/// its handler has returned, whichever is last.
pub(super) struct Place {
    shared: Rc<Shared>,
    index: usize,
    _permit: OwnedSemaphorePermit,
}

impl Place {
    pub(super) fn options(&self) -> &ListenOptions {
        &self.shared.options
    }

    /// Notes that the connection is a WebSocket now.
    pub(super) fn note_upgrade(&self) {
        self.shared.open.borrow_mut()[self.index].is_upgraded = true;
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Place").field("index", &self.index).finish_non_exhaustive()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.shared.open.borrow_mut().remove(self.index);
        self.shared.vacated.notify_waiters();
    }
}

/// Serves WebSockets at `address`, such as `127.0.0.1:8080`, `[::1]:8080`, `localhost:8080`, or `:8080` for all
/// addresses of this machine, IPv6 and IPv4; port 0 is any that is free. Of a name with several addresses, it is
/// the first one that this machine has. `handler` is called with each socket, and the connection ends when it
/// returns.
///
/// Every upgrade is accepted, whatever its path, and from whatever page a browser sends it; all other requests are
/// answered with 400 or 426. Who wants to look at requests first takes [`serve`].
///
/// To be called on a tokio-uring runtime, on whose thread everything stays. A program serves on several cores by
/// listening at the same address on several threads:
///
/// ```no_run
/// use uproar::websocket::{ListenError, ListenOptions, listen, start};
///
/// let serve = || {
///     start(async {
///         let options = ListenOptions { reuse_port: true, ..ListenOptions::default() };
///         let _server = listen("127.0.0.1:8080", options, |socket| async move { drop(socket) })?;
///         std::future::pending::<Result<(), ListenError>>().await
///     })
/// };
/// let threads: Vec<_> = (0..4).map(|_| std::thread::spawn(serve)).collect();
/// for thread in threads {
///     thread.join().expect("a handler's panic ends its connection alone")?;
/// }
/// # Ok::<(), ListenError>(())
/// ```
///
/// On one core:
///
/// ```
/// use uproar::websocket::{ListenOptions, OpenSockets, listen};
///
/// tokio_uring::start(async {
///     let server = listen("127.0.0.1:0", ListenOptions::default(), |mut socket| async move {
///         while let Ok(Some(message)) = socket.read().await {
///             if message.is_data() && socket.write(message).await.is_err() {
///                 break;
///             }
///         }
///     })?;
///     println!("ws://{}", server.local_addr());
///     server.close(OpenSockets::Close, std::time::Duration::from_secs(1)).await;
///     Ok::<(), uproar::websocket::ListenError>(())
/// })?;
/// # Ok::<(), uproar::websocket::ListenError>(())
/// ```
///
/// # Errors
///
/// A [`ListenError`].
///
/// # Panics
///
/// Outside of a tokio-uring runtime.
pub fn listen<H, F>(address: &str, options: ListenOptions, handler: H) -> Result<Server, ListenError>
where
    H: Fn(Socket) -> F + 'static,
    F: Future<Output = ()> + 'static,
{
    let handler = Rc::new(handler);
    serve(address, options, move |request| {
        let handler = Rc::clone(&handler);
        async move {
            if let Some(socket) = request.upgrade().await {
                handler(socket).await;
            }
        }
    })
}

/// Serves requests at `address`: as [`listen`], for those who decide on each [`Request`] what becomes of it. The
/// connection ends when `handler` returns.
///
/// A browser lets any page open a WebSocket to any server, and says in `Origin` which page it was (RFC 6455,
/// section 10.2): who knows its users by cookies must look at it.
///
/// ```
/// use uproar::websocket::{ListenOptions, Response, Socket, Status, serve};
///
/// /// Whose token this is, as some database knows.
/// async fn user_of(token: &str) -> Option<String> {
///     token.strip_prefix("Bearer ").map(str::to_owned)
/// }
///
/// async fn chat(user: String, socket: Socket) {
///     let _ = socket.write(format!("welcome, {user}")).await;
/// }
///
/// tokio_uring::start(async {
///     let server = serve("127.0.0.1:0", ListenOptions::default(), |request| async move {
///         let forbidden = Response::text(Status::Forbidden, "Forbidden");
///         let Some(token) = request.head().only_value("authorization").map(str::to_owned) else {
///             return request.respond(&forbidden).await;
///         };
///         let Some(user) = user_of(&token).await else {
///             println!("{} has the token of nobody", request.peer_address());
///             return request.respond(&forbidden).await;
///         };
///         if let Some(socket) = request.upgrade().await {
///             chat(user, socket).await;
///         }
///     })?;
///     println!("ws://{}", server.local_addr());
///     Ok::<(), uproar::websocket::ListenError>(())
/// })?;
/// # Ok::<(), uproar::websocket::ListenError>(())
/// ```
///
/// # Errors
///
/// A [`ListenError`].
///
/// # Panics
///
/// Outside of a tokio-uring runtime.
pub fn serve<H, F>(address: &str, options: ListenOptions, handler: H) -> Result<Server, ListenError>
where
    H: Fn(Request) -> F + 'static,
    F: Future<Output = ()> + 'static,
{
    options.check()?;
    let listener = bind(address, &options)?;
    let clone = |listener: &StdListener| Ok((listener.local_addr()?, listener.try_clone()?));
    let (local_addr, kept) =
        clone(&listener).map_err(|source| ListenError::Address { address: address.to_owned(), source })?;
    let shared = Rc::new(Shared {
        listener: RefCell::new(Some(kept)),
        options,
        closing: Notify::new(),
        open: RefCell::default(),
        vacated: Notify::new(),
    });
    let listener = TcpListener::from_std(listener);
    let accepting = tokio_uring::spawn(accept(Rc::clone(&shared), listener, Rc::new(handler)));
    Ok(Server { local_addr, shared, accepting })
}

async fn accept<H, F>(shared: Rc<Shared>, listener: TcpListener, handler: Rc<H>)
where
    H: Fn(Request) -> F + 'static,
    F: Future<Output = ()> + 'static,
{
    let permits = Arc::new(Semaphore::new(shared.options.connections_max.min(Semaphore::MAX_PERMITS)));
    loop {
        let closing = shared.closing.notified();
        if shared.listener.borrow().is_none() {
            return;
        }
        let permit = tokio::select! {
            permit = Arc::clone(&permits).acquire_owned() => permit.expect("Bug: the semaphore was closed"),
            () = closing => return,
        };
        // It is not given up half way: a connection that it had taken already would be lost. It ends when the
        // listener is shut down.
        let accepted = listener.accept().await;
        let closing = shared.closing.notified();
        if shared.listener.borrow().is_none() {
            return;
        }
        match accepted {
            Ok((tcp, peer)) => admit(&shared, &handler, permit, tcp, peer),
            Err(error) => {
                tracing::warn!(%error, "connections cannot be accepted");
                tokio::select! {
                    () = sleep(ACCEPT_PAUSE) => {}
                    () = closing => return,
                }
            }
        }
    }
}

/// Gives a connection its place and its task.
fn admit<H, F>(
    shared: &Rc<Shared>,
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
    let open = Open { link: Rc::downgrade(&stream.link), is_upgraded: false };
    let index = shared.open.borrow_mut().insert(open);
    let place = Rc::new(Place { shared: Rc::clone(shared), index, _permit: permit });
    stream.link.keep(place.clone());
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
    if let Err(response) = receive_head(&mut stream).await? {
        stream.respond(&response, true).await?;
        return Ok(None);
    }
    Ok(Some(stream))
}

impl Server {
    /// The address, with the port that was found if none was asked for.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// How many connections there are.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.shared.open.borrow().len()
    }

    /// Stops accepting at once, and waits until all connections have ended and all handlers have returned, for at
    /// most `within`. Connections that are still there then are cut off. Yields how many those were.
    pub async fn close(mut self, open: OpenSockets, within: Duration) -> usize {
        self.stop_accepting();
        // It fails for an accepting task that has panicked, which accepts no more either.
        let _ = (&mut self.accepting).await;
        if open == OpenSockets::Close {
            let going_away = Close { code: 1001, reason: "server shutting down".to_owned() };
            for (link, is_upgraded) in self.links() {
                if is_upgraded {
                    // It fails for one that has closed or failed already.
                    let _ = Writer::new(link, &self.shared.options.socket).close(Some(&going_away));
                } else {
                    link.fail(Failure::Ended);
                }
            }
        }
        let all_ended = async {
            loop {
                let vacated = self.shared.vacated.notified();
                if self.connections() == 0 {
                    return;
                }
                vacated.await;
            }
        };
        if timeout(within, all_ended).await.is_ok() {
            return 0;
        }
        let count = self.connections();
        self.links().iter().for_each(|(link, _)| link.fail(Failure::Ended));
        count
    }

    /// All connections, and whether they have upgraded.
    fn links(&self) -> Vec<(Rc<Link>, bool)> {
        let open = self.shared.open.borrow();
        open.iter().filter_map(|(_, open)| Some((open.link.upgrade()?, open.is_upgraded))).collect()
    }

    fn stop_accepting(&self) {
        if let Some(listener) = self.shared.listener.take() {
            // An accept that is under way holds the listener until a connection comes; this ends it.
            let _ = SockRef::from(&listener).shutdown(Shutdown::Both);
            self.shared.closing.notify_waiters();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop_accepting();
    }
}
