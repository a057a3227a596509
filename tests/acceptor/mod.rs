//! An acceptor on a thread of its own, and raw clients for it.
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::cell::RefCell;
use std::io::{Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::sync::watch;
use uproar::accounts::Identity;
use uproar::address::{AddressLimiter, AddressLimits};
use uproar::handshake::endpoint::Dialects;
use uproar::handshake::origin::OriginPolicy;
use uproar::handshake::route::Endpoint;
use uproar::handshake::{
    Acceptor, Admission, Admissions, AuthorizationRefusal, HandOver, HandshakeEvent, HandshakeLimits,
    HandshakeServices, Intake, ProxyPolicy,
};
use uproar::metrics::Health;
use uproar::permit::{ClientPermit, ClientPermits};
use uproar::topics::TopicLimiter;
use uproar_protocol::head::HEAD_BYTES_MAX;
use uproar_protocol::response::{Response, StatusCode};
use uproar_protocol::tls::ServerConfig;
use uproar_ring::Waker;

/// How long a test waits for something before it fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// What stands for the web client.
pub(crate) const PAGE: &str = "<!doctype html>";

pub(crate) struct AcceptorSettings {
    pub(crate) handshake_timeout: Duration,
    pub(crate) connections_max: usize,
    pub(crate) clients_max: usize,
    pub(crate) addresses: AddressLimits,
    pub(crate) proxies: ProxyPolicy,
}

impl Default for AcceptorSettings {
    fn default() -> Self {
        Self {
            handshake_timeout: PATIENCE,
            connections_max: 100,
            clients_max: 10,
            addresses: AddressLimits::default(),
            proxies: ProxyPolicy::default(),
        }
    }
}

pub(crate) struct OpenAcceptor {
    pub(crate) address: SocketAddr,
    pub(crate) places: ClientPermits,
    /// How long the turn of a shard takes, in milliseconds.
    pub(crate) turn_ms: Arc<AtomicU64>,
    listener: TcpListener,
    intake: watch::Sender<Intake>,
    drained: Receiver<()>,
    admissions: RefCell<Admissions>,
    events: Receiver<HandshakeEvent>,
    thread: Option<JoinHandle<()>>,
}

struct Services {
    turn_ms: Arc<AtomicU64>,
    origins: OriginPolicy,
    proxies: ProxyPolicy,
    topics: TopicLimiter,
    addresses: AddressLimiter,
    places: ClientPermits,
    events: Sender<HandshakeEvent>,
}

impl HandshakeServices for Services {
    fn tls(&self) -> Option<Arc<ServerConfig>> {
        None
    }

    fn health(&self) -> Health {
        let longest_turn = Duration::from_millis(self.turn_ms.load(Ordering::SeqCst));
        Health { longest_turn, ..Health::default() }
    }

    fn origins(&self) -> &OriginPolicy {
        &self.origins
    }
    fn proxies(&self) -> &ProxyPolicy {
        &self.proxies
    }
    fn dialects(&self) -> Dialects {
        Dialects::ALL
    }
    fn topics(&self) -> &TopicLimiter {
        &self.topics
    }
    fn requires_sign_in(&self) -> bool {
        false
    }
    fn takes_tokens(&self) -> bool {
        false
    }
    fn authorize(
        &self,
        _: &Endpoint,
        _: Option<&str>,
        _: IpAddr,
    ) -> Result<Option<Identity>, AuthorizationRefusal> {
        Ok(None)
    }
    fn is_banned(&self, _: IpAddr) -> bool {
        false
    }
    fn has_public_metrics(&self) -> bool {
        true
    }
    fn page(&self, _host: Option<&str>) -> Response {
        Response::new(StatusCode::OK, "text/html", PAGE.into())
    }
    fn metrics_text(&self) -> String {
        "uproar_connections 0\n".to_owned()
    }
    fn addresses(&self) -> &AddressLimiter {
        &self.addresses
    }
    fn acquire_client(&self) -> Option<ClientPermit> {
        self.places.acquire()
    }
    fn note(&self, event: HandshakeEvent) {
        // Connections leave whenever they are done; tests speak of what the acceptor does with them.
        if event != HandshakeEvent::Left {
            let _ = self.events.send(event);
        }
    }
}

impl OpenAcceptor {
    pub(crate) fn with(settings: AcceptorSettings) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        // The standard library's backlog of 128 is too short for a crowd: a SYN that finds it full is
        // sent again after a second.
        rustix::net::listen(&listener, 4096).expect("a longer backlog");
        // As the server does it: a listener that would not wait by itself.
        listener.set_nonblocking(true).expect("set");
        let turn_ms = Arc::new(AtomicU64::new(0));
        let places = ClientPermits::new(settings.clients_max);
        let (hand_over, mut admissions) = HandOver::new([None], &[Waker::new().expect("an eventfd")]);
        let (events_sender, events) = channel();
        let (intake, intake_seen) = watch::channel(Intake::Open);
        let (drained_sender, drained) = channel();
        let services = Services {
            turn_ms: Arc::clone(&turn_ms),
            origins: OriginPolicy::default(),
            proxies: settings.proxies,
            topics: TopicLimiter::new(settings.clients_max),
            addresses: AddressLimiter::new(settings.addresses.clone()),
            places: places.clone(),
            events: events_sender,
        };
        let limits = HandshakeLimits {
            timeout: settings.handshake_timeout,
            head_bytes_max: HEAD_BYTES_MAX,
            connections_max: settings.connections_max,
        };
        let handle = listener.try_clone().expect("a handle");
        let thread = std::thread::spawn(move || {
            let acceptor = Acceptor::new(Rc::new(services), hand_over, intake_seen, limits);
            let drained = move || {
                // It fails when the test is over.
                let _ = drained_sender.send(());
            };
            tokio_uring::start(acceptor.serve(handle, drained)).expect("an orderly end");
        });
        let admissions = RefCell::new(admissions.remove(0));
        let thread = Some(thread);
        Self { address, places, turn_ms, listener, intake, drained, admissions, events, thread }
    }

    pub(crate) fn connect(&self) -> TcpStream {
        let client = TcpStream::connect(self.address).expect("connected");
        client.set_read_timeout(Some(PATIENCE)).expect("set");
        client.set_write_timeout(Some(PATIENCE)).expect("set");
        client
    }

    /// Connects from another address of this machine.
    pub(crate) fn connect_from(&self, address: &str) -> TcpStream {
        let socket =
            socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
        let address: std::net::IpAddr = address.parse().expect("an address");
        socket.bind(&SocketAddr::new(address, 0).into()).expect("bound");
        socket.connect(&self.address.into()).expect("connected");
        let client = TcpStream::from(socket);
        client.set_read_timeout(Some(PATIENCE)).expect("set");
        client
    }

    /// Begins to drain, and returns when nothing more is going to be handed over.
    pub(crate) fn drain(&self) {
        self.intake.send_replace(Intake::Draining);
        self.drained.recv_timeout(PATIENCE).expect("the word of the acceptor");
    }

    /// The next connection that is handed over.
    pub(crate) fn admission(&self) -> (OwnedFd, Admission) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        let mut admissions = self.admissions.borrow_mut();
        let admission = runtime.block_on(async { tokio::time::timeout(PATIENCE, admissions.wait()).await });
        admission.expect("an admission in time").expect("an acceptor")
    }

    /// True while nothing has been handed over.
    pub(crate) fn has_no_admission(&self) -> bool {
        self.admissions.borrow().is_empty()
    }

    /// Waits until so many have a place among the clients.
    pub(crate) fn wait_for_clients(&self, count: usize) {
        let deadline = std::time::Instant::now() + PATIENCE;
        while self.places.taken() != count {
            assert!(std::time::Instant::now() < deadline, "{} clients, not {count}", self.places.taken());
            std::thread::yield_now();
        }
    }

    /// What has been noted since the last call.
    pub(crate) fn events(&self) -> Vec<HandshakeEvent> {
        self.events.try_iter().collect()
    }

    /// The next thing that is noted.
    pub(crate) fn event(&self) -> HandshakeEvent {
        self.events.recv_timeout(PATIENCE).expect("an event")
    }

    pub(crate) fn wait_for_accepted(&self, count: usize) {
        for _ in 0..count {
            while self.events.recv_timeout(PATIENCE).expect("an accepted connection")
                != HandshakeEvent::Accepted
            {}
        }
    }
}

impl Drop for OpenAcceptor {
    fn drop(&mut self) {
        self.intake.send_replace(Intake::Closed);
        let _ = socket2::SockRef::from(&self.listener).shutdown(Shutdown::Both);
        let result = self.thread.take().expect("Bug: an acceptor has a thread").join();
        assert!(std::thread::panicking() || result.is_ok(), "the acceptor's thread has panicked");
    }
}

/// Raises the soft limit of descriptors to the hard one: both ends of each connection are in this process.
pub(crate) fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).expect("raised");
}

/// Sends a request on a new connection and reads until the acceptor ends it.
pub(crate) fn exchange(acceptor: &OpenAcceptor, request: &[u8]) -> String {
    let mut client = acceptor.connect();
    client.write_all(request).expect("written");
    read_to_end(client)
}

/// Everything up to the end of the stream, each byte as the character of that number.
pub(crate) fn read_to_end(mut client: TcpStream) -> String {
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).expect("an answer and an orderly end");
    answer.into_iter().map(char::from).collect()
}

/// A good upgrade, with the key of RFC 6455, 1.3.
pub(crate) fn upgrade(path: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: here\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
}
