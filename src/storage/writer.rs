//! The storage thread: it takes messages from all shards, writes what has come together as one batch, and
//! tells their homes when they are on the disk.
//!
//! Group commit needs no timer: what arrives while one batch is on its way to the disk is the next one.
//!
//! When a batch cannot be written, its messages are lost, and no room gives out an id until writing has
//! succeeded again. That is tried every second. As often it is seen to that the file is where it was, so that one
//! that was deleted is noticed though nobody says anything, and that its log is not longer than it need be.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tracing::{debug, error, info, warn};
use uproar_ring::Waker;

use super::database::{DatabaseError, LogState};
use super::history::{HistoryFile, WriteError, last_of_each_room};
use crate::metrics::StorageMetrics;
use crate::rooms::{Directory, Receipt, WRITES_UNANSWERED_MAX, Write};

/// Messages of one batch. A larger one would make the first of them wait for longer than it takes to write
/// two, and hold more of the log in memory.
const BATCH_WRITES_MAX: usize = 4_096;

/// How often the file is looked after: tried again when it has failed, and looked at while it works.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// How often the log says that a reader keeps the write-ahead log from being shortened.
const HELD_LOG_WARNING_INTERVAL: Duration = Duration::from_secs(60);

/// A shard's connection to the storage.
#[derive(Debug)]
pub struct StorageLink {
    /// Has room for as many messages as all shards may have unanswered.
    pub writes: SyncSender<Write>,
    /// What the storage says of them, a batch at a time. Bounded by what was written: there are never more
    /// receipts than writes, but for the word that writing has failed, or succeeds again, at most once a
    /// second.
    pub receipts: UnboundedReceiver<Vec<Receipt>>,
}

/// The storage, to be run on a thread of its own.
#[derive(Debug)]
pub struct HistoryWriter {
    file: HistoryFile,
    directory: Directory,
    writes: Receiver<Write>,
    /// By shard, with what wakes it.
    receipts: Vec<(UnboundedSender<Vec<Receipt>>, Waker)>,
    metrics: Arc<StorageMetrics>,
    /// True while writing fails.
    is_failing: bool,
    /// When to look after the file.
    check_at: Instant,
    /// When to say again that its log is held.
    held_log_warning_at: Option<Instant>,
}

impl HistoryWriter {
    /// A writer of this file, and the links to it of all shards, which these wake, in order.
    #[must_use]
    pub fn new(
        file: HistoryFile,
        directory: &Directory,
        shards: Vec<Waker>,
        metrics: Arc<StorageMetrics>,
    ) -> (Self, Vec<StorageLink>) {
        // A shard exceeds its share by what one turn's requests lead to.
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
            directory: directory.clone(),
            writes: written,
            receipts,
            metrics,
            is_failing: false,
            check_at: Instant::now() + CHECK_INTERVAL,
            held_log_warning_at: None,
        };
        (writer, links)
    }

    /// Writes until every shard has let go of its link, and then closes the file.
    ///
    /// # Errors
    ///
    /// [`DatabaseError`], when the file could not be closed well.
    pub fn run(mut self) -> Result<(), DatabaseError> {
        let mut batch = Vec::new();
        loop {
            if Instant::now() >= self.check_at {
                // However busy it is.
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
            Ok(reserved) => {
                self.metrics.commits.record(began.elapsed());
                self.metrics.messages_kept.add(batch.len() as u64);
                let kept = last_of_each_room(batch).into_iter().map(|(room, id)| Receipt::Kept(room, id));
                let reserved = reserved.into_iter().map(|(room, id)| Receipt::Reserved(room, id));
                self.answer(kept.chain(reserved));
            }
            Err(error) => {
                self.fail(&error);
                self.lose(batch);
            }
        }
    }

    /// From now on nothing can be written.
    fn fail(&mut self, error: &WriteError) {
        error!("{error}; it is no longer durable, and messages are refused meanwhile");
        self.is_failing = true;
        self.check_at = Instant::now() + CHECK_INTERVAL;
        // The shards hear of it before `/readyz` tells of it.
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
            // The next batch fails for the same reason, or there is none.
            Err(error) => debug!("history.db-wal cannot be shortened: {error}"),
        }
    }

    fn lose(&mut self, batch: &[Write]) {
        let lost = self.file.lose(batch);
        self.metrics.messages_lost.add(batch.len() as u64);
        self.answer(lost.into_iter().map(|(room, id, epoch)| Receipt::Lost(room, id, epoch)));
    }

    fn try_again(&mut self) {
        match self.file.renew() {
            Ok(reserved) => {
                info!("history.db can be written again; history is durable, and messages are taken");
                self.is_failing = false;
                let rooms = self.directory.rooms();
                self.answer(rooms.zip(reserved).map(|(room, id)| Receipt::Reserved(room, id)));
                self.metrics.is_durable.set(1);
                self.metrics.is_failing.set(0);
            }
            Err(error) => {
                debug!("still not: {error}");
                self.metrics.failures.add(1);
            }
        }
    }

    /// Sends receipts to the homes of their rooms, each home's all at once.
    fn answer(&self, receipts: impl Iterator<Item = Receipt>) {
        let mut by_shard = vec![Vec::new(); self.receipts.len()];
        for receipt in receipts {
            let (Receipt::Kept(room, _) | Receipt::Lost(room, ..) | Receipt::Reserved(room, _)) = receipt
            else {
                unreachable!("Bug: a receipt for no room")
            };
            by_shard[usize::from(self.directory.home(room).0)].push(receipt);
        }
        for (receipts, shard) in by_shard.into_iter().zip(&self.receipts) {
            if !receipts.is_empty() {
                send(shard, receipts);
            }
        }
    }
}

/// Sends receipts to a shard, and wakes it. One that is gone needs no word.
fn send((receipts_to, waker): &(UnboundedSender<Vec<Receipt>>, Waker), receipts: Vec<Receipt>) {
    if receipts_to.send(receipts).is_ok() {
        waker.wake();
    }
}
