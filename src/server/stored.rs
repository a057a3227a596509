//! What outlives the server with `--data`: opens history and state, and starts the threads that write them.

use std::sync::Arc;
use std::thread::{self, JoinHandle};

use tracing::warn;
use uproar_ring::Waker;

use super::error::ServerError;
use super::thread_context::ThreadContext;
use crate::clock::unix_seconds;
use crate::config::Config;
use crate::kept_requests::KeptRequests;
use crate::moderation::Moderation;
use crate::rooms::{Directory, UserId};
use crate::sessions::{SessionKey, SessionSigner};
use crate::shard::SessionSettings;
use crate::storage::{
    DataDirectory, HistoryFile, HistoryWriter, RestoredState, STATE_FILE, StateFile, StateLink, StateSources,
    StateWriter, StorageLink,
};

/// Sessions that have ended and are kept, where there may be fewer clients than this; otherwise as many as clients, because
/// all may be closed at once. Some 300 bytes each: 20 MB.
pub(super) const SESSIONS_MIN: usize = 1 << 16;

/// The state that outlives the server, with `--data`, and how users come back.
pub(super) type OpenedState = (Option<SessionSettings>, Option<(StateFile, RestoredState)>);

/// Opens the state of users and the key of their sessions, which is that of the cluster if there is one, and continues their
/// ids and sessions, the bans and the mutes.
pub(super) fn open_state(
    config: &Config,
    data: Option<&DataDirectory>,
    directory: &Directory,
    moderation: &Moderation,
    last_author: Option<UserId>,
    (sessions_max, shared_key): (usize, Option<&SessionKey>),
) -> Result<OpenedState, ServerError> {
    let users = directory.users();
    let unix_seconds = unix_seconds();
    let (key, state) = match data {
        None => (shared_key.cloned().unwrap_or_else(SessionKey::random), None),
        Some(data) => {
            let key = SessionKey::open(data.path())?;
            let path = data.path().join(STATE_FILE);
            (key, Some(StateFile::open(&path, config.session_timeout, unix_seconds)?))
        }
    };
    // Nobody is taken for the author of a kept message, also where the state was lost.
    users.continue_after(last_author.map_or(0, UserId::get));
    let series = state.as_ref().map_or([0; 16], |(_, restored)| restored.series);
    if let Some((_, restored)) = &state {
        users.continue_after(restored.last_user);
        users.reserve_through(restored.reserved_through);
        users.restore(&restored.sessions);
        let left_out = moderation.restore(&restored.terms, unix_seconds);
        if left_out > 0 {
            warn!(left_out, "{STATE_FILE} has more bans or mutes than are kept; some are not in force");
        }
    }
    let timeout_ms = config.session_timeout.as_millis() as u64;
    let signer = SessionSigner::new(&key, series);
    let settings = SessionSettings { signer, timeout_ms, kept_max: sessions_max };
    Ok(((timeout_ms > 0).then_some(settings), state))
}

/// Starts the thread that writes the state. It ends when every shard and the API have dropped their links.
pub(super) fn spawn_state_writer(
    file: StateFile,
    context: &ThreadContext,
    requests: KeptRequests,
) -> Result<(JoinHandle<()>, StateLink), ServerError> {
    let (users, moderation) = (context.directory.users().clone(), context.moderation.clone());
    let sources = StateSources { users, moderation, requests };
    let (writer, link) = StateWriter::new(file, sources);
    let end = context.report_end(ServerError::State);
    let thread = thread::Builder::new().name("state".to_owned());
    let run = move || {
        writer.run();
        end.report(Ok(()));
    };
    Ok((thread.spawn(run)?, link))
}

/// Starts the thread that writes to the disk. It ends when every shard has dropped its link.
pub(super) fn spawn_storage(
    file: HistoryFile,
    context: &ThreadContext,
    shards: Vec<Waker>,
) -> Result<(JoinHandle<()>, Vec<StorageLink>), ServerError> {
    let metrics = Arc::clone(context.metrics.storage());
    let (writer, links) = HistoryWriter::new(file, shards, metrics);
    let end = context.report_end(ServerError::Storage);
    let thread = thread::Builder::new().name("storage".to_owned());
    let thread = thread.spawn(move || end.report(writer.run().map_err(ServerError::from)))?;
    Ok((thread, links))
}
