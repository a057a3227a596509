//! A client: from a URL to a socket.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::net::lookup_host;
use tokio::time::timeout;
use tokio_uring::net::TcpStream;

use super::error::{ConnectError, Failure};
use super::options::{OptionError, Options, check_subprotocols, check_time};
use super::random;
use super::socket::Socket;
use super::stream::Stream;
use crate::protocol::frames::Role;
use crate::protocol::tls::config::{self, ConfigError, Sessions, Trust};
use crate::protocol::tls::{ClientConfig, ServerName};
use crate::protocol::upgrade::{self, check_response, is_field_value, is_token};
use crate::protocol::url::Url;

/// How a client connects.
#[derive(Clone, Debug)]
pub struct ConnectOptions {
    /// Fields of the request besides those that every upgrade has, such as `Authorization` or `Origin`.
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

impl ConnectOptions {
    fn check(&self) -> Result<(), OptionError> {
        check_subprotocols(&self.subprotocols)?;
        check_time("timeout", self.timeout)?;
        self.socket.check()
    }
}

/// Connects to a `ws://` or `wss://` URL, whose host is a name or an address. The addresses of a name are tried
/// one after another. To be called on a tokio-uring runtime.
///
/// ```no_run
/// use uproar::websocket::{ConnectOptions, connect};
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
/// # Errors
///
/// A [`ConnectError`].
pub async fn connect(url: &str, options: &ConnectOptions) -> Result<Socket, ConnectError> {
    options.check()?;
    let parsed = Url::parse(url).map_err(|why| ConnectError::Url { url: url.to_owned(), why })?;
    let connecting = async {
        let fields = fields(options)?;
        let mut stream = reach(&parsed).await?;
        if parsed.is_secure {
            let tls = match &options.tls {
                Some(tls) => Arc::clone(tls),
                None => system_tls()?,
            };
            let name = ServerName::try_from(parsed.host.clone())
                .map_err(|_| ConnectError::ServerName(parsed.host.clone()))?;
            stream.connect_tls(&tls, name).await.map_err(|failure| match failure {
                Failure::Tls(error) => ConnectError::Tls(error),
                other => ConnectError::Failed(other),
            })?;
        }
        shake_hands(stream, &parsed, &fields, options).await
    };
    timeout(options.timeout, connecting).await.unwrap_or(Err(ConnectError::TimedOut(options.timeout)))
}

/// The fields of the request that are a caller's.
fn fields(options: &ConnectOptions) -> Result<Vec<(String, String)>, ConnectError> {
    let mut fields = options.fields.clone();
    if !options.subprotocols.is_empty() {
        fields.push(("Sec-WebSocket-Protocol".to_owned(), options.subprotocols.join(", ")));
    }
    match fields.iter().find(|(name, value)| !is_token(name) || !is_field_value(value)) {
        Some((name, _)) => Err(ConnectError::Field(name.clone())),
        None => Ok(fields),
    }
}

/// The configuration that trusts the system's authorities, which are read once.
fn system_tls() -> Result<Arc<ClientConfig>, Arc<ConfigError>> {
    static SYSTEM: OnceLock<Result<Arc<ClientConfig>, Arc<ConfigError>>> = OnceLock::new();
    SYSTEM.get_or_init(|| config::client(&Trust::System, Sessions::Resumed).map_err(Arc::new)).clone()
}

async fn reach(url: &Url) -> Result<Stream, ConnectError> {
    let unresolved = |source| ConnectError::Resolve { host: url.host.clone(), source };
    let mut failure = unresolved(std::io::ErrorKind::NotFound.into());
    for address in lookup_host((&*url.host, url.port)).await.map_err(unresolved)? {
        match reach_at(address).await {
            Ok(stream) => return Ok(stream),
            Err(source) => failure = ConnectError::Unreachable { address, source },
        }
    }
    Err(failure)
}

/// Through tokio, since a connect of tokio-uring's cannot be given up: it would hold its socket for minutes.
async fn reach_at(address: SocketAddr) -> std::io::Result<Stream> {
    let tcp = tokio::net::TcpStream::connect(address).await?.into_std()?;
    // With O_NONBLOCK the ring would report EAGAIN instead of waiting.
    tcp.set_nonblocking(false)?;
    Stream::plain(TcpStream::from_std(tcp), address)
}

async fn shake_hands(
    mut stream: Stream,
    url: &Url,
    fields: &[(String, String)],
    options: &ConnectOptions,
) -> Result<Socket, ConnectError> {
    let key = upgrade::key(random::bytes());
    let fields = fields.iter().map(|(name, value)| (&**name, &**value));
    let request = upgrade::request(&url.authority, &url.target, &key, fields);
    stream.write(request.as_bytes()).await.map_err(ConnectError::Failed)?;
    let accepted = loop {
        if let Some(accepted) = check_response(stream.received(), &key, &options.subprotocols)? {
            break accepted;
        }
        if !stream.receive().await.map_err(ConnectError::Failed)? {
            return Err(ConnectError::Failed(Failure::EndOfStream));
        }
    };
    stream.consume(accepted.head_bytes);
    Ok(Socket::new(stream, Role::Client, &options.socket, url.target.clone(), accepted.subprotocol))
}
