//! The storage thread: it takes messages from all shards, writes what has come together as one batch, and
//! tells their homes when they are on the disk.
//!
//! Group commit needs no timer: what arrives while one batch is on its way to the disk is the next one.
//!
//! When a batch cannot be written, its messages are lost, and no room gives out an id until writing has
//! succeeded again. That is tried every second.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tracing::{error, info};

use super::database::DatabaseError;
use super::history::{HistoryFile, last_of_each_room};
use crate::hub::{Directory, Receipt, WRITES_UNANSWERED_MAX, Write};
use crate::metrics::StorageMetrics;

/// Messages of one batch. A larger one would make the first of them wait for longer than it takes to write
/// two, and hold more of the log in memory.
const BATCH_WRITES_MAX: usize = 4_096;

/// How often a disk that has failed is tried again.
const RETRY_EVERY: Duration = Duration::from_secs(1);

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
    /// By shard.
    receipts: Vec<UnboundedSender<Vec<Receipt>>>,
    metrics: Arc<StorageMetrics>,
    /// When to try again, while writing fails.
    retry_at: Option<Instant>,
}

impl HistoryWriter {
    /// A writer of this file, and the links of all shards to it, in order.
    #[must_use]
    pub fn new(
        file: HistoryFile,
        directory: &Directory,
        metrics: Arc<StorageMetrics>,
    ) -> (Self, Vec<StorageLink>) {
        let shards = usize::from(directory.shards());
        // A shard exceeds its share by what one turn's requests lead to.
        let (writes, written) = sync_channel(shards * 2 * WRITES_UNANSWERED_MAX);
        let (receipts, links) = (0..shards)
            .map(|_| {
                let (receipt, receipts) = unbounded_channel();
                (receipt, StorageLink { writes: writes.clone(), receipts })
            })
            .unzip();
        metrics.is_durable.set(1);
        let writer =
            Self { file, directory: directory.clone(), writes: written, receipts, metrics, retry_at: None };
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
            match self.next_write() {
                Ok(write) => batch.push(write),
                Err(RecvTimeoutError::Timeout) => {
                    self.try_again();
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => return self.file.close(),
            }
            batch.extend(self.writes.try_iter().take(BATCH_WRITES_MAX - 1));
            self.keep(&batch);
            batch.clear();
        }
    }

    fn next_write(&self) -> Result<Write, RecvTimeoutError> {
        match self.retry_at {
            None => self.writes.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(retry_at) => self.writes.recv_timeout(retry_at.saturating_duration_since(Instant::now())),
        }
    }

    fn keep(&mut self, batch: &[Write]) {
        if self.retry_at.is_some() {
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
                error!(
                    "history.db cannot be written: {error}; it is no longer durable, and messages are refused \
                     until it can: see that the disk works and has room"
                );
                self.metrics.is_durable.set(0);
                self.metrics.failures.add(1);
                self.retry_at = Some(Instant::now() + RETRY_EVERY);
                for receipts in &self.receipts {
                    // A shard that is gone needs no word.
                    let _ = receipts.send(vec![Receipt::Withdrawn]);
                }
                self.lose(batch);
            }
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
                self.metrics.is_durable.set(1);
                self.retry_at = None;
                let rooms = self.directory.rooms();
                self.answer(rooms.zip(reserved).map(|(room, id)| Receipt::Reserved(room, id)));
            }
            Err(error) => {
                tracing::debug!("history.db still cannot be written: {error}");
                self.metrics.failures.add(1);
                self.retry_at = Some(Instant::now() + RETRY_EVERY);
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
        for (receipts, to) in by_shard.into_iter().zip(&self.receipts) {
            if !receipts.is_empty() {
                // A shard that is gone needs no word.
                let _ = to.send(receipts);
            }
        }
    }
}
