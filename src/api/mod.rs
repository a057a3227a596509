//! The doors for backends: the HTTP API, on a listener of its own and never on the clients' port, and [`LocalBackend`] for
//! the program that embeds the server.
//!
//! Both run on the control thread, with axum on tokio for HTTP, beside the shards. It never touches a shard's state: it
//! sends requests to homes through the mesh, like a shard, so a slow backend delays no room.
//!
//! An HTTP request passes through `serve` and `open_connections` (connections and their limits), `access` (keys, scopes,
//! origins), `body` and `fields`, and one function of `handlers`. `outcome` carries it out once. Failures are a [`Problem`].
//! What both doors do alike is in `publishing`.

mod access;
mod body;
mod command;
mod fields;
mod finished;
mod handlers;
mod idempotency;
mod keys;
mod limits;
mod link;
mod listener;
mod local;
mod message;
mod open_connections;
mod orders;
mod outcome;
mod parameters;
mod problem;
mod publishing;
mod router;
mod serve;
mod shard_loads;
mod state;
mod stats;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::sync::Semaphore;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::watch;
use uproar_protocol::tls::ServerConfig;

use self::access::AccessPolicy;
use self::body::BodyBudget;
use self::idempotency::Outcomes;
use self::link::MeshLink;
use self::publishing::Publisher;
use self::shard_loads::ShardLoads;
use crate::events::{EventCollector, EventLog};
use crate::handshake::Intake;
use crate::kept_requests::KeptRequests;
use crate::mail::Delivery;
use crate::mesh::Mesh;
use crate::metrics::Metrics;
use crate::moderation::Moderation;
use crate::rooms::{COLLECT_EVERY, Directory};
use crate::storage::StateLink;
pub use command::{ApiKeyCommand, run};
pub use keys::{ApiKeyError, ApiKeyFile, ApiKeys, NewKeyError, Scope, Scopes};
pub use limits::ApiLimits;
pub use listener::{ApiListenError, ApiListener};
pub use local::{LocalBackend, Payload, Published};
pub use message::Message;
pub use problem::{FieldError, Problem, ProblemKind};
pub use publishing::PublishError;
use state::{Api, ApiState};
pub use stats::Stats;

/// How often the thread tells that it runs. `/readyz` reports when it has not for ten times as long.
const BEAT_EVERY: Duration = Duration::from_secs(1);

/// What the doors need of the server.
#[derive(Debug)]
pub struct ControlServices {
    /// Rooms and users.
    pub directory: Directory,
    /// Collects what happens on this node, where somebody watches it.
    pub collector: Option<EventCollector>,
    /// The numbers of all threads.
    pub metrics: Metrics,
    /// The mailboxes of all shards.
    pub mesh: Mesh,
    /// What messages are held to.
    pub limits: ApiLimits,
    /// The bans and mutes in force.
    pub moderation: Moderation,
}

/// The HTTP API, before it serves.
#[derive(Debug)]
pub struct HttpApi {
    /// What happens on this node.
    pub events: EventLog,
    /// The requests with an idempotency key, among them those of an earlier life of the server.
    pub requests: KeptRequests,
    /// Where they are noted, with `--data`.
    pub state: Option<StateLink>,
    /// Where it listens.
    pub listener: ApiListener,
    /// The keys in use; `None` without a file of them.
    pub keys: Option<watch::Receiver<Arc<ApiKeys>>>,
    /// The TLS configuration in use; `None` for plain HTTP.
    pub tls: Option<watch::Receiver<Option<Arc<ServerConfig>>>>,
}

/// The control thread's work.
#[derive(Debug)]
pub struct Control {
    runtime: Runtime,
    collector: Option<EventCollector>,
    link: MeshLink,
    backend: LocalBackend,
    directory: Directory,
    metrics: Metrics,
    loads: Arc<ShardLoads>,
    limits: ApiLimits,
    moderation: Moderation,
}

