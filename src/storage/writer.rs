//! The storage thread: takes messages and deletions from all shards, writes them in batches, and sends receipts to the
//! rooms' homes.
//!
//! Group commit needs no timer: messages that arrive during a commit are the next batch.
//!
//! When a batch cannot be written, its changes are lost, and no room uses new ids until writing succeeds again,
//! which is tried every second. Every second it also checks that the file has not been deleted, and truncates the
//! write-ahead log.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tracing::{debug, error, info, warn};
use uproar_ring::Waker;

use super::database::{DatabaseError, LogState, WriteError};
use super::history::{HISTORY_FILE, HistoryFile, Written, last_of_each_room};
use crate::metrics::StorageMetrics;
use crate::rooms::{
    HistoryChange, Receipt, RoomIndex, RoomReceipt, WRITES_UNANSWERED_MAX, Write, WriteAction,
};

/// The most messages of a batch. A larger one would delay its first messages, and hold more of the log in memory.
const BATCH_WRITES_MAX: usize = 4_096;

/// How often the file is checked while it works, and tried again after a failure.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// How often a reader that keeps the write-ahead log from being truncated is logged.
const HELD_LOG_WARNING_INTERVAL: Duration = Duration::from_secs(60);

/// A shard's connection to the storage.
#[derive(Debug)]
pub struct StorageLink {
    /// Has room for as many messages as all shards may have unanswered.
    pub writes: SyncSender<Write>,
    /// Receipts, a batch at a time. Bounded by the writes: there is at most one receipt for each, and at most one a
    /// second that writing has failed or succeeds again.
    pub receipts: UnboundedReceiver<Vec<Receipt>>,
}

/// The storage, to be run on a thread of its own.
#[derive(Debug)]
pub struct HistoryWriter {
    file: HistoryFile,
    writes: Receiver<Write>,
    /// By shard, with its waker.
    receipts: Vec<(UnboundedSender<Vec<Receipt>>, Waker)>,
    metrics: Arc<StorageMetrics>,
    /// True while writing fails.
    is_failing: bool,
    /// When to check the file.
    check_at: Instant,
    /// When to log again that its write-ahead log is held.
    held_log_warning_at: Option<Instant>,
}

impl HistoryWriter {
    /// A writer of this file, and the links of all shards, in the order of their wakers.
    #[must_use]
    pub fn new(
        file: HistoryFile,
        shards: Vec<Waker>,
        metrics: Arc<StorageMetrics>,
    ) -> (Self, Vec<StorageLink>) {
        // A shard may exceed its share within one turn.
        let (writes, written) = sync_channel(shards.len() * 2 * WRITES_UNANSWERED_MAX);
        let (receipts, links) = shards
            .into_iter()
            .map(|waker| {
                let (receipt, receipts) = unbounded_channel();
                ((receipt, waker), StorageLink { writes: writes.clone(), receipts })
            })
            .unzip();
        metrics.is_durable.set(1);
        let writer = Self {
            file,
            writes: written,
            receipts,
            metrics,
            is_failing: false,
            check_at: Instant::now() + CHECK_INTERVAL,
            held_log_warning_at: None,
        };
        (writer, links)
    }

    /// Writes until every shard has dropped its link, and then closes the file.
    ///
    /// # Errors
    ///
    /// [`DatabaseError`], when closing the file failed.
    pub fn run(mut self) -> Result<(), DatabaseError> {
        let mut batch = Vec::new();
        loop {
            if Instant::now() >= self.check_at {
                // Also when there is always something to write.
                self.check_file();
                self.check_at = Instant::now() + CHECK_INTERVAL;
            }
            match self.writes.recv_timeout(self.check_at.saturating_duration_since(Instant::now())) {
                Ok(write) => batch.push(write),
                Err(RecvTimeoutError::Timeout) => continue,
                Err(RecvTimeoutError::Disconnected) => return self.file.close(),
            }
            batch.extend(self.writes.try_iter().take(BATCH_WRITES_MAX - 1));
            self.keep(&batch);
            batch.clear();
        }
    }

