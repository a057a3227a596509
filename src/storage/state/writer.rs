//! The thread that writes `state.db`. What changes during a write is the next one; there is no timer.
//!
//! When a write fails, that is logged once and tried again every second, and nothing else depends on it. Then all rows are
//! written anew: those of requests in steps, between which the thread writes what has changed.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tracing::{debug, error, info};

use super::{STATE_FILE, StateChange, StateFile, StateSources};
use crate::kept_requests::RequestKey;
use crate::storage::database::WriteError;

/// Changes that may wait for the thread. Each says which row is out of date, and has no content of it: 64 bytes, an
/// account's name of up to 512, and some 100 for the one who waits. So they take 6 MiB with requests and users, and at most
/// 44 MiB.
const CHANGES_WAITING_MAX: usize = 1 << 16;

const _: () = assert!(size_of::<Noted>() <= 64);

/// The most changes of a transaction.
const BATCH_CHANGES_MAX: usize = 4_096;

/// The most bytes of requests of a transaction, or of a single request.
const BATCH_BYTES_MAX: usize = 8 << 20;

/// How often the file is checked while it works, and tried again after a failure.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// A connection of a shard or of the HTTP API to the thread.
#[derive(Clone, Debug)]
pub struct StateLink {
    changes: SyncSender<Noted>,
    missed: Arc<Missed>,
}

/// What has found the queue full, and is to be written anew with all rows of its kind.
#[derive(Debug, Default)]
struct Missed {
    /// A request.
    requests: AtomicBool,
    /// Another change.
    others: AtomicBool,
}

impl StateLink {
    /// Notes a change, which is in memory already. It never waits.
    pub fn note(&self, change: StateChange) {
        self.note_or_miss(Noted { change, is_stored: None });
    }

    /// Notes a change that nothing may follow from before it is on the disk. The result waits for that. It fails where the disk
    /// fails: then the change is written later, when all rows are written anew.
    ///
    /// # Errors
    ///
    /// [`StateQueueFull`]: the change is not noted, and is to be undone in memory.
    pub fn note_first(&self, change: StateChange) -> Result<oneshot::Receiver<()>, StateQueueFull> {
        let (is_stored, stored) = oneshot::channel();
        let noted = Noted { change, is_stored: Some(is_stored) };
        self.changes.try_send(noted).map(|()| stored).map_err(|_| StateQueueFull)
    }

    /// As [`StateLink::note`]. The result waits until the change is on the disk. It fails where the queue is full or the disk
    /// fails: then the change is written later, when all rows are written anew.
    pub fn note_until_stored(&self, change: StateChange) -> oneshot::Receiver<()> {
        let (is_stored, stored) = oneshot::channel();
        self.note_or_miss(Noted { change, is_stored: Some(is_stored) });
        stored
    }

    fn note_or_miss(&self, noted: Noted) {
        let missed = match &noted.change {
            StateChange::Request(_) => &self.missed.requests,
            StateChange::User(_) | StateChange::Ban(_) | StateChange::Mute(_) => &self.missed.others,
        };
        // A change that does not fit is dropped together with its sender, and the receiver fails.
        if self.changes.try_send(noted).is_err() {
            missed.store(true, Ordering::Release);
        }
    }
}

/// As many changes as allowed wait for the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StateQueueFull;

/// What waits for the thread.
#[derive(Debug)]
struct Noted {
    change: StateChange,
    /// Told once the change is on the disk, and dropped if it will not be.
    is_stored: Option<oneshot::Sender<()>>,
}

/// What one transaction writes.
#[derive(Debug, Default)]
struct Batch {
    changes: HashSet<StateChange>,
    waiting: Vec<oneshot::Sender<()>>,
    noted: usize,
    /// Of its requests.
    bytes: usize,
}

impl Batch {
    fn is_full(&self) -> bool {
        self.noted >= BATCH_CHANGES_MAX || self.bytes >= BATCH_BYTES_MAX
    }

    fn add(&mut self, Noted { change, is_stored }: Noted, sources: &StateSources) {
        if let StateChange::Request(key) = &change {
            self.bytes += sources.requests.get(*key).map_or(0, |request| request.bytes());
        }
        self.changes.insert(change);
        self.waiting.extend(is_stored);
        self.noted += 1;
    }
}

