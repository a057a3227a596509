//! The threads of acceptors, and the services of the server that they use.

use std::io;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::sync::watch;
use tracing::{info, warn};
use uproar_protocol::response::{Response, StatusCode};
use uproar_protocol::tls::ServerConfig;

use super::error::ServerError;
use super::listener::Listener;
use super::thread_context::{ThreadContext, ThreadReport};
use crate::accounts::Identity;
use crate::address::{AddressLimiter, AddressLimits, AddressRefusal};
use crate::config::{self, Anonymous, Config, Dialects, FIRST_ROOM};
use crate::handshake::origin::OriginPolicy;
use crate::handshake::route::Endpoint;
use crate::handshake::{
    Acceptor, AuthorizationRefusal, HandOver, HandshakeEvent, HandshakeLimits, HandshakeServices, Intake,
    ProxyPolicy,
};
use crate::log_limit::LogLimit;
use crate::log_text::shown;
use crate::metrics::{AcceptorMetrics, Health, Metrics, RefusalReason, TokenOutcome};
use crate::moderation::Moderation;
use crate::page;
use crate::permit::{ClientPermit, ClientPermits};
use crate::preflight::Capacity;
use crate::rooms::Directory;
use crate::tokens::TokenChecker;
use crate::topics::TopicLimiter;

/// The nice value of an acceptor (setpriority(2)) that shares a core with a shard: while both are busy, it gets a
/// quarter of the core (weights of 335 and 1,024, sched(7)). So many handshakes do not take half of a core from the
/// shard's clients, and are still done in time on a machine that is busy with other programs. SCHED_BATCH would not
/// do: it wakes a thread later, and does not change its share.
const NICENESS: i32 = 5;

/// The default limit of an address' clients is a quarter of all, but no more than an office with several windows each
/// has, and no less than a household.
const ADDRESS_CLIENTS_MAX: usize = 1_000;
const ADDRESS_CLIENTS_MIN: usize = 64;

/// An address may have a sixteenth of all connections that are not yet upgraded or answered, but at least these: a
/// browser opens six at once, and each is done after a round trip or two.
const ADDRESS_HANDSHAKES_MIN: usize = 64;

/// The parameters of all acceptors.
#[derive(Clone)]
pub(super) struct AcceptorsStart {
    pub(super) hand_over: HandOver,
    pub(super) intake: watch::Receiver<Intake>,
    pub(super) pending_max: usize,
    pub(super) client_permits: ClientPermits,
    pub(super) addresses: AddressLimiter,
    pub(super) topics: TopicLimiter,
    pub(super) metrics: Metrics,
    pub(super) tls: watch::Receiver<Option<Arc<ServerConfig>>>,
}

/// Starts a thread for each acceptor.
pub(super) fn spawn_acceptors(
    context: &ThreadContext,
    start: &AcceptorsStart,
    listener: &Listener,
) -> Result<Vec<JoinHandle<()>>, ServerError> {
    let count = context.config.acceptor_count();
    let mut threads = Vec::new();
    for index in 0..count {
        let failed = move |source| ServerError::Acceptor { acceptor: index, source };
        let listener = listener.handle().map_err(failed)?;
        let (context, start) = (context.clone(), start.clone());
        let run = move || {
            let end = context.report_end(failed(io::Error::other("its thread has panicked")));
            end.report(run(index, count, context, start, listener).map_err(failed));
        };
        threads.push(thread::Builder::new().name(format!("acceptor-{index}")).spawn(run).map_err(failed)?);
    }
    Ok(threads)
}

