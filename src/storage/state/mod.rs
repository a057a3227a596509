//! The file `state.db`: what outlives the server beside messages and accounts.
//!
//! The state in memory is the truth, and the file follows it: a [`StateChange`] says which row is out of date, and the
//! writer reads the present value when it writes. So changes may be lost (when the queue is full, or while the disk fails):
//! then all rows are written anew. Nobody waits for the file, and messages do not depend on it. The exception are requests
//! of backends with an idempotency key: each is written before it is carried out, and its answer waits until its outcome is
//! written. There may be so many of them that they are written anew in steps.
//!
//! Each table has a file of its own, with the step of the schema that creates it. The thread is in `writer`.

mod requests;
mod sessions;
mod terms;
#[cfg(test)]
mod tests;
mod user_ids;
mod writer;

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, TransactionBehavior};

use self::user_ids::{ReservedIds, SeriesId};
use super::database::{self, BALLAST_BYTES, DatabaseError, FileIdentity, LogState, Schema, WriteError};
use crate::clock::unix_seconds;
use crate::kept_requests::{KeptRequest, KeptRequests, RequestKey};
use crate::moderation::{BanSubject, Moderation, MuteSubject, StoredTerms};
use crate::rooms::{EndedSession, UserId, Users};

pub use writer::{StateLink, StateQueueFull, StateWriter};

/// The file's name in the data directory.
pub const STATE_FILE: &str = "state.db";

const SCHEMA: Schema = Schema {
    // "Upro" in ASCII, with the last digit for what is in it.
    application_id: 0x5570_7203,
    steps: &[
        user_ids::CREATE,
        sessions::CREATE,
        CREATE_BALLAST,
        terms::CREATE,
        terms::ADD_NETWORK,
        terms::ADD_BAN_IDS,
        requests::CREATE,
    ],
};

const CREATE_BALLAST: &str = "
    -- Empty, except while the free space of a disk is tested after a failure.
    CREATE TABLE ballast (content BLOB NOT NULL) STRICT;
";

/// A row that is out of date.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum StateChange {
    /// A user was registered, has come back, gone, or changed name, account or room.
    User(UserId),
    /// A ban was made, changed or ended.
    Ban(BanSubject),
    /// A mute was made, changed or ended.
    Mute(MuteSubject),
    /// A request with an idempotency key has begun or ended, or is forgotten.
    Request(RequestKey),
}

/// The state in memory that the file follows.
#[derive(Clone, Debug)]
pub struct StateSources {
    /// The users, and the last id that was given out.
    pub users: Users,
    /// The bans and mutes in force.
    pub moderation: Moderation,
    /// The requests with an idempotency key.
    pub requests: KeptRequests,
}

/// The stored state, as read at the start.
#[derive(Clone, Debug)]
pub struct RestoredState {
    /// The last user id that may have been given out.
    pub last_user: u64,
    /// The last user id that no later start gives again.
    pub reserved_through: u64,
    /// Identifies the series that user ids belong to; another file has another one.
    pub series: [u8; 16],
    /// The sessions that may be resumed.
    pub sessions: Vec<EndedSession>,
    /// The bans and mutes in force.
    pub terms: StoredTerms,
    /// The requests of backends with an idempotency key, the oldest first.
    pub requests: Vec<(RequestKey, KeptRequest)>,
}

/// When a commit must be on the disk, so that a power failure does not take it back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sync {
    /// When it returns.
    Now,
    /// With a later one.
    Later,
}

/// The open file.
#[derive(Debug)]
pub struct StateFile {
    connection: Connection,
    path: PathBuf,
    identity: FileIdentity,
    reserved: ReservedIds,
}

impl StateFile {
    /// Opens or creates the file. Sessions that have ended longer ago than the timeout are removed, and those that were
    /// online when the server was killed end now.
    ///
    /// # Errors
    ///
    /// [`DatabaseError`].
    pub fn open(
        path: &Path,
        session_timeout: Duration,
        unix_seconds: u64,
    ) -> Result<(Self, RestoredState), DatabaseError> {
        let mut connection = database::open(path, &SCHEMA)?;
        let failed = |source| DatabaseError::new(path, source);
        let damaged = |detail: &str| DatabaseError::Damaged { path: path.to_owned(), detail: detail.into() };
        let transaction =
            connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
        let found = user_ids::find(&transaction).map_err(failed)?;
        let (SeriesId(series), last_user) = found.ok_or_else(|| damaged("an invalid series of user ids"))?;
        let sessions = sessions::restore(&transaction, session_timeout, unix_seconds).map_err(failed)?;
        let sessions = sessions.ok_or_else(|| damaged("an invalid session"))?;
        terms::remove_ended(&transaction, unix_seconds).map_err(failed)?;
        let terms = terms::restore(&transaction).map_err(failed)?;
        let terms = terms.ok_or_else(|| damaged("an invalid ban or mute"))?;
        let requests = requests::restore(&transaction, unix_seconds).map_err(failed)?;
        let requests = requests.ok_or_else(|| damaged("an invalid request"))?;
        let last_session = sessions.iter().map(|session| session.user.get()).max();
        if last_session.is_some_and(|last| last > last_user) {
            return Err(damaged("a session of a user whose id was not given out"));
        }
        let reserved = ReservedIds::ahead_of(last_user);
        reserved.save(&transaction).map_err(failed)?;
        transaction.commit().map_err(failed)?;
        let identity = FileIdentity::of(path)
            .map_err(|source| DatabaseError::NotCreated { path: path.to_owned(), source })?;
        let file = Self { connection, path: path.to_owned(), identity, reserved };
        let reserved_through = reserved.through();
        Ok((file, RestoredState { last_user, reserved_through, series, sessions, terms, requests }))
    }

