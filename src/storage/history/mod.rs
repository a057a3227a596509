//! The file `history.db`: the messages of rooms, and the message ids that are reserved for each room.
//!
//! Only the storage thread has it open. It writes in batches, each of which is one transaction. What a batch
//! contains, and who waits for it, is decided in `writer`; the SQL of rows is in `tables`.

mod tables;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use rusqlite::{Connection, TransactionBehavior};

use self::tables::{RoomRow, SCHEMA};
use super::database::{self, BALLAST_BYTES, DatabaseError, FileIdentity, LogState, WriteError};
use crate::rooms::{
    Directory, EntryNumber, Epoch, HistoryChange, KeptMessage, MessageId, Restored, RestoredRoom, RoomIndex,
    UserId, Write,
};

/// The file's name in the data directory.
pub const HISTORY_FILE: &str = "history.db";

/// Old rows of a room are deleted when there are this many more than it keeps: a few hundred at a time cost less than
/// one with every message. A batch deletes at most this many more rows than it writes: that is quick, and still
/// faster than rows are added.
const ROWS_EXCESS_MAX: u64 = 500;

/// The open file.
#[derive(Debug)]
pub struct HistoryFile {
    connection: Connection,
    path: PathBuf,
    identity: FileIdentity,
    /// By room.
    rooms: Vec<RoomRow>,
    kept_max: u64,
    /// The room that was pruned last; the other rooms have their turn first.
    pruned_last: usize,
}

impl HistoryFile {
    /// Opens or creates the file, and reserves ids for every room of the directory. Messages of other rooms stay in the
    /// file.
    ///
    /// # Errors
    ///
    /// [`DatabaseError`].
    pub fn open(
        path: &Path,
        directory: &Directory,
        kept_max: usize,
    ) -> Result<(Self, Restored), DatabaseError> {
        let mut connection = database::open(path, &SCHEMA)?;
        let kept_max = kept_max as u64;
        let failed = |source| DatabaseError::new(path, source);
        let damaged = |detail: &str| DatabaseError::Damaged { path: path.to_owned(), detail: detail.into() };
        let transaction =
            connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
        let mut states = Vec::new();
        let mut rooms = Vec::new();
        for room in directory.rooms() {
            let state = tables::find_room(&transaction, directory.name(room)).map_err(failed)?;
            let mut state = state.ok_or_else(|| damaged("a room with an invalid epoch"))?;
            state.rows = tables::count_rows(&transaction, state.key).map_err(failed)?;
            state.prune(&transaction, kept_max, u64::MAX).map_err(failed)?;
            let kept = tables::last_messages(&transaction, state.key).map_err(failed)?;
            let kept = kept.ok_or_else(|| damaged("an invalid message"))?;
            // Members may have seen messages with reserved ids that are not in the file.
            let last = kept.last().map_or(MessageId(0), KeptMessage::id);
            if last > state.last_id
                || state.kept_from.0 > state.last_id.0 + 1
                || state.last_id > MessageId::MAX
            {
                return Err(damaged("a room whose ids contradict its messages"));
            }
            if last < state.last_id {
                state.kept_from = MessageId(state.last_id.0 + 1);
            } else if let Some(first) = kept.first() {
                state.kept_from = state.kept_from.max(first.id());
            }
            state.save(&transaction).map_err(failed)?;
            rooms.push(RestoredRoom {
                epoch: state.epoch,
                kept,
                last_id: state.last_id,
                kept_from: state.kept_from,
                reserved: state.reserved,
            });
            states.push(state);
        }
        let last_author = transaction
            .query_row("SELECT max(from_id) FROM message", [], |row| row.get::<_, Option<i64>>(0))
            .map_err(failed)?;
        transaction.commit().map_err(failed)?;
        let last_author = last_author.and_then(|id| UserId::from_wire(id.try_into().ok()?));
        let identity = FileIdentity::of(path)
            .map_err(|source| DatabaseError::NotCreated { path: path.to_owned(), source })?;
        let file =
            Self { connection, path: path.to_owned(), identity, rooms: states, kept_max, pruned_last: 0 };
        Ok((file, Restored { rooms, last_author }))
    }