/// An acceptor's thread.
fn run(
    index: usize,
    count: usize,
    context: ThreadContext,
    start: AcceptorsStart,
    listener: std::net::TcpListener,
) -> io::Result<()> {
    let ThreadContext { config, directory, tokens, moderation, reports, .. } = context;
    if let Some(cores) = &config.acceptor_cores {
        config::pin(cores)?;
    }
    if config.acceptors_share_cores() {
        // On Linux this sets the priority of the calling thread alone (setpriority(2), "C library/kernel differences").
        // If it fails, everything works, and handshakes take more time from clients.
        if let Err(error) = rustix::process::setpriority_process(None, NICENESS) {
            warn!(%error, "an acceptor runs at the priority of the shards");
        }
    }
    let runtime = uproar_ring::retrying_enomem(|| tokio_uring::Runtime::new(&tokio_uring::builder()))?;
    let limits = HandshakeLimits {
        timeout: config.handshake_timeout,
        head_bytes_max: config.max_head_bytes,
        connections_max: (start.pending_max / count).max(1),
    };
    let requires_sign_in = config.requires_sign_in();
    let has_public_metrics = config.has_public_metrics();
    let services = Services {
        tls: start.tls,
        origins: OriginPolicy {
            allowed: config.allow_origins,
            is_on_loopback: config.listen.ip().to_canonical().is_loopback(),
            hosts: config.allow_hosts,
        },
        proxies: ProxyPolicy { trusted: config.trusted_proxies, has_proxy_protocol: config.proxy_protocol },
        dialects: config.dialects,
        requires_sign_in,
        has_public_metrics,
        anonymous: config.anonymous,
        tokens,
        moderation,
        directory,
        client_permits: start.client_permits,
        addresses: start.addresses,
        topics: start.topics,
        acceptor_metrics: start.metrics.acceptor(index),
        metrics: start.metrics,
    };
    let acceptor = Acceptor::new(Rc::new(services), start.hand_over, start.intake, limits);
    let drained = reports.clone();
    let serving = acceptor.serve(listener, move || drained.send(ThreadReport::AcceptorDrained(index)));
    reports.send(ThreadReport::Ready);
    drop(reports);
    runtime.block_on(serving)
}

/// The limits of each address.
pub(super) fn address_limits(config: &Config, capacity: Capacity) -> AddressLimits {
    let clients_max = config
        .max_clients_per_address
        .unwrap_or_else(|| (capacity.max_clients / 4).clamp(ADDRESS_CLIENTS_MIN, ADDRESS_CLIENTS_MAX));
    AddressLimits {
        clients_max,
        upgrades_max: config.connect_rate_per_address,
        // Without a limit of clients, an address may be a proxy for many.
        handshakes_max: match clients_max {
            0 => 0,
            _ => (capacity.pending_max / 16).max(ADDRESS_HANDSHAKES_MIN),
        },
        unlimited: [&config.no_limit_for[..], &config.trusted_proxies].concat(),
    }
}

fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// The services of the server that an acceptor uses.
struct Services {
    tls: watch::Receiver<Option<Arc<ServerConfig>>>,
    origins: OriginPolicy,
    proxies: ProxyPolicy,
    dialects: Dialects,
    requires_sign_in: bool,
    has_public_metrics: bool,
    anonymous: Option<Anonymous>,
    tokens: TokenChecker,
    moderation: Moderation,
    directory: Directory,
    client_permits: ClientPermits,
    addresses: AddressLimiter,
    topics: TopicLimiter,
    metrics: Metrics,
    acceptor_metrics: Arc<AcceptorMetrics>,
}

impl HandshakeServices for Services {
    fn tls(&self) -> Option<Arc<ServerConfig>> {
        self.tls.borrow().clone()
    }

    fn health(&self) -> Health {
        self.metrics.health()
    }

    fn origins(&self) -> &OriginPolicy {
        &self.origins
    }

    fn proxies(&self) -> &ProxyPolicy {
        &self.proxies
    }

    fn dialects(&self) -> Dialects {
        self.dialects
    }

    fn requires_sign_in(&self) -> bool {
        self.requires_sign_in
    }

    fn takes_tokens(&self) -> bool {
        self.tokens.has_keys()
    }

    fn authorize(
        &self,
        endpoint: &Endpoint,
        token: Option<&str>,
        address: IpAddr,
    ) -> Result<Option<Identity>, AuthorizationRefusal> {
        let check = |token| {
            let checked = self.tokens.check(token, unix_seconds());
            let outcome = checked.as_ref().map_or_else(|error| error.outcome(), |_| TokenOutcome::Valid);
            self.acceptor_metrics.token_checks.with(outcome).add(1);
            checked.map_err(AuthorizationRefusal::BadToken)
        };
        let identity = token.map(check).transpose()?;
        let account = identity.as_ref().map(|identity| &*identity.account);
        if self.moderation.is_banned(account, address, unix_seconds()) {
            static REFUSED: LogLimit = LogLimit::new();
            if let Some(account) = account
                && let Some(left_out) = REFUSED.allow()
            {
                info!(account = shown(account), %address, left_out, "the account of a token is banned");
            }
            return Err(AuthorizationRefusal::Banned);
        }
        let is_allowed = match (&identity, endpoint) {
            // These two are for those who speak.
            (None, Endpoint::Hub | Endpoint::Echo) => self.anonymous != Some(Anonymous::Listen),
            (None, Endpoint::Chat | Endpoint::Raw { .. }) | (Some(_), Endpoint::Echo) => true,
            (Some(Identity { rights, .. }), Endpoint::Chat) => {
                self.directory.first_room(|room| rights.may_join(room)).is_some()
            }
            (Some(Identity { rights, .. }), Endpoint::Hub) => rights.may_join(FIRST_ROOM),
            (Some(Identity { rights, .. }), Endpoint::Raw { topic }) => rights.may_hear(topic),
        };
        if is_allowed { Ok(identity) } else { Err(AuthorizationRefusal::Forbidden) }
    }

