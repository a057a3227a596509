//! The HTTP API for backends, on a listener of its own, never on the clients' port.
//!
//! It runs on a thread of its own with axum on tokio, beside the shards. It never touches a shard's state: it sends requests
//! to homes through the mesh, like a shard, so a slow backend delays no room.
//!
//! A request passes through `serve` (connections and their limits), `access` (keys, scopes, origins), `body` and `fields`,
//! and one function of `handlers`. `outcome` carries it out once. Failures are a [`Problem`].

mod access;
mod body;
mod command;
mod fields;
mod finished;
mod handlers;
mod idempotency;
mod keys;
mod link;
mod listener;
mod message;
mod outcome;
mod parameters;
mod problem;
mod router;
mod serve;
mod state;

use std::io;
use std::sync::Arc;

use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::watch;
use uproar_protocol::tls::ServerConfig;

use self::access::AccessPolicy;
use self::body::BodyBudget;
use self::idempotency::Outcomes;
use self::link::MeshLink;
use crate::handshake::Intake;
use crate::mail::Delivery;
use crate::mesh::Mesh;
use crate::metrics::Metrics;
use crate::rooms::Directory;
pub use command::{ApiKeyCommand, run};
pub use keys::{ApiKeyError, ApiKeyFile, ApiKeys, NewKeyError, Scope, Scopes};
pub use listener::{ApiListenError, ApiListener};
pub use problem::{FieldError, Problem, ProblemKind};
pub use state::ApiLimits;
use state::{Api, ApiState};

/// What the interface needs of the server.
#[derive(Debug)]
pub struct ApiServices {
    /// The keys in use; `None` without a file of them.
    pub keys: Option<watch::Receiver<Arc<ApiKeys>>>,
    /// The TLS configuration in use; `None` for plain HTTP.
    pub tls: Option<watch::Receiver<Option<Arc<ServerConfig>>>>,
    /// Rooms and users.
    pub directory: Directory,
    /// The numbers of all threads.
    pub metrics: Metrics,
    /// The mailboxes of all shards.
    pub mesh: Mesh,
    /// What messages are held to.
    pub limits: ApiLimits,
}

/// Serves the interface until [`Intake::Closed`], on the calling thread. `ready` is called once it serves, and `drained` once it
/// sends no request to a shard any more, after [`Intake::Draining`]. `answers` are those of all shards.
///
/// # Errors
///
/// When the runtime or the listener fails.
pub fn run_server(
    listener: &ApiListener,
    services: ApiServices,
    answers: UnboundedReceiver<Delivery>,
    intake: watch::Receiver<Intake>,
    ready: impl FnOnce(),
    drained: impl FnOnce() + Send + 'static,
) -> io::Result<()> {
    let ApiServices { keys, tls, directory, metrics, mesh, limits } = services;
    let is_key_needed = matches!(listener, ApiListener::Tcp(_));
    let link = MeshLink::new(mesh);
    let api = Api(Arc::new(ApiState {
        access: AccessPolicy { keys, is_key_needed },
        bodies: BodyBudget::default(),
        outcomes: Outcomes::default(),
        link: link.clone(),
        directory,
        metrics,
        limits,
    }));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        tokio::spawn(link.clone().run(answers));
        let mut draining = intake.clone();
        tokio::spawn(async move {
            // It fails when the server has ended, and then nobody waits for it.
            if draining.wait_for(|intake| *intake >= Intake::Draining).await.is_ok() {
                link.close();
                drained();
            }
        });
        ready();
        serve::serve(listener, tls, router::router(api), intake).await
    })
}
