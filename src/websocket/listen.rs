//! A server: a task for each connection, from accept to the end of its handler.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener as StdListener, ToSocketAddrs};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;
use slab::Slab;
use socket2::{Domain, Protocol, SockRef, Socket as RawSocket, Type};
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_uring::net::{TcpListener, TcpStream};

use super::error::{Failure, ListenError};
use super::link::Link;
use super::message::Close;
use super::options::{OptionError, Options, check, check_count, check_subprotocols, check_time};
use super::socket::Socket;
use super::stream::Stream;
use super::upgrade::{receive_head, upgrade};
use super::writer::Writer;
use crate::protocol::head::{Head, parse};
use crate::protocol::response::Response;
use crate::protocol::tls::ServerConfig;

/// How long accepting pauses after it has failed. What it fails for, mostly a lack of descriptors, does not
/// pass sooner.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What is to become of a request.
#[derive(Debug)]
pub enum Verdict {
    /// Make it a WebSocket.
    Upgrade,
    /// Answer with this, and end the connection: a refusal, or a page for a browser.
    Respond(Response),
}

/// Decides on requests.
pub type Gate = Rc<dyn Fn(&Head<'_>) -> Verdict>;

/// How a server serves.
#[derive(Clone)]
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
    /// How long a connection has from being accepted to the end of its request: 10 s.
    pub handshake_timeout: Duration,
    /// Certificate and key, to speak TLS and nothing else; see [`server_tls`](super::server_tls).
    pub tls: Option<Arc<ServerConfig>>,
    /// The subprotocols that the handler speaks, the best first.
    pub subprotocols: Vec<String>,
    /// How sockets behave.
    pub socket: Options,
    /// Asked about every request: see [`ListenOptions::with_gate`].
    pub gate: Gate,
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
            gate: Rc::new(|_| Verdict::Upgrade),
        }
    }
}

impl fmt::Debug for ListenOptions {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("ListenOptions")
            .field("backlog", &self.backlog)
            .field("reuse_port", &self.reuse_port)
            .field("connections_max", &self.connections_max)
            .field("handshake_timeout", &self.handshake_timeout)
            .field("tls", &self.tls.is_some())
            .field("subprotocols", &self.subprotocols)
            .field("socket", &self.socket)
            .finish_non_exhaustive()
    }
}

impl ListenOptions {
    /// Asks `gate` about every request, with its path, origin and fields. Without it, all upgrades are accepted
    /// and all other requests are answered with 426.
    #[must_use]
    pub fn with_gate(mut self, gate: impl Fn(&Head<'_>) -> Verdict + 'static) -> Self {
        self.gate = Rc::new(gate);
        self
    }

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
    /// They are sent a close with 1001, which their handlers see answered.
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
    listener: StdListener,
    options: ListenOptions,
    is_closing: Cell<bool>,
    /// Handlers at work.
    open: RefCell<Slab<Open>>,
    /// Told when a handler has ended.
    ended: Notify,
}

impl fmt::Debug for Shared {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Shared").field("open", &self.open.borrow().len()).finish_non_exhaustive()
    }
}

struct Open {
    link: Rc<Link>,
    /// Once the opening handshake is over.
    writer: Option<Writer>,
}

/// Serves WebSockets at `address`, such as `127.0.0.1:8080`, `[::1]:8080`, `localhost:8080`, or `:8080` for all
/// addresses of this machine, IPv6 and IPv4; port 0 is any that is free. Of a name with several addresses, it is
/// the first one that this machine has. `handler` is called with each socket, and the connection ends when it
/// returns.
///
/// To be called on a tokio-uring runtime, on whose thread everything stays. A program serves on several cores by
/// listening at the same address on several threads, each with [`ListenOptions::reuse_port`].
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
pub fn listen<H, F>(address: &str, options: ListenOptions, handler: H) -> Result<Server, ListenError>
where
    H: Fn(Socket) -> F + 'static,
    F: Future<Output = ()> + 'static,
{
    options.check()?;
    let listener = bind(address, &options)?;
    let clone = |listener: &StdListener| Ok((listener.local_addr()?, listener.try_clone()?));
    let (local_addr, kept) =
        clone(&listener).map_err(|source| ListenError::Address { address: address.to_owned(), source })?;
    let shared = Rc::new(Shared {
        listener: kept,
        options,
        is_closing: Cell::new(false),
        open: RefCell::default(),
        ended: Notify::new(),
    });
    let listener = TcpListener::from_std(listener);
    let accepting = tokio_uring::spawn(accept(Rc::clone(&shared), listener, Rc::new(handler)));
    Ok(Server { local_addr, shared, accepting })
}

fn bind(address: &str, options: &ListenOptions) -> Result<StdListener, ListenError> {
    let malformed = |source| ListenError::Address { address: address.to_owned(), source };
    let addresses: Vec<SocketAddr> = match address.strip_prefix(':') {
        Some(port) => {
            let port = port.parse().map_err(|_| malformed(io::ErrorKind::InvalidInput.into()))?;
            // One socket for both families, or IPv4 alone where there is no IPv6.
            vec![(Ipv6Addr::UNSPECIFIED, port).into(), (Ipv4Addr::UNSPECIFIED, port).into()]
        }
        None => address.to_socket_addrs().map_err(malformed)?.collect(),
    };
    let mut failure = malformed(io::ErrorKind::NotFound.into());
    for address in addresses {
        match bind_to(address, options) {
            Ok(listener) => return Ok(listener),
            Err(source) => {
                // An address that is taken is not made up for by another one.
                let errno = Errno::from_io_error(&source);
                let is_absent = matches!(errno, Some(Errno::ADDRNOTAVAIL | Errno::AFNOSUPPORT));
                failure = ListenError::Bind { address, source };
                if !is_absent {
                    break;
                }
            }
        }
    }
    Err(failure)
}

