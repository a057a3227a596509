//! The thread of the HTTP interface for backends.

use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use tokio::sync::watch;
use uproar_protocol::tls::ServerConfig;

use super::error::ServerError;
use super::thread_context::{ThreadContext, ThreadReport};
use crate::api::{self, ApiAddress, ApiKeyFile, ApiKeys, ApiListener, ApiServices};
use crate::config::Config;

/// The interface, before its thread is started.
pub(super) struct ApiStart {
    listener: ApiListener,
    keys: Option<watch::Receiver<Arc<ApiKeys>>>,
}

impl ApiStart {
    /// Reads the keys and listens, if the configuration has the interface.
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

    /// Starts the thread. It ends when `stopping` becomes true.
    pub(super) fn spawn(
        self,
        context: &ThreadContext,
        tls: watch::Receiver<Option<Arc<ServerConfig>>>,
        stopping: watch::Receiver<bool>,
    ) -> Result<JoinHandle<()>, ServerError> {
        let Self { listener, keys } = self;
        let services = ApiServices {
            keys,
            tls: context.config.api_tls.then_some(tls),
            directory: context.directory.clone(),
            metrics: context.metrics.clone(),
        };
        let end = context.report_end(ServerError::Api(io::Error::other("its thread has panicked")));
        let reports = context.reports.clone();
        let run = move || {
            let ready = move || reports.send(ThreadReport::Ready);
            end.report(api::run_server(&listener, services, stopping, ready).map_err(ServerError::Api));
        };
        thread::Builder::new().name("api".to_owned()).spawn(run).map_err(ServerError::Api)
    }
}