impl Control {
    /// Sets its runtime up.
    ///
    /// # Errors
    ///
    /// When the runtime cannot be set up.
    pub fn new(services: ControlServices) -> io::Result<Self> {
        let ControlServices { directory, collector, metrics, mesh, limits, moderation } = services;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let link = MeshLink::new(mesh);
        let publisher = Publisher { link: link.clone(), directory: directory.clone() };
        let loads = Arc::new(ShardLoads::new(&metrics));
        let backend = LocalBackend::new(
            runtime.handle().clone(),
            publisher,
            metrics.clone(),
            Arc::clone(&loads),
            limits,
        );
        Ok(Self { runtime, collector, link, backend, directory, metrics, loads, limits, moderation })
    }

    /// The backend in this process. It works while [`Control::run`] runs.
    #[must_use]
    pub fn backend(&self) -> LocalBackend {
        self.backend.clone()
    }

    /// Serves both doors on the calling thread, until [`Intake::Closed`] and the end of all shards. `answers` are those of
    /// the shards. `ready` is called once it serves, and `drained` once it sends no request to a shard any more, after
    /// [`Intake::Draining`].
    ///
    /// # Errors
    ///
    /// When the listener fails.
    pub fn run(
        self,
        http: Option<HttpApi>,
        answers: UnboundedReceiver<Delivery>,
        intake: watch::Receiver<Intake>,
        ready: impl FnOnce(),
        drained: impl FnOnce() + Send + 'static,
    ) -> io::Result<()> {
        let Self { runtime, collector, link, backend, directory, metrics, loads, limits, moderation } = self;
        runtime.block_on(async {
            let answering = tokio::spawn(link.clone().run(answers));
            let collecting = collector.map(|collector| tokio::spawn(collector.run()));
            let (closing, mut draining) = (link.clone(), intake.clone());
            tokio::spawn(async move {
                // It fails when the server has failed, which ends requests, too.
                let _ = draining.wait_for(|intake| *intake >= Intake::Draining).await;
                closing.close();
                drained();
            });
            tokio::spawn(beat(metrics.clone()));
            tokio::spawn(keep_figures(directory.clone(), metrics.clone(), Arc::clone(&loads)));
            ready();
            let serving = async {
                let Some(HttpApi { events, requests, state, listener, keys, tls }) = http else {
                    return Ok(());
                };
                let is_key_needed = matches!(listener, ApiListener::Tcp(_));
                let publisher = Publisher { link: link.clone(), directory: directory.clone() };
                let api = Api(Arc::new(ApiState {
                    access: AccessPolicy { keys, is_key_needed },
                    bodies: BodyBudget::default(),
                    outcomes: Outcomes::new(requests, state),
                    link,
                    publisher,
                    directory,
                    events,
                    metrics,
                    loads,
                    limits,
                    moderation,
                    works: Arc::new(Semaphore::new(outcome::WORKS_MAX)),
                    order_room: Semaphore::new(orders::ORDERS_MAX),
                }));
                let metrics = Arc::clone(api.0.metrics.api());
                serve::serve(&listener, tls, router::router(api), metrics, intake).await
            };
            // Those who watch are told of everything, and then of the end.
            let collecting = async {
                match collecting {
                    Some(collecting) => collecting.await.map_err(io::Error::other),
                    None => Ok(()),
                }
            };
            let answering = async { answering.await.map_err(io::Error::other) };
            // A failure of one of them is one of the thread: nothing would be answered any more.
            tokio::try_join!(serving, answering, collecting)?;
            // Requests of this process have an answer, or are told that it is lost.
            backend.under_way().wait_until_none().await;
            Ok(())
        })
    }
}

/// Tells that the thread runs.
async fn beat(metrics: Metrics) {
    let mut ticks = tokio::time::interval(BEAT_EVERY);
    loop {
        ticks.tick().await;
        metrics.api().heartbeat.set();
    }
}

/// Collects the figures of the last seconds, for those who ask for them.
async fn keep_figures(directory: Directory, metrics: Metrics, loads: Arc<ShardLoads>) {
    let mut ticks = tokio::time::interval(COLLECT_EVERY);
    loop {
        ticks.tick().await;
        directory.recent_fan_outs().collect();
        loads.note(&metrics);
    }
}
