//! The file `history.db`: the messages of rooms, and the message ids that are reserved for each room.
//!
//! Only the storage thread has it open. It writes in batches, each of which is one transaction. What a batch
//! contains, and who waits for it, is decided in `writer`; the SQL of rows is in `tables`.

mod tables;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};
use std::path::{Path, PathBuf};

use rusqlite::{Connection, Transaction, TransactionBehavior};
use tracing::error;

use self::tables::{RoomRow, SCHEMA};
use super::database::{self, BALLAST_BYTES, DatabaseError, FileIdentity, LogState, WriteError};
use crate::log_limit::LogLimit;
use crate::log_text::shown;
use crate::rooms::{
    Directory, EntryNumber, Epoch, HistoryChange, MessageId, Restored, RestoredRoom, RoomIndex, UserId,
    Write, WriteAction,
};

/// The file's name in the data directory.
pub const HISTORY_FILE: &str = "history.db";

/// Old rows of a room are deleted when there are this many more than it keeps: a few hundred at a time cost less than
/// one with every message. A batch deletes at most this many more rows than it writes: that is quick, and still
/// faster than rows are added.
const ROWS_EXCESS_MAX: u64 = 500;

/// Limits the lines about rooms that cannot be read: clients may ask for them again and again.
static DAMAGED: LogLimit = LogLimit::new();

/// The open file.
#[derive(Debug)]
pub struct HistoryFile {
    connection: Connection,
    path: PathBuf,
    identity: FileIdentity,
    /// The rooms that are open.
    rooms: HashMap<RoomIndex, RoomRow>,
    kept_max: u64,
    /// How many rooms are forgotten and have a row, and how many may be.
    forgotten: u64,
    forgotten_max: u64,
    /// How many of these were closed, so that their history is to be deleted.
    closed: u64,
    /// Rooms that were closed and then forgotten while writing failed: their rows have still to lose their names.
    unnoted: Vec<RoomRow>,
    /// The rooms with so many rows that some are to be deleted, in turn.
    overfull: VecDeque<RoomIndex>,
}

/// What a batch has brought, beside that it is on the disk.
#[derive(Debug, Default)]
pub struct Written {
    /// The renewed reservations.
    pub reserved: Vec<(RoomIndex, MessageId)>,
    /// The rooms that were opened; `None` for one that is damaged in the file.
    pub opened: Vec<(RoomIndex, Option<RestoredRoom>)>,
    /// The rooms that were forgotten.
    pub forgotten: Vec<RoomIndex>,
    /// The rooms that are being closed.
    pub closed: Vec<RoomIndex>,
}

impl HistoryFile {
    /// Opens or creates the file, and reserves ids for every configured room. Of each room `kept_max` messages are kept.
    /// Messages of `forgotten_max` other rooms stay in the file until these are opened.
    ///
    /// # Errors
    ///
    /// [`DatabaseError`].
    pub fn open(
        path: &Path,
        directory: &Directory,
        kept_max: usize,
        forgotten_max: usize,
    ) -> Result<(Self, Restored), DatabaseError> {
        let mut connection = database::open(path, &SCHEMA)?;
        let kept_max = kept_max as u64;
        let failed = |source| DatabaseError::new(path, source);
        let damaged = |detail: &str| DatabaseError::Damaged { path: path.to_owned(), detail: detail.into() };
        let transaction =
            connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
        let mut forgotten = tables::forget_all(&transaction).map_err(failed)?;
        let closed = tables::count_closed(&transaction).map_err(failed)?;
        let mut states = HashMap::new();
        let mut rooms = Vec::new();
        for room in directory.rooms() {
            tables::create_room(&transaction, room.name()).map_err(failed)?;
            let found = tables::restore_room(&transaction, room.name(), kept_max).map_err(failed)?;
            let (state, restored) = found.map_err(damaged)?;
            forgotten -= u64::from(state.was_forgotten);
            states.insert(room.index(), state);
            rooms.push(restored);
        }
        let last_author = transaction
            .query_row("SELECT max(from_id) FROM message", [], |row| row.get::<_, Option<i64>>(0))
            .map_err(failed)?;
        transaction.commit().map_err(failed)?;
        let last_author = last_author.and_then(|id| UserId::from_wire(id.try_into().ok()?));
        let identity = FileIdentity::of(path)
            .map_err(|source| DatabaseError::NotCreated { path: path.to_owned(), source })?;
        let file = Self {
            connection,
            path: path.to_owned(),
            identity,
            rooms: states,
            kept_max,
            forgotten,
            forgotten_max: forgotten_max as u64,
            closed,
            unnoted: Vec::new(),
            overfull: VecDeque::new(),
        };
        Ok((file, Restored { rooms, last_author }))
    }

