//! Errors of reading, writing, connecting and listening.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::options::OptionError;
use uproar_protocol::frames::{CLOSE_REASON_BYTES_MAX, CONTROL_BYTES_MAX, Unfinished, Violation};
use uproar_protocol::tls;
use uproar_protocol::tls::config::ConfigError;
use uproar_protocol::upgrade::Refusal;
use uproar_protocol::url::UrlError;

/// What ended a connection other than a close.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Failure {
    /// TCP failed.
    #[error("the connection failed: {0}")]
    Io(Arc<io::Error>),
    /// TLS failed.
    #[error("the peer {0}")]
    Tls(#[from] tls::Error),
    /// The peer did what RFC 6455 forbids, or went beyond our limits.
    #[error("the peer broke the WebSocket protocol: {0}")]
    Violation(#[from] Violation),
    /// TCP ended, and there was no close before.
    #[error("the peer ended the connection without a close")]
    EndOfStream,
    /// The peer did not answer a ping: see [`Heartbeat`](super::Heartbeat).
    #[error("the peer has not been heard of for {0:?}")]
    Silent(Duration),
    /// The peer took nothing of what was written: see [`Heartbeat`](super::Heartbeat).
    #[error("the peer has taken nothing for {0:?}")]
    Stalled(Duration),
    /// The connection had not ended in the time for that: see
    /// [`Options::close_timeout`](super::Options::close_timeout).
    #[error("the peer has not closed within {0:?}")]
    NotClosed(Duration),
    /// This side has dropped the [`Socket`](super::Socket), or closed the [`Server`](super::Server).
    #[error("this side has ended the connection")]
    Ended,
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Io(Arc::new(error))
    }
}

/// Why no message can be read.
#[derive(Debug, thiserror::Error)]
#[error("{failure}")]
pub struct ReadError {
    /// Why.
    #[source]
    pub failure: Failure,
    /// What had arrived of a message whose end has not.
    pub unfinished: Option<Unfinished>,
}

/// Why a message was not taken for sending.
#[derive(Clone, Debug, thiserror::Error)]
pub enum WriteError {
    /// The connection has failed.
    #[error(transparent)]
    Failed(#[from] Failure),
    /// A close has been sent; nothing follows it (RFC 6455, section 5.5.1).
    #[error("nothing can be sent behind a close")]
    Closed,
    /// A ping, a pong or the reason of a close is too long (RFC 6455, section 5.5).
    #[error(
        "{bytes} bytes are too many for a control frame, which holds {CONTROL_BYTES_MAX}, or \
         {CLOSE_REASON_BYTES_MAX} behind the code of a close"
    )]
    ControlTooLong {
        /// How many bytes it had.
        bytes: usize,
    },
    /// A code that must not stand in a close (RFC 6455, section 7.4).
    #[error("{0} is no code that may be sent in a close: use 1000 or 3000 to 4999")]
    CloseCode(u16),
}

/// Why there is no connection to a server.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The URL is invalid.
    #[error("{url}: {why}")]
    Url {
        /// What was given.
        url: String,
        /// The reason.
        why: UrlError,
    },
    /// An option has a value that it cannot have.
    #[error(transparent)]
    Option(#[from] OptionError),
    /// A field has characters that it must not have.
    #[error("the field {0:?} has a name or a value that cannot be sent")]
    Field(String),
    /// A field that the client writes itself, or a second `Host`.
    #[error("the field {0:?} cannot be given: the client writes it itself, once")]
    ReservedField(String),
    /// The trusted certificates cannot be read.
    #[error(transparent)]
    Trust(#[from] Arc<ConfigError>),
    /// The host is no name that a certificate could have.
    #[error("no certificate can be for {0:?}")]
    ServerName(String),
    /// The host has no address.
    #[error("{host} has no address: {source}")]
    Resolve {
        /// The host.
        host: String,
        /// Why not.
        source: io::Error,
    },
    /// No address of the host could be reached. The last one tried is named.
    #[error("cannot reach {address}: {source}")]
    Unreachable {
        /// The address.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// It took longer than it may.
    #[error("not connected within {limit:?}: {awaited} did not come")]
    TimedOut {
        /// How long it may take.
        limit: Duration,
        /// What it was then still waiting for: an address, TCP, TLS, or the answer to the upgrade.
        awaited: &'static str,
    },
    /// The connection failed before the server had answered.
    #[error("the server did not answer the upgrade: {0}")]
    Failed(#[source] Failure),
    /// TLS failed; with a certificate that is not trusted, this says why.
    #[error("the server {0}")]
    Tls(#[source] tls::Error),
    /// The server did not accept the upgrade.
    #[error("the server {0}")]
    Refused(#[from] Refusal),
}

/// Why nothing listens.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// An option has a value that it cannot have.
    #[error(transparent)]
    Option(#[from] OptionError),
    /// The address is invalid.
    #[error("{address:?} is no address to listen on, such as 127.0.0.1:8080 or :8080: {source}")]
    Address {
        /// What was given.
        address: String,
        /// Why not.
        source: io::Error,
    },
    /// The address is taken, or may not be used.
    #[error("cannot listen on {address}: {source}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
}
