//! The thread that writes `state.db`. What changes during a write is the next one; there is no timer.
//!
//! When a write fails, that is logged once and tried again every second, and nothing else depends on it.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use tracing::{debug, error, info};

use super::{STATE_FILE, StateChange, StateFile, StateSources};
use crate::storage::database::WriteError;

/// Changes that may wait for the thread: 16 bytes each, 1 MiB.
const CHANGES_WAITING_MAX: usize = 1 << 16;

/// The most changes of a transaction.
const BATCH_CHANGES_MAX: usize = 4_096;

/// How often the file is checked while it works, and tried again after a failure.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// A shard's connection to the thread.
#[derive(Clone, Debug)]
pub struct StateLink {
    changes: SyncSender<StateChange>,
    /// True once a change has found the queue full: then all rows are written anew.
    has_missed: Arc<AtomicBool>,
}

impl StateLink {
    /// Notes a change, which is in memory already. It never waits.
    pub fn note(&self, change: StateChange) {
        if self.changes.try_send(change).is_err() {
            self.has_missed.store(true, Ordering::Release);
        }
    }
}

/// The writer, to be run on a thread of its own.
#[derive(Debug)]
pub struct StateWriter {
    file: StateFile,
    sources: StateSources,
    changes: Receiver<StateChange>,
    has_missed: Arc<AtomicBool>,
    /// True while writing fails.
    is_failing: bool,
    /// When to check the file.
    check_at: Instant,
}

impl StateWriter {
    /// A writer of this file, and the link that shards use.
    #[must_use]
    pub fn new(file: StateFile, sources: StateSources) -> (Self, StateLink) {
        let (sender, changes) = sync_channel(CHANGES_WAITING_MAX);
        let has_missed = Arc::new(AtomicBool::new(false));
        let link = StateLink { changes: sender, has_missed: Arc::clone(&has_missed) };
        let check_at = Instant::now() + CHECK_INTERVAL;
        (Self { file, sources, changes, has_missed, is_failing: false, check_at }, link)
    }

    /// Writes until every link has been dropped, and then closes the file.
    pub fn run(mut self) {
        loop {
            if Instant::now() >= self.check_at {
                // Also when there is always something to write.
                self.check_file();
                self.check_at = Instant::now() + CHECK_INTERVAL;
            }
            match self.changes.recv_timeout(self.check_at.saturating_duration_since(Instant::now())) {
                Ok(change) => {
                    let others = self.changes.try_iter().take(BATCH_CHANGES_MAX - 1);
                    let batch: HashSet<_> = std::iter::once(change).chain(others).collect();
                    self.write(&batch.into_iter().collect::<Vec<_>>());
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        if let Err(error) = self.file.close(&self.sources) {
            error!("{STATE_FILE}: {error}; sessions may be lost over this restart");
        }
    }

    fn write(&mut self, batch: &[StateChange]) {
        // While it fails, changes are only in memory: the first write that succeeds is of all rows.
        if !self.is_failing
            && let Err(error) = self.file.write(batch, &self.sources)
        {
            self.fail(&error);
        }
    }

    fn fail(&mut self, error: &WriteError) {
        error!(
            "{STATE_FILE}: {error}; until it can be written, users who come back after a restart are new ones, and bans and mutes made now end with this server"
        );
        self.is_failing = true;
        self.check_at = Instant::now() + CHECK_INTERVAL;
    }

    fn check_file(&mut self) {
        if self.is_failing {
            return self.try_again();
        }
        let is_missing_changes = self.has_missed.swap(false, Ordering::Acquire);
        let written = if is_missing_changes { self.file.write_all(&self.sources) } else { Ok(()) };
        if let Err(error) = written.and_then(|()| self.file.check_place()) {
            return self.fail(&error);
        }
        // The next write, if there is one, fails for the same reason.
        if let Err(error) = self.file.shorten_log() {
            debug!("cannot truncate {STATE_FILE}-wal: {error}");
        }
    }

    fn try_again(&mut self) {
        self.has_missed.store(false, Ordering::Release);
        match self.file.renew(&self.sources) {
            Ok(()) => {
                info!("{STATE_FILE} can be written again");
                self.is_failing = false;
            }
            Err(error) => debug!("writing {STATE_FILE} still fails: {error}"),
        }
    }
}
