//! The options of a server.

use std::sync::Arc;
use std::time::Duration;

use uproar_protocol::tls::ServerConfig;

use super::options::{OptionError, Options, check, check_count, check_subprotocols, check_time};

/// The options of a server.
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
    ///
    /// Each needs a descriptor, and most systems start a program with 1,024 (`ulimit -n`). A server that has no
    /// more accepts none until a connection has ended: new connections wait in the backlog, existing ones are
    /// not affected, and a warning is logged once a second. What the program opens itself
    /// (files, connections to a database) fails then, so the limit is best set above the two together.
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
    pub(super) fn check(&self) -> Result<(), OptionError> {
        check("backlog", self.backlog, self.backlog > 0, "at least 1")?;
        check_count("connections_max", self.connections_max)?;
        check_time("handshake_timeout", self.handshake_timeout)?;
        check_subprotocols(&self.subprotocols)?;
        self.socket.check()
    }
}