/// Requests are written anew, in the order of their keys.
#[derive(Clone, Copy, Debug, Default)]
struct Renewal {
    /// The last key that is written; `None` at the beginning.
    after: Option<RequestKey>,
}

/// The writer, to be run on a thread of its own.
#[derive(Debug)]
pub struct StateWriter {
    file: StateFile,
    sources: StateSources,
    changes: Receiver<Noted>,
    missed: Arc<Missed>,
    /// True while writing fails.
    is_failing: bool,
    /// How far requests are written anew; `None` while they are not.
    renewal: Option<Renewal>,
    /// When to check the file.
    check_at: Instant,
}

impl StateWriter {
    /// A writer of this file, and the link that shards use.
    #[must_use]
    pub fn new(file: StateFile, sources: StateSources) -> (Self, StateLink) {
        let (sender, changes) = sync_channel(CHANGES_WAITING_MAX);
        let missed = Arc::<Missed>::default();
        let link = StateLink { changes: sender, missed: Arc::clone(&missed) };
        let check_at = Instant::now() + CHECK_INTERVAL;
        (Self { file, sources, changes, missed, is_failing: false, renewal: None, check_at }, link)
    }

    /// Writes until every link has been dropped, and then closes the file.
    pub fn run(mut self) {
        loop {
            if Instant::now() >= self.check_at {
                // Also when there is always something to write.
                self.check_file();
                self.check_at = Instant::now() + CHECK_INTERVAL;
            }
            let wait = match self.renewal {
                Some(_) => Duration::ZERO,
                None => self.check_at.saturating_duration_since(Instant::now()),
            };
            match self.changes.recv_timeout(wait) {
                Ok(noted) => {
                    let mut batch = Batch::default();
                    batch.add(noted, &self.sources);
                    while !batch.is_full()
                        && let Ok(noted) = self.changes.try_recv()
                    {
                        batch.add(noted, &self.sources);
                    }
                    self.write(batch);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            self.renew_requests();
        }
        self.close();
    }

    fn write(&mut self, Batch { changes, waiting, .. }: Batch) {
        // While it fails, changes are only in memory: the first write that succeeds is of all rows.
        if self.is_failing {
            return;
        }
        let changes: Vec<_> = changes.into_iter().collect();
        if let Err(error) = self.file.write(&changes, &self.sources) {
            return self.fail(&error);
        }
        for is_stored in waiting {
            // The request may have been given up.
            let _ = is_stored.send(());
        }
    }

    /// Writes some requests anew, if they are to be.
    fn renew_requests(&mut self) {
        let Some(Renewal { after }) = self.renewal else { return };
        match self.file.renew_requests(after, &self.sources) {
            Ok(after) => self.renewal = after.map(|key| Renewal { after: Some(key) }),
            Err(error) => self.fail(&error),
        }
    }

    /// Writes what is missing in the file, and closes it.
    fn close(mut self) {
        if self.is_failing || self.missed.requests.swap(false, Ordering::Acquire) {
            self.renewal = Some(Renewal::default());
        }
        let mut written = Ok(());
        while let Some(Renewal { after }) = self.renewal.take() {
            match self.file.renew_requests(after, &self.sources) {
                Ok(after) => self.renewal = after.map(|key| Renewal { after: Some(key) }),
                Err(error) => written = Err(error),
            }
        }
        if let Err(error) = self.file.close(&self.sources).and(written) {
            error!("{STATE_FILE}: {error}; sessions and idempotency keys may be lost over this restart");
        }
    }

    fn fail(&mut self, error: &WriteError) {
        error!(
            "{STATE_FILE}: {error}; until it can be written, users who come back after a restart are new ones, bans and mutes made now end with this server, and so do idempotency keys"
        );
        self.is_failing = true;
        self.renewal = None;
        self.check_at = Instant::now() + CHECK_INTERVAL;
    }

    fn check_file(&mut self) {
        if self.is_failing {
            return self.try_again();
        }
        let has_missed = self.missed.others.swap(false, Ordering::Acquire);
        let written = if has_missed { self.file.write_all(&self.sources) } else { Ok(()) };
        // One that is missed meanwhile may lie behind: then it begins again, once it has ended.
        if self.renewal.is_none() && self.missed.requests.swap(false, Ordering::Acquire) {
            self.renewal = Some(Renewal::default());
        }
        if let Err(error) = written.and_then(|()| self.file.check_place()) {
            return self.fail(&error);
        }
        // The next write, if there is one, fails for the same reason.
        if let Err(error) = self.file.shorten_log() {
            debug!("cannot truncate {STATE_FILE}-wal: {error}");
        }
    }

    fn try_again(&mut self) {
        self.missed.others.store(false, Ordering::Release);
        self.missed.requests.store(false, Ordering::Release);
        match self.file.renew(&self.sources) {
            Ok(()) => {
                info!("{STATE_FILE} can be written again");
                self.is_failing = false;
                self.renewal = Some(Renewal::default());
            }
            Err(error) => debug!("writing {STATE_FILE} still fails: {error}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;
    use crate::kept_requests::{KeptAnswer, KeptRequests, RequestState};
    use crate::moderation::Moderation;
    use crate::rooms::{UserId, Users};

    const TIMEOUT: Duration = Duration::from_secs(120);

    fn sources() -> StateSources {
        StateSources {
            users: Users::default(),
            moderation: Moderation::default(),
            requests: KeptRequests::default(),
        }
    }

    fn begin(sources: &StateSources, key: RequestKey) {
        assert_eq!(sources.requests.begin(key, [7; 32], Instant::now()), None);
    }

    fn end(sources: &StateSources, key: RequestKey, body: &str) {
        let answer = KeptAnswer { status: 200, body: body.into() };
        sources.requests.end(key, RequestState::Done(answer), Instant::now());
    }

    /// Goal: a request whose changes find no room in the queue is known after a restart all the same.
    #[test]
    fn requests_that_a_full_queue_has_missed_are_written_anew() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(STATE_FILE);
        let (file, _) = StateFile::open(&path, TIMEOUT, 0).unwrap();
        let sources = sources();
        let (writer, link) = StateWriter::new(file, sources.clone());
        let [begun, missed, forgotten] = [1, 2, 3].map(|number| RequestKey([number; 32]));
        for key in [begun, forgotten] {
            begin(&sources, key);
            link.note(StateChange::Request(key));
        }
        let user = UserId::from_wire(1).unwrap();
        for _ in 2..CHANGES_WAITING_MAX {
            link.note(StateChange::User(user));
        }
        assert!(link.note_first(StateChange::Request(missed)).is_err());
        for key in [begun, missed] {
            if key == missed {
                begin(&sources, key);
            }
            end(&sources, key, "{}");
            let mut stored = link.note_until_stored(StateChange::Request(key));
            assert!(stored.try_recv().is_err_and(|error| error == oneshot::error::TryRecvError::Closed));
        }
        sources.requests.forget(forgotten);
        link.note(StateChange::Request(forgotten));
        drop(link);
        thread::spawn(|| writer.run()).join().unwrap();
        let requests = StateFile::open(&path, TIMEOUT, 0).unwrap().1.requests;
        let answered: Vec<_> = requests
            .into_iter()
            .map(|(key, request)| (key, matches!(request.state, RequestState::Done(_))))
            .collect();
        assert_eq!(answered, [(begun, true), (missed, true)]);
    }

    /// Goal: what waits for the disk takes no memory for answers, and a transaction writes a bounded part of them.
    #[test]
    fn a_batch_ends_where_its_answers_are_long() {
        let sources = sources();
        let mut batch = Batch::default();
        let mut count = 0;
        while !batch.is_full() {
            let key = RequestKey([count; 32]);
            begin(&sources, key);
            end(&sources, key, &"x".repeat(1 << 20));
            batch.add(Noted { change: StateChange::Request(key), is_stored: None }, &sources);
            count += 1;
        }
        assert_eq!(usize::from(count), BATCH_BYTES_MAX >> 20);
    }
}