    fn keep(&mut self, batch: &[Write]) {
        if self.is_failing {
            // They were given ids before their homes heard that writing fails.
            return self.lose(batch);
        }
        let began = Instant::now();
        match self.file.write(batch) {
            Ok(Written { reserved, opened, forgotten, closed }) => {
                self.metrics.commits.record(began.elapsed());
                self.metrics.messages_kept.add(count_messages(batch));
                let kept =
                    last_of_each_room(batch).into_iter().map(|(room, id)| (room, RoomReceipt::Kept(id)));
                let reserved = reserved.into_iter().map(|(room, id)| (room, RoomReceipt::Reserved(id)));
                let opened = opened.into_iter().map(|(room, restored)| {
                    let receipt = |restored| RoomReceipt::Opened(Box::new(restored));
                    (room, restored.map_or(RoomReceipt::NotOpened, receipt))
                });
                let closed = closed.into_iter().map(|room| (room, RoomReceipt::Closed));
                // The last that is said about a room.
                let forgotten = forgotten.into_iter().map(|room| (room, RoomReceipt::Forgotten));
                self.answer(kept.chain(reserved).chain(opened).chain(closed).chain(forgotten));
            }
            Err(error) => {
                self.fail(&error);
                self.lose(batch);
            }
        }
    }

    /// Writing has failed.
    fn fail(&mut self, error: &WriteError) {
        error!("{HISTORY_FILE}: {error}; it is no longer durable, and messages are rejected meanwhile");
        self.is_failing = true;
        self.check_at = Instant::now() + CHECK_INTERVAL;
        // The shards learn of it before `/readyz` reports it.
        for shard in &self.receipts {
            send(shard, vec![Receipt::Withdrawn]);
        }
        self.metrics.is_durable.set(0);
        self.metrics.is_failing.set(1);
        self.metrics.failures.add(1);
    }

    fn check_file(&mut self) {
        if self.is_failing {
            return self.try_again();
        }
        if let Err(error) = self.file.check_place() {
            return self.fail(&error);
        }
        if self.file.has_closed() {
            self.keep(&[]);
        }
        match self.file.shorten_log() {
            Ok(LogState::Short) => self.held_log_warning_at = None,
            Ok(LogState::Held { bytes })
                if self.held_log_warning_at.is_none_or(|at| at <= Instant::now()) =>
            {
                self.held_log_warning_at = Some(Instant::now() + HELD_LOG_WARNING_INTERVAL);
                warn!(
                    "history.db-wal has {} MiB and grows, because another program has been reading history.db for \
                     long: end it (a shell or a backup that was left open)",
                    bytes >> 20
                );
            }
            Ok(LogState::Held { .. }) => {}
            // The next batch, if there is one, fails for the same reason.
            Err(error) => debug!("cannot truncate history.db-wal: {error}"),
        }
    }

    fn lose(&mut self, batch: &[Write]) {
        let lost = self.file.lose(batch);
        self.metrics.messages_lost.add(count_messages(batch));
        let lost = lost.into_iter().map(|(room, id, epoch)| (room, RoomReceipt::Lost(id, epoch)));
        let others = batch.iter().filter_map(|Write { room, action }| match action {
            WriteAction::Change(..) => None,
            WriteAction::Open(_) => Some((*room, RoomReceipt::NotOpened)),
            WriteAction::Close => Some((*room, RoomReceipt::NotClosed)),
            WriteAction::Forget => Some((*room, RoomReceipt::Forgotten)),
        });
        self.answer(lost.chain(others));
    }

    fn try_again(&mut self) {
        match self.file.renew() {
            Ok(reserved) => {
                info!("history.db can be written again; history is durable, and messages are taken");
                self.is_failing = false;
                for shard in &self.receipts {
                    send(shard, vec![Receipt::Recovered]);
                }
                self.answer(reserved.into_iter().map(|(room, id)| (room, RoomReceipt::Reserved(id))));
                self.metrics.is_durable.set(1);
                self.metrics.is_failing.set(0);
            }
            Err(error) => {
                debug!("writing still fails: {error}");
                self.metrics.failures.add(1);
            }
        }
    }

    /// Sends receipts to the homes of their rooms, each home's all at once.
    fn answer(&self, receipts: impl Iterator<Item = (RoomIndex, RoomReceipt)>) {
        let mut by_shard = vec![Vec::new(); self.receipts.len()];
        for (room, receipt) in receipts {
            by_shard[usize::from(room.home().0)].push(Receipt::Room(room, receipt));
        }
        for (receipts, shard) in by_shard.into_iter().zip(&self.receipts) {
            if !receipts.is_empty() {
                send(shard, receipts);
            }
        }
    }
}

fn count_messages(batch: &[Write]) -> u64 {
    let is_message =
        |write: &&Write| matches!(write.action, WriteAction::Change(_, HistoryChange::Append(_)));
    batch.iter().filter(is_message).count() as u64
}

/// Sends receipts to a shard, and wakes it. A shard that has ended needs none.
fn send((receipts_to, waker): &(UnboundedSender<Vec<Receipt>>, Waker), receipts: Vec<Receipt>) {
    if receipts_to.send(receipts).is_ok() {
        waker.wake();
    }
}
