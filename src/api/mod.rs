//! The backend's door: an HTTP interface on a listener of its own, never on the clients' port.
//!
//! It runs on a thread of its own with axum on tokio, beside the shards. It never touches a shard's state: what it wants of a
//! room or a user it asks for through the mesh, like a shard, and a slow backend slows no room down.
//!
//! A request passes through `serve` (connections and their limits), [`access`](self) (keys, scopes, origins), `body` and `fields`
//! (what it says), and one function of `handlers`. Failures are a [`Problem`].

mod access;
mod body;
mod command;
mod fields;
mod idempotency;
mod handlers;
mod keys;
mod listener;
mod problem;
mod router;
mod serve;

use std::io;
use std::sync::Arc;

use tokio::sync::watch;
use uproar_protocol::tls::ServerConfig;

use self::access::AccessPolicy;
use self::body::BodyBudget;
use crate::metrics::Metrics;
use crate::rooms::Directory;
pub use command::{ApiKeyCommand, run};
pub use keys::{ApiKeyError, ApiKeyFile, ApiKeys, NewKeyError, Scope, Scopes};
pub use listener::{ApiAddress, ApiListenError, ApiListener};
pub use problem::{FieldError, Problem, ProblemKind};

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
}

/// What handlers share.
#[derive(Clone, Debug)]
struct Api(Arc<ApiState>);

#[derive(Debug)]
struct ApiState {
    access: AccessPolicy,
    bodies: BodyBudget,
    directory: Directory,
    metrics: Metrics,
}

/// Serves the interface until `stopping` becomes true, on the calling thread. `ready` is called once it serves.
///
/// # Errors
///
/// When the runtime or the listener fails.
pub fn run_server(
    listener: &ApiListener,
    services: ApiServices,
    stopping: watch::Receiver<bool>,
    ready: impl FnOnce(),
) -> io::Result<()> {
    let ApiServices { keys, tls, directory, metrics } = services;
    let is_key_needed = matches!(listener, ApiListener::Tcp(_));
    let api = Api(Arc::new(ApiState {
        access: AccessPolicy { keys, is_key_needed },
        bodies: BodyBudget::default(),
        directory,
        metrics,
    }));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        ready();
        serve::serve(listener, tls, router::router(api), stopping).await
    })
}
