//! Errors of the server.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use thiserror::Error;

use crate::accounts::AccountError;
use crate::api::{ApiKeyError, ApiListenError};
use crate::certificate::CertificateError;
use crate::sessions::SessionKeyError;
use crate::storage::{DatabaseError, DirectoryError};
use crate::tokens::TokenKeyError;

/// Why the server did not start, or how it failed.
#[expect(missing_docs, reason = "the fields are what their names and types say")]
#[derive(Debug, Error)]
pub enum ServerError {
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
    /// The thread of the HTTP API could not be started or has failed.
    #[error("the HTTP API has failed: {0}")]
    Api(io::Error),
    /// The key of sessions cannot be used.
    #[error(transparent)]
    SessionKey(#[from] SessionKeyError),
    /// The history or the state cannot be used.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// The thread that writes the history has failed.
    #[error("the storage has failed: its thread has panicked")]
    Storage,
    /// The thread that writes the state has failed.
    #[error("the storage of users has failed: its thread has panicked")]
    State,
    /// A thread did not end in time.
    #[error(
        "some threads did not stop in time, and history.db may not have been closed; acknowledged messages are \
         safe: check the disk"
    )]
    NotStopped,
    /// A second signal cut the shutdown short.
    #[error("stopped by a second signal")]
    Interrupted,
    /// Signals or threads could not be set up.
    #[error("cannot start: {0}")]
    Start(#[from] io::Error),
}