    /// Writes the present values of these rows, all or none.
    ///
    /// # Errors
    ///
    /// [`WriteError`]; nothing was written, or only to a file that has been deleted.
    pub fn write(&mut self, changes: &[StateChange], sources: &StateSources) -> Result<(), WriteError> {
        let is_of_user = |change: &StateChange| matches!(change, StateChange::User(_));
        let is_of_request = |change: &StateChange| matches!(change, StateChange::Request(_));
        let sync = if changes.iter().all(is_of_user) { Sync::Later } else { Sync::Now };
        self.write_with(sources, sync, |transaction| {
            for change in changes {
                match change {
                    StateChange::User(user) => sessions::save(transaction, *user, &sources.users)?,
                    StateChange::Ban(subject) => terms::save_ban(transaction, subject, &sources.moderation)?,
                    StateChange::Mute(subject) => {
                        terms::save_mute(transaction, subject, &sources.moderation)?
                    }
                    StateChange::Request(key) => requests::save(transaction, *key, &sources.requests)?,
                }
            }
            // Those that end by themselves are not told of.
            if changes.iter().any(is_of_request) {
                requests::remove_old(transaction, unix_seconds())?;
            }
            match sync {
                Sync::Now => terms::remove_ended(transaction, unix_seconds()),
                Sync::Later => Ok(()),
            }
        })
    }

    /// Writes all rows anew, except those of requests.
    ///
    /// # Errors
    ///
    /// As for [`StateFile::write`].
    pub fn write_all(&mut self, sources: &StateSources) -> Result<(), WriteError> {
        self.write_with(sources, Sync::Now, |transaction| save_all(transaction, sources))
    }

    /// As [`StateFile::write_all`] after a failure. It also tests for free space, so that a full disk does not seem to
    /// recover every second.
    ///
    /// # Errors
    ///
    /// As for [`StateFile::write`].
    pub fn renew(&mut self, sources: &StateSources) -> Result<(), WriteError> {
        self.check_place()?;
        self.connection.execute("INSERT INTO ballast VALUES (zeroblob(?1))", [BALLAST_BYTES])?;
        self.write_with(sources, Sync::Now, |transaction| {
            transaction.execute("DELETE FROM ballast", [])?;
            save_all(transaction, sources)
        })
    }

    /// Writes some rows of requests anew, from the first or behind a key, in the order of the keys. Returns where to go on;
    /// `None` when all are written.
    ///
    /// # Errors
    ///
    /// As for [`StateFile::write`].
    pub fn renew_requests(
        &mut self,
        after: Option<RequestKey>,
        sources: &StateSources,
    ) -> Result<Option<RequestKey>, WriteError> {
        self.write_with(sources, Sync::Now, |transaction| {
            requests::renew(transaction, after, &sources.requests)
        })
    }

    fn write_with<T>(
        &mut self,
        sources: &StateSources,
        sync: Sync,
        write: impl FnOnce(&rusqlite::Transaction<'_>) -> rusqlite::Result<T>,
    ) -> Result<T, WriteError> {
        self.check_place()?;
        let renewed = self.reserved.renewed(sources.users.last_id());
        // A session that a power failure takes back costs its user a new id, which is no reason to wait for the disk that
        // history.db uses, too. An id that is given twice, or a ban that is lost, would cost more.
        let synchronous = if renewed.is_some() || sync == Sync::Now { "FULL" } else { "NORMAL" };
        self.connection.pragma_update(None, "synchronous", synchronous)?;
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let written = write(&transaction)?;
        if let Some(reserved) = &renewed {
            reserved.save(&transaction)?;
        }
        transaction.commit()?;
        // What was committed to a deleted file is lost.
        self.check_place()?;
        if let Some(reserved) = renewed {
            self.reserved = reserved;
            sources.users.reserve_through(reserved.through());
        }
        Ok(written)
    }

    /// Checks that the file has not been deleted, moved or replaced.
    ///
    /// # Errors
    ///
    /// [`WriteError::Missing`].
    pub fn check_place(&self) -> Result<(), WriteError> {
        self.identity.check()
    }

    /// Truncates the write-ahead log, if it has grown and no other program reads it.
    ///
    /// # Errors
    ///
    /// An error of SQLite; the log is unchanged.
    pub fn shorten_log(&self) -> rusqlite::Result<LogState> {
        database::shorten_log(&self.connection, &self.path)
    }

    /// Writes all rows except those of requests, and the exact last user id, and moves the write-ahead log into the file.
    ///
    /// # Errors
    ///
    /// [`WriteError`]: then the next start finds a gap in the ids, and the sessions that were written before.
    pub fn close(mut self, sources: &StateSources) -> Result<(), WriteError> {
        let exact = ReservedIds::none_ahead_of(sources.users.last_id());
        let written = self.write_all(sources).and_then(|()| Ok(exact.save(&self.connection)?));
        let closed = self.connection.close().map_err(|(_, error)| error.into());
        written.and(closed)
    }
}

fn save_all(transaction: &rusqlite::Transaction<'_>, sources: &StateSources) -> rusqlite::Result<()> {
    sessions::save_all(transaction, &sources.users)?;
    terms::save_all(transaction, &sources.moderation)
}
