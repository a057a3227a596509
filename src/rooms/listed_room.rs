//! A room as every shard may read it.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{Epoch, MessageId, RoomIndex};

/// The name of a room, and what its home tells of it. Only the home writes.
#[derive(Debug)]
pub struct ListedRoom {
    name: Arc<str>,
    index: RoomIndex,
    online: AtomicUsize,
    last_message: AtomicU64,
    /// Locked only to copy it (for a list of rooms) or to replace it (after messages were lost).
    epoch: Mutex<Epoch>,
}

impl ListedRoom {
    pub(super) fn new(name: Arc<str>, index: RoomIndex, epoch: Epoch) -> Self {
        Self {
            name,
            index,
            online: AtomicUsize::new(0),
            last_message: AtomicU64::new(0),
            epoch: Mutex::new(epoch),
        }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Its index.
    #[must_use]
    pub fn index(&self) -> RoomIndex {
        self.index
    }

    /// How many members it has.
    #[must_use]
    pub fn online(&self) -> usize {
        self.online.load(Ordering::Acquire)
    }

    /// The id of its last message; 0 when there is none.
    #[must_use]
    pub fn last_message(&self) -> MessageId {
        MessageId(self.last_message.load(Ordering::Acquire))
    }

    /// The epoch of its history.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        *self.locked_epoch()
    }

    pub(super) fn set_online(&self, online: usize) {
        self.online.store(online, Ordering::Release);
    }

    pub(super) fn set_last_message(&self, last: MessageId) {
        self.last_message.store(last.0, Ordering::Release);
    }

    pub(super) fn set_epoch(&self, epoch: Epoch) {
        *self.locked_epoch() = epoch;
    }

    fn locked_epoch(&self) -> MutexGuard<'_, Epoch> {
        // A poisoned lock is harmless: the value is only copied or replaced as a whole.
        self.epoch.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