    fn is_banned(&self, address: IpAddr) -> bool {
        self.moderation.is_banned(None, address, unix_seconds())
    }

    fn has_public_metrics(&self) -> bool {
        self.has_public_metrics
    }

    fn page(&self, host: Option<&str>) -> Response {
        page::response(host)
    }

    fn metrics_text(&self) -> String {
        self.metrics.render(self.directory.users_online())
    }

    fn addresses(&self) -> &AddressLimiter {
        &self.addresses
    }

    fn topics(&self) -> &TopicLimiter {
        &self.topics
    }

    fn acquire_client(&self) -> Option<ClientPermit> {
        self.client_permits.acquire()
    }

    fn note(&self, event: HandshakeEvent) {
        let refused = |reason| self.acceptor_metrics.refused.with(reason).add(1);
        match event {
            HandshakeEvent::Accepted => {
                self.acceptor_metrics.connections_accepted.add(1);
                self.acceptor_metrics.pending_connections.add(1);
            }
            HandshakeEvent::Left => self.acceptor_metrics.pending_connections.sub(1),
            HandshakeEvent::AcceptFailed => self.acceptor_metrics.accepts_failed.add(1),
            HandshakeEvent::Secured(kind) => self.acceptor_metrics.tls_handshakes.with(kind).add(1),
            HandshakeEvent::TlsFailed(reason) => self.acceptor_metrics.tls_failures.with(reason).add(1),
            HandshakeEvent::Displaced => refused(RefusalReason::HandshakesFull),
            HandshakeEvent::AddressDisplaced => refused(RefusalReason::AddressHandshakes),
            HandshakeEvent::AddressRefused(AddressRefusal::Clients) => refused(RefusalReason::AddressClients),
            HandshakeEvent::AddressRefused(AddressRefusal::Rate) => refused(RefusalReason::AddressRate),
            HandshakeEvent::NoProxyHeader => refused(RefusalReason::NoProxyHeader),
            HandshakeEvent::TopicsFull => refused(RefusalReason::TopicsFull),
            HandshakeEvent::Full => refused(RefusalReason::Full),
            HandshakeEvent::SignInRequired => refused(RefusalReason::SignInRequired),
            HandshakeEvent::Unauthorized(AuthorizationRefusal::BadToken(_)) => {
                refused(RefusalReason::BadToken)
            }
            HandshakeEvent::Unauthorized(AuthorizationRefusal::Banned) => refused(RefusalReason::Banned),
            HandshakeEvent::Unauthorized(AuthorizationRefusal::Forbidden) => {
                refused(RefusalReason::PermissionDenied)
            }
            HandshakeEvent::Responded(status) => match status {
                StatusCode::BAD_REQUEST => refused(RefusalReason::BadRequest),
                StatusCode::FORBIDDEN => refused(RefusalReason::Origin),
                StatusCode::NOT_FOUND => refused(RefusalReason::NotFound),
                StatusCode::METHOD_NOT_ALLOWED => refused(RefusalReason::MethodNotAllowed),
                StatusCode::UPGRADE_REQUIRED => refused(RefusalReason::UpgradeRequired),
                StatusCode::SERVICE_UNAVAILABLE if self.metrics.is_draining() => {
                    refused(RefusalReason::Draining)
                }
                StatusCode::SERVICE_UNAVAILABLE => refused(RefusalReason::OutOfDescriptors),
                StatusCode::REQUEST_TIMEOUT => refused(RefusalReason::HandshakeTimeout),
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => refused(RefusalReason::HeadTooLarge),
                // The page and the metrics: there are no other answers.
                _ => {}
            },
        }
    }
}
