//! A client: from a URL to a socket.

use std::cell::Cell;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::net::lookup_host;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_uring::net::TcpStream;

use super::error::{ConnectError, Failure};
use super::options::{OptionError, Options, check_subprotocols, check_time};
use super::random;
use super::socket::Socket;
use super::stream::Stream;
use uproar_protocol::field::{is_field_value, is_token};
use uproar_protocol::frames::Role;
use uproar_protocol::tls::config::{self, ConfigError, Sessions, Trust};
use uproar_protocol::tls::{ClientConfig, ServerName};
use uproar_protocol::upgrade::{self, check_response, response_fields};
use uproar_protocol::url::Url;

/// How long an attempt to reach an address has until the next address is tried beside it (RFC 8305, section 5).
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// How many addresses of a name are tried, and so how many sockets an attempt may need at a time.
const ADDRESSES_MAX: usize = 16;

/// The fields that a request has once, and that say where it ends and what becomes of it. Those that begin with
/// `Sec-WebSocket-` are reserved, too.
const RESERVED_FIELDS: [&str; 4] = ["connection", "upgrade", "content-length", "transfer-encoding"];

/// How a client connects. Its `Debug` has the names of fields alone, since values may be secrets.
#[derive(Clone)]
pub struct ConnectOptions {
    /// Fields of the request besides those that every upgrade has, such as `Authorization` or `Origin`. A `Host`
    /// takes the place of the one that the URL names, for servers that go by it.
    pub fields: Vec<(String, String)>,
    /// The subprotocols to offer, the best first.
    pub subprotocols: Vec<String>,
    /// How long connecting may take in all, 10 s.
    pub timeout: Duration,
    /// Whom to trust for `wss://`; `None` for the authorities of the system. See
    /// [`client_tls`](super::client_tls).
    pub tls: Option<Arc<ClientConfig>>,
    /// How the socket behaves.
    pub socket: Options,
}

impl Default for ConnectOptions {
    fn default() -> Self {
        Self {
            fields: Vec::new(),
            subprotocols: Vec::new(),
            timeout: Duration::from_secs(10),
            tls: None,
            socket: Options::default(),
        }
    }
}

impl fmt::Debug for ConnectOptions {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { fields, subprotocols, timeout, tls, socket } = self;
        formatter
            .debug_struct("ConnectOptions")
            .field("fields", &fields.iter().map(|(name, _)| name).collect::<Vec<_>>())
            .field("subprotocols", subprotocols)
            .field("timeout", timeout)
            .field("tls", &tls.is_some())
            .field("socket", socket)
            .finish()
    }
}

impl ConnectOptions {
    fn check(&self) -> Result<(), OptionError> {
        check_subprotocols(&self.subprotocols)?;
        check_time("timeout", self.timeout)?;
        self.socket.check()
    }
}

/// Connects to a `ws://` or `wss://` URL, whose host is a name or an address. A name with
/// several addresses is reached at the first that answers: each is tried when the one before has failed, or has
/// not answered for 250 ms. To be called on a tokio-uring runtime.
///
/// ```no_run
/// use uproar_websocket::{ConnectOptions, connect};
///
/// tokio_uring::start(async {
///     let mut socket = connect("wss://chat.example/echo", &ConnectOptions::default()).await?;
///     socket.write("hello").await?;
///     println!("{:?}", socket.read().await?);
///     socket.close(1000, "").await?;
///     Ok::<(), Box<dyn std::error::Error>>(())
/// })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// It can be dropped at any time, which ends the attempt.
///
/// # Errors
///
/// A [`ConnectError`].
///
/// # Panics
///
/// Outside of a runtime.
pub async fn connect(url: &str, options: &ConnectOptions) -> Result<Socket, ConnectError> {
    let parsed = parse(url)?;
    let head = RequestHead::new(&parsed, options)?;
    let server_name = server_name(&parsed)?;
    let awaited = Cell::new("the addresses of the host");
    let connecting = async {
        let unresolved = |source| ConnectError::Resolve { host: parsed.host.clone(), source };
        let addresses = lookup_host((&*parsed.host, parsed.port)).await.map_err(unresolved)?;
        awaited.set("TCP");
        let (tcp, address) = race(addresses).await.map_err(|failure| match failure {
            Some((address, source)) => ConnectError::Unreachable { address, source },
            None => unresolved(io::ErrorKind::NotFound.into()),
        })?;
        let mut stream =
            stream(tcp, address).map_err(|source| ConnectError::Unreachable { address, source })?;
        if let Some(name) = server_name {
            awaited.set("TLS");
            let tls = match &options.tls {
                Some(tls) => Arc::clone(tls),
                None => system_tls()?,
            };
            stream.connect_tls(&tls, name).await.map_err(|failure| match failure {
                Failure::Tls(error) => ConnectError::Tls(error),
                other => ConnectError::Failed(other),
            })?;
        }
        awaited.set("the answer to the upgrade");
        shake_hands(stream, &head, options).await
    };
    let limit = options.timeout;
    let timed_out = |_| ConnectError::TimedOut { limit, awaited: awaited.get() };
    timeout(limit, connecting).await.map_err(timed_out)?
}