    /// Carries out a whole batch or nothing of it.
    ///
    /// # Errors
    ///
    /// [`WriteError`]; nothing was written, or only to a file that has been deleted.
    pub fn write(&mut self, batch: &[Write]) -> Result<Written, WriteError> {
        self.check_place()?;
        let mut transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let (mut forgotten, mut closed) = (self.forgotten, self.closed);
        // They replace the rooms' states when the transaction is committed. `None` is a room that is forgotten.
        let mut changed: HashMap<RoomIndex, Option<RoomRow>> = HashMap::new();
        let mut written = Written::default();
        for Write { room, action } in batch {
            let state = changed.entry(*room).or_insert_with(|| self.rooms.get(room).cloned());
            match action {
                WriteAction::Change(_, change) => {
                    let state = state.as_mut().expect("Bug: a change of a room that is not open");
                    write_change(&transaction, state, change)?;
                    if state.needs_reservation() || state.is_stale {
                        state.save(&transaction)?;
                        written.reserved.push((*room, state.reserved));
                    }
                }
                WriteAction::Open(name) => {
                    let opened = match tables::open_room(&mut transaction, name, self.kept_max)? {
                        Ok((row, restored)) => {
                            forgotten -= u64::from(row.was_forgotten);
                            *state = Some(row);
                            Some(restored)
                        }
                        Err(damage) => {
                            if let Some(left_out) = DAMAGED.allow() {
                                error!(room = shown(name), left_out, "history.db is damaged ({damage})");
                            }
                            None
                        }
                    };
                    written.opened.push((*room, opened));
                }
                WriteAction::Close => {
                    let state = state.as_mut().expect("Bug: a room is closed that is not open");
                    state.close();
                    if state.key.is_some() {
                        state.save(&transaction)?;
                    }
                    written.closed.push(*room);
                }
                WriteAction::Forget => {
                    if let Some(mut state) = state.take() {
                        let has_row = state.finish(&transaction, self.kept_max)?;
                        forgotten += u64::from(has_row);
                        closed += u64::from(has_row && state.is_closed);
                    }
                    written.forgotten.push(*room);
                }
            }
        }
        let mut overfull = self.overfull.clone();
        for (room, state) in &mut changed {
            if let Some(state) = state
                && !state.is_overfull
                && state.rows > self.kept_max + ROWS_EXCESS_MAX
            {
                state.is_overfull = true;
                overfull.push_back(*room);
            }
        }
        let mut rows_left = batch.len() as u64 + ROWS_EXCESS_MAX;
        while rows_left > 0
            && let Some(room) = overfull.pop_front()
        {
            let state = changed.entry(room).or_insert_with(|| self.rooms.get(&room).cloned());
            let Some(state) = state else { continue };
            rows_left -= state.prune(&transaction, self.kept_max, rows_left)?;
            state.is_overfull = state.rows > self.kept_max + ROWS_EXCESS_MAX;
            if state.is_overfull {
                overfull.push_back(room);
            }
        }
        // Those that were closed count as the oldest.
        while rows_left > 0 && (closed > 0 || forgotten > self.forgotten_max) {
            let Some((rows, is_gone)) = tables::delete_oldest(&transaction, rows_left)? else {
                // Another program has deleted them.
                (forgotten, closed) = (0, 0);
                break;
            };
            rows_left = rows_left.saturating_sub(rows);
            forgotten -= u64::from(is_gone);
            closed = closed.saturating_sub(u64::from(is_gone));
        }
        transaction.commit()?;
        // What was committed to a deleted file is lost.
        self.check_place()?;
        self.overfull = overfull;
        (self.forgotten, self.closed) = (forgotten, closed);
        for (room, state) in changed {
            match state {
                Some(state) => drop(self.rooms.insert(room, state)),
                None => drop(self.rooms.remove(&room)),
            }
        }
        Ok(written)
    }