    /// Writes all changes of a batch or none, and returns the renewed reservations once they are on the disk.
    ///
    /// # Errors
    ///
    /// [`WriteError`]; nothing was written, or only to a file that has been deleted.
    pub fn write(&mut self, batch: &[Write]) -> Result<Vec<(RoomIndex, MessageId)>, WriteError> {
        self.check_place()?;
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        // They replace the rooms' states when the transaction is committed.
        let mut changed: BTreeMap<usize, RoomRow> = BTreeMap::new();
        let mut reserved = Vec::new();
        {
            let mut insert = transaction.prepare_cached(tables::INSERT_MESSAGE)?;
            for Write { room, change, .. } in batch {
                let state = changed.entry(room.get()).or_insert_with(|| self.rooms[room.get()].clone());
                match change {
                    HistoryChange::Append(message) => {
                        assert!(message.id > state.last_id, "Bug: a room's messages came out of order");
                        assert!(
                            message.id <= state.reserved,
                            "Bug: an id was given out that was not reserved"
                        );
                        state.insert(&mut insert, message)?;
                    }
                    HistoryChange::Delete(message) => state.delete(&transaction, message.id)?,
                }
                if state.needs_reservation() || state.is_stale {
                    state.save(&transaction)?;
                    reserved.push((*room, state.reserved));
                }
            }
        }
        let mut rows_left = batch.len() as u64 + ROWS_EXCESS_MAX;
        let mut pruned_last = self.pruned_last;
        for room in in_turn(self.pruned_last, self.rooms.len()) {
            let current = changed.get(&room).unwrap_or(&self.rooms[room]);
            if rows_left == 0 || current.rows <= self.kept_max + ROWS_EXCESS_MAX {
                continue;
            }
            let state = changed.entry(room).or_insert_with(|| self.rooms[room].clone());
            rows_left -= state.prune(&transaction, self.kept_max, rows_left)?;
            pruned_last = room;
        }
        transaction.commit()?;
        // What was committed to a deleted file is lost.
        self.check_place()?;
        self.pruned_last = pruned_last;
        for (room, state) in changed {
            self.rooms[room] = state;
        }
        Ok(reserved)
    }

    /// Gives changes up, and returns the new epochs of their rooms, each with the last entry that is lost.
    ///
    /// They are stored when the file can be written again. If the server is killed before that, the file has the old
    /// epochs, and clients with a new epoch learn that messages are missing, like clients with an id that the file
    /// does not have.
    pub fn lose(&mut self, batch: &[Write]) -> Vec<(RoomIndex, EntryNumber, Epoch)> {
        for Write { room, change, .. } in batch {
            if let HistoryChange::Append(message) = change {
                let state = &mut self.rooms[room.get()];
                state.last_id = message.id;
                state.kept_from = MessageId(message.id.0 + 1);
            }
        }
        let lost = last_of_each_room(batch).into_iter().map(|(room, last)| {
            let (state, epoch) = (&mut self.rooms[room.get()], Epoch::random());
            state.epoch = epoch;
            state.is_stale = true;
            (room, last, epoch)
        });
        lost.collect()
    }

    /// Tests whether the file can be written again, and renews the reservations of all rooms. It also tests for free
    /// space: a disk with room for a reservation but not for messages would seem to recover every second, and lose
    /// messages each time.
    ///
    /// # Errors
    ///
    /// [`WriteError`]; then nothing was written.
    pub fn renew(&mut self) -> Result<Vec<MessageId>, WriteError> {
        self.check_place()?;
        self.connection.execute("INSERT INTO ballast VALUES (zeroblob(?1))", [BALLAST_BYTES])?;
        let mut rooms = self.rooms.clone();
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        transaction.execute("DELETE FROM ballast", [])?;
        for state in &mut rooms {
            state.save(&transaction)?;
        }
        transaction.commit()?;
        self.rooms = rooms;
        Ok(self.rooms.iter().map(|state| state.reserved).collect())
    }

    /// Checks that the file has not been deleted, moved or replaced. SQLite would go on writing to a deleted file.
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

    /// Stores that no id beyond the last message is in use, and moves the write-ahead log into the file.
    ///
    /// # Errors
    ///
    /// [`DatabaseError`]: then the next start finds a gap in the ids.
    pub fn close(mut self) -> Result<(), DatabaseError> {
        let mut finish = || {
            let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            for state in &mut self.rooms {
                state.reserved = state.last_id;
                state.store(&transaction)?;
                state.prune(&transaction, self.kept_max, u64::MAX)?;
            }
            transaction.commit()
        };
        let finished = finish();
        // The last connection to a file moves the log into it and removes the log.
        let closed = self.connection.close().map_err(|(_, error)| error);
        finished.and(closed).map_err(|source| DatabaseError::new(&self.path, source))
    }
}

/// The rooms of a batch, each with its last entry.
pub(super) fn last_of_each_room(batch: &[Write]) -> HashMap<RoomIndex, EntryNumber> {
    batch.iter().map(|Write { room, entry, .. }| (*room, *entry)).collect()
}

/// All of `count` rooms once, starting after this one.
fn in_turn(last: usize, count: usize) -> impl Iterator<Item = usize> {
    (1..=count).map(move |step| (last + step) % count)
}
