//! The control thread: the HTTP API for backends, and the backend in the process that embeds the server.

use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::watch;
use uproar_protocol::tls::ServerConfig;

use super::error::ServerError;
use super::thread_context::{ThreadContext, ThreadReport};
use crate::api::{
    ApiKeyFile, ApiKeys, ApiLimits, ApiListener, Control, ControlServices, HttpApi, LocalBackend,
};
use crate::config::{ApiAddress, Config};
use crate::events::{EventCollector, EventLog};
use crate::handshake::Intake;
use crate::kept_requests::KeptRequests;
use crate::mail::Delivery;
use crate::mesh::Mesh;
use crate::storage::StateLink;

/// The listener of the HTTP API and its keys, before the thread is started.
pub(super) struct ApiDoor {
    listener: ApiListener,
    keys: Option<watch::Receiver<Arc<ApiKeys>>>,
}

/// The thread's place among the others.
pub(super) struct ControlPlace {
    /// As what it reports that it is drained: the acceptors have the indices before it.
    pub(super) index: usize,
    pub(super) mesh: Mesh,
    /// The answers of all shards.
    pub(super) answers: UnboundedReceiver<Delivery>,
    pub(super) tls: watch::Receiver<Option<Arc<ServerConfig>>>,
    /// What happens on this node, where somebody watches it, and its collector.
    pub(super) events: Option<(EventLog, EventCollector)>,
    /// The requests with an idempotency key.
    pub(super) requests: KeptRequests,
    /// Where they are noted, with `--data`.
    pub(super) state: Option<StateLink>,
    /// Whether it is to take requests, like connections.
    pub(super) intake: watch::Receiver<Intake>,
}

impl ApiDoor {
    /// Reads the keys and listens, if the configuration has the API.
    pub(super) fn open(config: &Config) -> Result<(Option<Self>, Option<ApiKeyFile>), ServerError> {
        let Some(address) = &config.api_listen else { return Ok((None, None)) };
        let (file, keys) = config.api_key_file.as_deref().map(ApiKeyFile::open).transpose()?.unzip();
        let listener = ApiListener::open(address)?;
        Ok((Some(Self { listener, keys }), file))
    }

    /// The address, with the port that the kernel has chosen for port 0.
    pub(super) fn address(&self) -> io::Result<ApiAddress> {
        self.listener.address()
    }
}

/// Starts the thread.
pub(super) fn spawn_control(
    context: &ThreadContext,
    place: ControlPlace,
    door: Option<ApiDoor>,
) -> Result<(JoinHandle<()>, LocalBackend), ServerError> {
    let ControlPlace { index, mesh, answers, tls, events, requests, state, intake } = place;
    let (events, collector) = events.unzip();
    let config = &context.config;
    let services = ControlServices {
        directory: context.directory.clone(),
        collector,
        metrics: context.metrics.clone(),
        mesh,
        limits: ApiLimits {
            message_bytes_max: config.max_message_bytes,
            frame_bytes_max: config.max_frame_bytes,
        },
        moderation: context.moderation.clone(),
    };
    let tls = config.api_tls.then_some(tls);
    let http = door.zip(events);
    let http = http.map(|(door, events)| {
        let ApiDoor { listener, keys } = door;
        HttpApi { events, requests, state, listener, keys, tls }
    });
    let control = Control::new(services).map_err(ServerError::Control)?;
    let backend = control.backend();
    let end = context.report_end(ServerError::Control(io::Error::other("its thread has panicked")));
    let reports = context.reports.clone();
    let run = move || {
        let drained = reports.clone();
        let ready = move || reports.send(ThreadReport::Ready);
        let drained = move || drained.send(ThreadReport::AcceptorDrained(index));
        end.report(control.run(http, answers, intake, ready, drained).map_err(ServerError::Control));
    };
    let thread = thread::Builder::new().name("control".to_owned());
    Ok((thread.spawn(run).map_err(ServerError::Control)?, backend))
}