fn bind_to(address: SocketAddr, options: &ListenOptions) -> io::Result<StdListener> {
    let socket = RawSocket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // Connections of a server that has gone may still be in TIME-WAIT; they are no reason to wait (socket(7)).
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(options.reuse_port)?;
    if let SocketAddr::V6(address) = address {
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    socket.bind(&address.into())?;
    socket.listen(i32::try_from(options.backlog).unwrap_or(i32::MAX))?;
    Ok(socket.into())
}

async fn accept<H, F>(shared: Rc<Shared>, listener: TcpListener, handler: Rc<H>)
where
    H: Fn(Socket) -> F + 'static,
    F: Future<Output = ()> + 'static,
{
    let places = Arc::new(Semaphore::new(shared.options.connections_max.min(Semaphore::MAX_PERMITS)));
    while !shared.is_closing.get() {
        let place = Arc::clone(&places).acquire_owned().await.expect("Bug: the semaphore was closed");
        match listener.accept().await {
            Ok((tcp, mut peer)) => {
                // A socket of both families names IPv4 clients in IPv6 (RFC 4291, section 2.5.5.2).
                peer.set_ip(peer.ip().to_canonical());
                let (shared, handler) = (Rc::clone(&shared), Rc::clone(&handler));
                tokio_uring::spawn(async move {
                    serve(&shared, tcp, peer, &*handler).await;
                    drop(place);
                });
            }
            Err(error) => {
                if shared.is_closing.get() {
                    return;
                }
                tracing::warn!(%error, "connections cannot be accepted");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// One connection.
async fn serve<H, F>(shared: &Shared, tcp: TcpStream, peer: SocketAddr, handler: &H)
where
    H: Fn(Socket) -> F,
    F: Future<Output = ()>,
{
    let Ok(stream) = Stream::plain(tcp, peer) else { return };
    let index = shared.open.borrow_mut().insert(Open { link: Rc::clone(&stream.link), writer: None });
    // However this ends, and be it by a handler that panics.
    let _ended = Ended { shared, index };
    match timeout(shared.options.handshake_timeout, open(&shared.options, stream)).await {
        Ok(Ok(Some(socket))) => {
            shared.open.borrow_mut()[index].writer = Some(socket.writer());
            handler(socket).await;
        }
        Ok(Ok(None)) => {}
        Ok(Err(failure)) => tracing::debug!(%peer, %failure, "the opening handshake failed"),
        Err(_) => tracing::debug!(%peer, "the opening handshake took too long"),
    }
}

/// The opening handshake. `None` when the request was answered otherwise.
async fn open(options: &ListenOptions, mut stream: Stream) -> Result<Option<Socket>, Failure> {
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
    let (verdict, with_body) = match parse(stream.received()) {
        Ok(Some(head)) => ((options.gate)(&head), head.wants_body()),
        _ => unreachable!("Bug: a whole head was received"),
    };
    let (stream, response) = match verdict {
        Verdict::Respond(response) => (stream, response),
        Verdict::Upgrade => match upgrade(stream, &options.subprotocols, &options.socket) {
            Ok(socket) => return Ok(Some(socket)),
            Err(refused) => (refused.stream, refused.response),
        },
    };
    stream.respond(&response, with_body).await?;
    Ok(None)
}

struct Ended<'a> {
    shared: &'a Shared,
    index: usize,
}

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.shared.open.borrow_mut().remove(self.index);
        self.shared.ended.notify_waiters();
    }
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

    /// Stops accepting at once, and waits until all handlers have ended, for at most `within`. Who is still
    /// there then is cut off. Yields how many those were.
    pub async fn close(self, open: OpenSockets, within: Duration) -> usize {
        self.stop_accepting();
        if open == OpenSockets::Close {
            let going_away = Close { code: 1001, reason: "server shutting down".to_owned() };
            for open in self.shared.open.borrow().iter().map(|(_, open)| open) {
                match &open.writer {
                    // It fails for one that has closed or failed already.
                    Some(writer) => drop(writer.close(Some(&going_away))),
                    None => open.link.fail(Failure::Ended),
                }
            }
        }
        let all_ended = async {
            loop {
                let ended = self.shared.ended.notified();
                if self.shared.open.borrow().is_empty() {
                    return;
                }
                ended.await;
            }
        };
        if timeout(within, all_ended).await.is_ok() {
            return 0;
        }
        let open = self.shared.open.borrow();
        open.iter().for_each(|(_, open)| open.link.fail(Failure::Ended));
        open.len()
    }

    fn stop_accepting(&self) {
        self.shared.is_closing.set(true);
        // An accept that is under way holds the listener until a connection comes; this ends it.
        let _ = SockRef::from(&self.shared.listener).shutdown(Shutdown::Both);
        self.accepting.abort();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop_accepting();
    }
}
