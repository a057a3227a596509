//! The thread of the HTTP API for backends.

use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::watch;
use uproar_protocol::tls::ServerConfig;

use super::error::ServerError;
use super::thread_context::{ThreadContext, ThreadReport};
use crate::api::{self, ApiKeyFile, ApiKeys, ApiLimits, ApiListener, ApiServices};
use crate::config::{ApiAddress, Config};
use crate::handshake::Intake;
use crate::mail::Delivery;
use crate::mesh::Mesh;

/// The API, before its thread is started.
pub(super) struct ApiStart {
    listener: ApiListener,
    keys: Option<watch::Receiver<Arc<ApiKeys>>>,
}

/// Its place among the threads.
pub(super) struct ApiPlace {
    /// As what it reports that it is drained: the acceptors have the indices before it.
    pub(super) index: usize,
    pub(super) mesh: Mesh,
    /// The answers of all shards.
    pub(super) answers: UnboundedReceiver<Delivery>,
    pub(super) tls: watch::Receiver<Option<Arc<ServerConfig>>>,
    /// Whether it is to take requests, like connections.
    pub(super) intake: watch::Receiver<Intake>,
}

impl ApiStart {
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

    /// Starts the thread.
    pub(super) fn spawn(
        self,
        context: &ThreadContext,
        place: ApiPlace,
    ) -> Result<JoinHandle<()>, ServerError> {
        let Self { listener, keys } = self;
        let ApiPlace { index, mesh, answers, tls, intake } = place;
        let config = &context.config;
        let services = ApiServices {
            keys,
            tls: config.api_tls.then_some(tls),
            directory: context.directory.clone(),
            metrics: context.metrics.clone(),
            mesh,
            limits: ApiLimits {
                message_bytes_max: config.max_message_bytes,
                frame_bytes_max: config.max_frame_bytes,
            },
        };
        let end = context.report_end(ServerError::Api(io::Error::other("its thread has panicked")));
        let reports = context.reports.clone();
        let run = move || {
            let drained = reports.clone();
            let ready = move || reports.send(ThreadReport::Ready);
            let drained = move || drained.send(ThreadReport::AcceptorDrained(index));
            let served = api::run_server(&listener, services, answers, intake, ready, drained);
            end.report(served.map_err(ServerError::Api));
        };
        thread::Builder::new().name("api".to_owned()).spawn(run).map_err(ServerError::Api)
    }
}
