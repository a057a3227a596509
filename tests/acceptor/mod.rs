//! An acceptor on a thread of its own, and raw clients for it.
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use uproar::address::{AddressLimits, Limits};
use uproar::permit::{ClientPermit, ClientPlaces};
use uproar::protocol::head::HEAD_BYTES_MAX;
use uproar::protocol::origin::OriginPolicy;
use uproar::protocol::response::{Response, Status};
use uproar::protocol::tls::ServerConfig;
use uproar::handshake::{Admission, Acceptor, HandshakeEvent, HandshakeServices};

/// How long a test waits for something before it fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// What stands for the web client.
pub(crate) const PAGE: &str = "<!doctype html>";

pub(crate) struct Settings {
    pub(crate) handshake_timeout: Duration,
    pub(crate) connections_max: usize,
    pub(crate) clients_max: usize,
    pub(crate) addresses: Limits,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            handshake_timeout: PATIENCE,
            connections_max: 100,
            clients_max: 10,
            addresses: Limits::default(),
        }
    }
}

pub(crate) struct OpenAcceptor {
    pub(crate) address: SocketAddr,
    pub(crate) places: ClientPlaces,
    draining: Arc<AtomicBool>,
    admissions: Receiver<Admission>,
    events: Receiver<HandshakeEvent>,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

struct Services {
    draining: Arc<AtomicBool>,
    origins: OriginPolicy,
    addresses: AddressLimits,
    places: ClientPlaces,
    admissions: Sender<Admission>,
    events: Sender<HandshakeEvent>,
}

impl HandshakeServices for Services {
    fn is_draining(&self) -> bool {
        self.draining.load(Ordering::SeqCst)
    }
    fn tls(&self) -> Option<Arc<ServerConfig>> {
        None
    }
    fn has_storage_failed(&self) -> bool {
        false
    }

    fn origins(&self) -> &OriginPolicy {
        &self.origins
    }
    fn requires_sign_in(&self) -> bool {
        false
    }
    fn page(&self, _host: Option<&str>) -> Response {
        Response::new(Status::OK, "text/html", PAGE.into())
    }
    fn metrics_text(&self) -> String {
        "uproar_connections 0\n".to_owned()
    }
    fn addresses(&self) -> &AddressLimits {
        &self.addresses
    }
    fn acquire_client(&self) -> Option<ClientPermit> {
        self.places.acquire()
    }
    fn admit(&self, admission: Admission) {
        let _ = self.admissions.send(admission);
    }
    fn note(&self, event: HandshakeEvent) {
        // Connections leave whenever they are done; tests speak of what the acceptor does with them.
        if event != HandshakeEvent::Left {
            let _ = self.events.send(event);
        }
    }
}

impl OpenAcceptor {
    pub(crate) fn with(settings: Settings) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        // The standard library's backlog of 128 is too short for a crowd: a SYN that finds it full is
        // sent again after a second.
        rustix::net::listen(&listener, 4096).expect("a longer backlog");
        // As the server does it: a listener that would not wait by itself.
        listener.set_nonblocking(true).expect("set");
        let draining = Arc::new(AtomicBool::new(false));
        let places = ClientPlaces::new(settings.clients_max);
        let (admissions_sender, admissions) = channel();
        let (events_sender, events) = channel();
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let services = Services {
            draining: Arc::clone(&draining),
            origins: OriginPolicy::default(),
            addresses: AddressLimits::new(settings.addresses.clone()),
            places: places.clone(),
            admissions: admissions_sender,
            events: events_sender,
        };
        let thread = std::thread::spawn(move || {
            let acceptor = Acceptor {
                services: Rc::new(services),
                handshake_timeout: settings.handshake_timeout,
                head_bytes_max: HEAD_BYTES_MAX,
                connections_max: settings.connections_max,
            };
            tokio_uring::start(async {
                tokio::select! {
                    end = acceptor.serve(listener) => panic!("the acceptor has ended: {end:?}"),
                    _ = stopped => {}
                }
            });
        });
        Self { address, places, draining, admissions, events, stop: Some(stop), thread: Some(thread) }
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

    pub(crate) fn drain(&self) {
        self.draining.store(true, Ordering::SeqCst);
    }

    pub(crate) fn admission(&self) -> Admission {
        self.admissions.recv_timeout(PATIENCE).expect("an admission")
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
            while self.events.recv_timeout(PATIENCE).expect("an accepted connection") != HandshakeEvent::Accepted
            {
            }
        }
    }
}

impl Drop for OpenAcceptor {
    fn drop(&mut self) {
        drop(self.stop.take());
        let result = self.thread.take().expect("Bug: an acceptor has a thread").join();
        assert!(std::thread::panicking() || result.is_ok(), "the acceptor's thread has panicked");
    }
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