/// Checks for errors with which every attempt would fail.
pub(super) fn check(url: &str, options: &ConnectOptions) -> Result<(), ConnectError> {
    let parsed = parse(url)?;
    RequestHead::new(&parsed, options)?;
    server_name(&parsed).map(drop)
}

fn parse(url: &str) -> Result<Url, ConnectError> {
    Url::parse(url).map_err(|why| ConnectError::Url { url: url.to_owned(), why })
}

/// Whose certificate the server is to have, if it is to have one.
fn server_name(url: &Url) -> Result<Option<ServerName<'static>>, ConnectError> {
    let name = || {
        let host = url.host.clone();
        ServerName::try_from(host).map_err(|_| ConnectError::ServerName(url.host.clone()))
    };
    url.is_secure.then(name).transpose()
}

/// The configuration that trusts the system's authorities, which are read once.
fn system_tls() -> Result<Arc<ClientConfig>, Arc<ConfigError>> {
    static SYSTEM: OnceLock<Result<Arc<ClientConfig>, Arc<ConfigError>>> = OnceLock::new();
    SYSTEM.get_or_init(|| config::client(&Trust::System, Sessions::Resumed).map_err(Arc::new)).clone()
}

/// The first connection that comes about, or how the last attempt has failed; `None` without an address.
///
/// Attempts are tokio's, since one of tokio-uring's cannot be given up: it would hold its socket for minutes.
async fn race(
    addresses: impl Iterator<Item = SocketAddr>,
) -> Result<(std::net::TcpStream, SocketAddr), Option<(SocketAddr, io::Error)>> {
    let mut addresses = addresses.take(ADDRESSES_MAX);
    // Dropping it gives up those that are still under way.
    let mut attempts = JoinSet::new();
    let mut failure = None;
    loop {
        if let Some(address) = addresses.next() {
            attempts.spawn(async move {
                let connected = tokio::net::TcpStream::connect(address).await;
                (address, connected.and_then(tokio::net::TcpStream::into_std))
            });
        }
        match timeout(ATTEMPT_DELAY, attempts.join_next()).await {
            Ok(Some(attempt)) => match attempt.expect("Bug: nothing in an attempt panics") {
                (address, Ok(tcp)) => return Ok((tcp, address)),
                (address, Err(error)) => failure = Some((address, error)),
            },
            Ok(None) => return Err(failure),
            Err(_) => {}
        }
    }
}

fn stream(tcp: std::net::TcpStream, address: SocketAddr) -> io::Result<Stream> {
    // With O_NONBLOCK the ring would report EAGAIN instead of waiting.
    tcp.set_nonblocking(false)?;
    Stream::new(TcpStream::from_std(tcp), address, Role::Client)
}

/// What of the request the caller decides.
struct RequestHead<'a> {
    target: &'a str,
    host: &'a str,
    fields: Vec<(&'a str, &'a str)>,
}

impl<'a> RequestHead<'a> {
    fn new(url: &'a Url, options: &'a ConnectOptions) -> Result<Self, ConnectError> {
        options.check()?;
        let (mut host, mut fields) = (None, Vec::new());
        for (name, value) in &options.fields {
            if !is_token(name) || !is_field_value(value) {
                return Err(ConnectError::Field(name.clone()));
            }
            let lower = name.to_ascii_lowercase();
            let is_reserved = RESERVED_FIELDS.contains(&&*lower) || lower.starts_with("sec-websocket-");
            if is_reserved || (lower == "host" && host.is_some()) {
                return Err(ConnectError::ReservedField(name.clone()));
            }
            match &*lower {
                "host" => host = Some(&**value),
                _ => fields.push((&**name, &**value)),
            }
        }
        Ok(Self { target: &url.target, host: host.unwrap_or(&url.authority), fields })
    }
}