    /// Gives a batch up, and returns the new epochs of the rooms that it would have changed, each with the last entry
    /// that is lost.
    ///
    /// They are stored when the file can be written again. If the server is killed before that, or the room is
    /// forgotten, the file has the old epochs, and clients with a new epoch learn that messages are missing, like
    /// clients with an id that the file does not have.
    pub fn lose(&mut self, batch: &[Write]) -> Vec<(RoomIndex, EntryNumber, Epoch)> {
        let mut lost = Vec::new();
        for (room, last) in last_of_each_room(batch) {
            let Some(state) = self.rooms.get_mut(&room) else { continue };
            let epoch = Epoch::random();
            state.epoch = epoch;
            state.is_stale = true;
            lost.push((room, last, epoch));
        }
        for Write { room, action } in batch {
            match action {
                WriteAction::Change(_, HistoryChange::Append(message)) => {
                    if let Some(state) = self.rooms.get_mut(room) {
                        state.last_id = message.id;
                        state.kept_from = MessageId(message.id.0 + 1);
                    }
                }
                WriteAction::Change(_, HistoryChange::Delete(_)) | WriteAction::Open(_) => {}
                WriteAction::Close => {
                    if let Some(state) = self.rooms.get_mut(room) {
                        state.close();
                    }
                }
                WriteAction::Forget => {
                    // As many as were open when writing failed, at most: none is opened meanwhile.
                    let closed = self.rooms.remove(room).filter(|state| state.is_closed);
                    self.unnoted.extend(closed);
                }
            }
        }
        lost
    }

    /// Tests whether the file can be written again, writes what could not be written of the rooms, and returns the
    /// reservations that are renewed. It also tests for free
    /// space: a disk with room for a reservation but not for messages would seem to recover every second, and lose
    /// messages each time.
    ///
    /// # Errors
    ///
    /// [`WriteError`]; then nothing was written.
    pub fn renew(&mut self) -> Result<Vec<(RoomIndex, MessageId)>, WriteError> {
        self.check_place()?;
        self.connection.execute("INSERT INTO ballast VALUES (zeroblob(?1))", [BALLAST_BYTES])?;
        let is_due = |state: &&RoomRow| state.is_stale || state.needs_reservation();
        let due = self.rooms.iter().filter(|(_, state)| is_due(state));
        let mut due: Vec<(RoomIndex, RoomRow)> = due.map(|(room, state)| (*room, state.clone())).collect();
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        transaction.execute("DELETE FROM ballast", [])?;
        for (_, state) in &mut due {
            state.save(&transaction)?;
        }
        let closed = finish_all(&mut self.unnoted, &transaction, self.kept_max)?;
        transaction.commit()?;
        self.unnoted.clear();
        (self.forgotten, self.closed) = (self.forgotten + closed, self.closed + closed);
        let reserved = due.iter().map(|(room, state)| (*room, state.reserved)).collect();
        self.rooms.extend(due);
        Ok(reserved)
    }

    /// True while the history of closed rooms is to be deleted. A batch deletes some of it, an empty one too.
    #[must_use]
    pub fn has_closed(&self) -> bool {
        self.closed > 0
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
            finish_all(self.rooms.values_mut().chain(&mut self.unnoted), &transaction, self.kept_max)?;
            transaction.commit()
        };
        let finished = finish();
        // The last connection to a file moves the log into it and removes the log.
        let closed = self.connection.close().map_err(|(_, error)| error);
        finished.and(closed).map_err(|source| DatabaseError::new(&self.path, source))
    }
}

/// Writes that rooms are forgotten. Returns how many of them have a row.
fn finish_all<'a>(
    rooms: impl IntoIterator<Item = &'a mut RoomRow>,
    transaction: &Transaction<'_>,
    kept_max: u64,
) -> rusqlite::Result<u64> {
    let mut count = 0;
    for state in rooms {
        count += u64::from(state.finish(transaction, kept_max)?);
    }
    Ok(count)
}

fn write_change(
    transaction: &Transaction<'_>,
    state: &mut RoomRow,
    change: &HistoryChange,
) -> rusqlite::Result<()> {
    match change {
        HistoryChange::Append(message) => {
            assert!(message.id > state.last_id, "Bug: a room's messages came out of order");
            assert!(message.id <= state.reserved, "Bug: an id was given out that was not reserved");
            state.insert(transaction, &mut transaction.prepare_cached(tables::INSERT_MESSAGE)?, message)
        }
        HistoryChange::Delete(message) => state.delete(transaction, message.id),
    }
}

/// The rooms that a batch changes, each with its last entry.
pub(super) fn last_of_each_room(batch: &[Write]) -> HashMap<RoomIndex, EntryNumber> {
    let changes = batch.iter().filter_map(|Write { room, action }| match action {
        WriteAction::Change(entry, _) => Some((*room, *entry)),
        WriteAction::Open(_) | WriteAction::Close | WriteAction::Forget => None,
    });
    changes.collect()
}
