//! Errors of the server.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use thiserror::Error;

use crate::accounts::AccountError;
use crate::api::{ApiKeyError, ApiListenError};
use crate::certificate::CertificateError;
use crate::cluster::ClusterError;
use crate::config::ConfigError;
use crate::preflight::PreflightReport;
use crate::sessions::SessionKeyError;
use crate::storage::{DatabaseError, DirectoryError};
use crate::tokens::TokenKeyError;

/// Why the server did not start, or how it failed.
#[expect(missing_docs, reason = "the fields are what their names and types say")]
#[derive(Debug, Error)]
pub enum ServerError {
    /// A setting is not allowed.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The machine cannot run the server. The text is the report of the preflight, which says what to change.
    #[error("this machine cannot run the server:\n{0}")]
    Preflight(PreflightReport),
    /// Listening failed.
    #[error("cannot listen on {address}: {source}; {advice}")]
    Listen { address: SocketAddr, source: io::Error, advice: &'static str },
    /// A shard's thread could not be started or has failed.
    #[error("shard {shard} failed: {source}")]
    Shard { shard: u16, source: io::Error },
    /// An acceptor's thread could not be started or has failed.
    #[error("acceptor {acceptor} failed: {source}")]
    Acceptor { acceptor: usize, source: io::Error },
    /// The data directory cannot be used.
    #[error(transparent)]
    Data(#[from] DirectoryError),
    /// The accounts cannot be used.
    #[error(transparent)]
    Accounts(#[from] AccountError),
    /// Users must sign in, and there are no accounts.
    #[error(
        "--auth required, but there is no account in {}; add one with: uproar user add NAME --admin --data {}",
        data.display(),
        data.display()
    )]
    NoAccounts { data: PathBuf },
    /// The certificate cannot be used.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// The keys of tokens cannot be used.
    #[error(transparent)]
    TokenKeys(#[from] TokenKeyError),
    /// The keys of the HTTP API cannot be used.
    #[error(transparent)]
    ApiKeys(#[from] ApiKeyError),
    /// The HTTP API cannot listen.
    #[error(transparent)]
    ApiListen(#[from] ApiListenError),
    /// The control thread, which serves the HTTP API, could not be started or has failed.
    #[error("the HTTP API has failed: {0}")]
    Control(io::Error),
    /// The key of sessions cannot be used.
    #[error(transparent)]
    SessionKey(#[from] SessionKeyError),
    /// The history or the state cannot be used.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// The server cannot take part in its cluster, or not any more.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// The thread that writes the history has failed.
    #[error("the storage has failed: its thread has panicked")]
    Storage,
    /// The thread that writes the state has failed.
    #[error("the storage of users has failed: its thread has panicked")]
    State,
    /// The thread of the program's hooks could not be started or has panicked.
    #[error("the hooks have failed: {0}")]
    Hooks(io::Error),
    /// The thread that leads the others has failed.
    #[error("the server has failed: its leading thread has panicked")]
    Lead,
    /// A thread did not end in time.
    #[error(
        "some threads did not stop in time, and history.db may not have been closed; acknowledged messages are \
         safe: check the disk"
    )]
    NotStopped,
    /// The shutdown was cut short: by a second signal, or by [`Server::interrupt`](super::Server::interrupt).
    #[error("the shutdown was cut short by a second signal or order")]
    Interrupted,
    /// Signals or threads could not be set up.
    #[error("cannot start: {0}")]
    Start(#[from] io::Error),
}

impl ServerError {
    /// True when a server that has served and has ended so, or cannot begin anew yet, may try it with the same
    /// configuration.
    #[must_use]
    pub fn may_begin_anew(&self) -> bool {
        matches!(self, Self::Cluster(error) if error.may_begin_anew())
    }
}