async fn shake_hands(
    mut stream: Stream,
    head: &RequestHead<'_>,
    options: &ConnectOptions,
) -> Result<Socket, ConnectError> {
    let key = upgrade::key(random::bytes());
    let offered = options.subprotocols.join(", ");
    let offer = (!offered.is_empty()).then_some(("Sec-WebSocket-Protocol", &*offered));
    let fields = head.fields.iter().copied().chain(offer);
    let request = upgrade::request(head.host, head.target, &key, fields);
    stream.write(request.as_bytes()).await.map_err(ConnectError::Failed)?;
    let accepted = loop {
        if let Some(accepted) = check_response(stream.received(), &key, &options.subprotocols)? {
            break accepted;
        }
        if !stream.receive().await.map_err(ConnectError::Failed)? {
            return Err(ConnectError::Failed(Failure::EndOfStream));
        }
    };
    let fields = response_fields(&stream.received()[..accepted.head_bytes]);
    stream.consume(accepted.head_bytes);
    let target = head.target.to_owned();
    let mut socket = Socket::new(stream, &options.socket, target, accepted.subprotocol);
    socket.response_fields = fields;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use socket2::{Domain, Socket as RawSocket, Type};

    use super::super::runtime::start;
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);

    /// An address at which nobody answers: a listener whose backlog is full, with what fills it.
    fn silent() -> (SocketAddr, (TcpListener, Vec<std::net::TcpStream>)) {
        let listener = RawSocket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        listener.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("binds");
        listener.listen(0).expect("listens");
        let listener = TcpListener::from(listener);
        let address = listener.local_addr().expect("an address");
        let mut filling = Vec::new();
        while let Ok(tcp) = std::net::TcpStream::connect_timeout(&address, Duration::from_millis(100)) {
            filling.push(tcp);
            assert!(filling.len() < 10, "the backlog does not fill");
        }
        (address, (listener, filling))
    }

    /// How many sockets of this machine try to connect there (proc_net_tcp(5)).
    fn attempts_at(address: SocketAddr) -> usize {
        const SYN_SENT: &str = "02";
        let there = format!("0100007F:{:04X}", address.port());
        let table = std::fs::read_to_string("/proc/net/tcp").expect("the kernel's table of sockets");
        let is_attempt = |line: &&str| {
            let mut columns = line.split_ascii_whitespace().skip(2);
            columns.next() == Some(&*there) && columns.next() == Some(SYN_SENT)
        };
        table.lines().filter(is_attempt).count()
    }

    /// Waits for what the kernel does in its own time.
    async fn until(mut holds: impl FnMut() -> bool) {
        let held = async {
            while !holds() {
                tokio::task::yield_now().await;
            }
        };
        timeout(PATIENCE, held).await.expect("the kernel still says otherwise");
    }

    #[test]
    fn addresses_that_do_not_answer_delay_the_next_one_but_little_and_leave_no_socket() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("listens");
        let good = listener.local_addr().expect("an address");
        let ((first, _first), (second, _second)) = (silent(), silent());
        start(async {
            let racing = race([first, second, good].into_iter());
            let (tcp, address) = timeout(PATIENCE, racing).await.expect("too late").expect("connects");
            assert_eq!((address, tcp.peer_addr().expect("connected")), (good, good));
            until(|| attempts_at(first) + attempts_at(second) == 0).await;
        });
    }

    #[test]
    fn attempts_that_are_given_up_leave_no_socket() {
        let (address, _silent) = silent();
        start(async {
            let mut racing = Box::pin(race([address].into_iter()));
            tokio::select! {
                raced = &mut racing => panic!("{raced:?}"),
                () = until(|| attempts_at(address) == 1) => {}
            }
            drop(racing);
            until(|| attempts_at(address) == 0).await;
        });
    }

    #[test]
    fn a_timeout_names_the_step_that_was_awaited() {
        let (address, _silent) = silent();
        // The kernel answers for it, and nobody accepts.
        let mute = TcpListener::bind("127.0.0.1:0").expect("listens");
        let mute_address = mute.local_addr().expect("an address");
        for (url, awaited) in [
            (format!("ws://{address}"), "TCP"),
            (format!("wss://{mute_address}"), "TLS"),
            (format!("ws://{mute_address}"), "the answer to the upgrade"),
        ] {
            start(async {
                let tls = config::client(&Trust::Anyone, Sessions::Fresh).expect("a configuration");
                let timeout = Duration::from_millis(100);
                let options = ConnectOptions { timeout, tls: Some(tls), ..ConnectOptions::default() };
                let error = connect(&url, &options).await.expect_err("nobody answers").to_string();
                assert_eq!(error, format!("not connected within 100ms: {awaited} did not come"));
            });
        }
    }

    #[test]
    fn values_of_fields_are_not_shown() {
        let token = ("Authorization".to_owned(), "Bearer swordfish".to_owned());
        let shown = format!("{:?}", ConnectOptions { fields: vec![token], ..ConnectOptions::default() });
        assert!(shown.contains("fields: [\"Authorization\"], subprotocols: [], "), "{shown}");
        assert!(!shown.contains("swordfish"), "{shown}");
    }

    #[test]
    fn the_last_failure_is_told_and_each_address_tried_once() {
        let closed = || TcpListener::bind("127.0.0.1:0").expect("listens").local_addr().expect("an address");
        let (first, second) = (closed(), closed());
        start(async {
            let failure = race([first, second].into_iter()).await.expect_err("nobody is there");
            let (address, error) = failure.expect("a failure");
            assert_eq!((address, error.kind()), (second, io::ErrorKind::ConnectionRefused));
            assert!(race(std::iter::empty()).await.expect_err("no address").is_none());
        });
    }

    #[test]
    fn no_more_addresses_are_tried_than_may_be() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("listens");
        let good = listener.local_addr().expect("an address");
        // Nothing listens at a port that is only bound.
        let bound = RawSocket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        bound.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("binds");
        let closed = bound.local_addr().expect("an address").as_socket().expect("an address of IP");
        let after = |count| std::iter::repeat_n(closed, count).chain([good]);
        start(async {
            assert!(race(after(ADDRESSES_MAX - 1)).await.is_ok());
            assert!(race(after(ADDRESSES_MAX)).await.is_err());
        });
    }
}
