//! The file `history.db`: the messages of rooms, and the message ids that are reserved for each room.
//!
//! Only the storage thread has it open. It writes in batches, each of which is one transaction. What a batch
//! contains, and who waits for it, is decided in `writer`; the SQL of rows is in `tables`.

mod tables;

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use rusqlite::{Connection, ErrorCode, TransactionBehavior};
use thiserror::Error;

use self::tables::{RoomRow, SCHEMA};
use super::database::{self, DatabaseError, FileIdentity, LogState};
use crate::rooms::{Directory, Epoch, MessageId, Restored, RestoredRoom, RoomIndex, UserId, Write};

/// The file's name in the data directory.
pub const HISTORY_FILE: &str = "history.db";

/// Old rows of a room are deleted when there are this many more than it keeps: a few hundred at a time cost less than
/// one with every message. A batch deletes at most this many more rows than it writes: that is quick, and still
/// faster than rows are added.
const ROWS_EXCESS_MAX: u64 = 500;

/// The free space that a disk must have after a failure before messages are accepted again.
const BALLAST_BYTES: u32 = 1 << 20;

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

/// Why a write failed.
#[expect(missing_docs, reason = "the fields are what their names and types say")]
#[derive(Debug, Error)]
pub enum WriteError {
    /// An error of SQLite.
    #[error("history.db cannot be written: {0}; {advice}", advice = advice(.0))]
    Sqlite(#[from] rusqlite::Error),
    /// The file or its log was deleted, moved or replaced.
    #[error(
        "{} was deleted, moved or replaced: put it back where it was, or restart uproar, which goes on with what it \
         finds there",
        path.display()
    )]
    Missing { path: PathBuf },
}

fn advice(error: &rusqlite::Error) -> &'static str {
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => "stop the program that has locked it",
        _ => "check that the disk works and has room",
    }
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
            let last = kept.last().map_or(MessageId(0), |last| last.id);
            if last > state.last_id
                || state.kept_from.0 > state.last_id.0 + 1
                || state.last_id > MessageId::MAX
            {
                return Err(damaged("a room whose ids contradict its messages"));
            }
            if last < state.last_id {
                state.kept_from = MessageId(state.last_id.0 + 1);
            } else if let Some(first) = kept.first() {
                state.kept_from = state.kept_from.max(first.id);
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

    /// Writes all messages of a batch or none, and returns the renewed reservations once they are on the disk.
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
            for Write { room, message } in batch {
                let state = changed.entry(room.get()).or_insert_with(|| self.rooms[room.get()].clone());
                assert!(message.id > state.last_id, "Bug: a room's messages came out of order");
                assert!(message.id <= state.reserved, "Bug: an id was given out that was not reserved");
                state.insert(&mut insert, message)?;
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

    /// Gives messages up, and returns the new epochs of their rooms, each with the last message that is lost.
    ///
    /// They are stored when the file can be written again. If the server is killed before that, the file has the old
    /// epochs, and clients with a new epoch learn that messages are missing, like clients with an id that the file
    /// does not have.
    pub fn lose(&mut self, batch: &[Write]) -> Vec<(RoomIndex, MessageId, Epoch)> {
        let lost: Vec<_> =
            last_of_each_room(batch).into_iter().map(|(room, last)| (room, last, Epoch::random())).collect();
        for &(room, last, epoch) in &lost {
            let state = &mut self.rooms[room.get()];
            state.last_id = last;
            state.kept_from = MessageId(last.0 + 1);
            state.epoch = epoch;
            state.is_stale = true;
        }
        lost
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
        match self.identity.missing() {
            None => Ok(()),
            Some(path) => Err(WriteError::Missing { path: path.to_owned() }),
        }
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

/// The rooms of a batch, each with its last message.
pub(super) fn last_of_each_room(batch: &[Write]) -> HashMap<RoomIndex, MessageId> {
    batch.iter().map(|Write { room, message }| (*room, message.id)).collect()
}

/// All of `count` rooms once, starting after this one.
fn in_turn(last: usize, count: usize) -> impl Iterator<Item = usize> {
    (1..=count).map(move |step| (last + step) % count)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::rooms::{Content, RoomMessage};
    use crate::storage::database::Schema;

    const KEPT_MAX: u64 = 10;

    fn open(data: &tempfile::TempDir) -> (Directory, HistoryFile) {
        let names = ["general", "quiet", "silent"].map(str::to_owned);
        let directory = Directory::new(&names, 1);
        let path = data.path().join(HISTORY_FILE);
        let (file, _) = HistoryFile::open(&path, &directory, KEPT_MAX as usize).unwrap();
        (directory, file)
    }

    /// So many messages behind the last one of a room.
    fn batch(file: &HistoryFile, room: RoomIndex, count: u64) -> Vec<Write> {
        let last = file.rooms[room.get()].last_id.0;
        let message = |id| RoomMessage {
            id: MessageId(id),
            from: UserId::from_wire(1).unwrap(),
            from_name: "Ann".into(),
            content: Content::Text("hello".into()),
            timestamp: 0,
        };
        (last + 1..=last + count).map(|id| Write { room, message: Arc::new(message(id)) }).collect()
    }

    fn rows(file: &HistoryFile) -> Vec<u64> {
        let counted: Vec<u64> = file
            .rooms
            .iter()
            .map(|state| {
                let count = "SELECT count(*) FROM message WHERE room = ?1";
                file.connection.query_row(count, [state.key], |row| row.get(0)).unwrap()
            })
            .collect();
        assert_eq!(counted, file.rooms.iter().map(|state| state.rows).collect::<Vec<u64>>());
        counted
    }

    #[test]
    fn a_busy_room_does_not_keep_others_from_being_pruned_and_no_batch_deletes_much() {
        let data = tempfile::tempdir().unwrap();
        let (directory, mut file) = open(&data);
        let rooms: Vec<RoomIndex> = directory.rooms().collect();
        // They have more than they keep, as when a batch had no time for them.
        for &room in &rooms[1..] {
            let history: Vec<Write> = batch(&file, room, 3 * ROWS_EXCESS_MAX);
            for part in history.chunks(ROWS_EXCESS_MAX as usize) {
                file.kept_max = u64::MAX / 2;
                file.write(part).unwrap();
            }
        }
        file.kept_max = KEPT_MAX;
        for _ in 0..6 {
            let before: u64 = rows(&file).iter().sum();
            let busy = batch(&file, rooms[0], ROWS_EXCESS_MAX + 1);
            file.write(&busy).unwrap();
            let after: u64 = rows(&file).iter().sum();
            let deleted = before + busy.len() as u64 - after;
            assert!(deleted <= busy.len() as u64 + ROWS_EXCESS_MAX, "{deleted}");
        }
        let rows = rows(&file);
        assert!(rows.iter().all(|rows| *rows <= KEPT_MAX + ROWS_EXCESS_MAX), "{rows:?}");
    }

    #[test]
    fn an_epoch_outlives_the_server_and_a_lost_message_ends_it() {
        let data = tempfile::tempdir().unwrap();
        let epochs = |file: &HistoryFile| file.rooms.iter().map(|room| room.epoch).collect::<Vec<_>>();
        let (directory, mut file) = open(&data);
        let first = epochs(&file);
        assert!(first[0] != first[1] && first[1] != first[2], "each room has its own");
        let general = directory.rooms().next().unwrap();
        file.write(&batch(&file, general, 3)).unwrap();
        // As after a kill.
        drop(file);
        let (_, mut file) = open(&data);
        assert_eq!(epochs(&file), first);

        let lost = batch(&file, general, 2);
        let lost = file.lose(&lost);
        let second = epochs(&file);
        assert_eq!(lost, [(general, file.rooms[0].last_id, second[0])]);
        assert_ne!(second[0], first[0]);
        assert_eq!(second[1..], first[1..]);
        file.renew().unwrap();
        drop(file);
        assert_eq!(epochs(&open(&data).1), second);
    }

    #[test]
    fn a_file_of_the_version_without_epochs_is_brought_up_to_date() {
        let data = tempfile::tempdir().unwrap();
        let path = data.path().join(HISTORY_FILE);
        let before = Schema { steps: &SCHEMA.steps[..1], ..SCHEMA };
        database::open(&path, &before)
            .unwrap()
            .execute_batch(
                "INSERT INTO room VALUES (1, 'general', 7, 1), (2, 'quiet', 0, 1);
                 INSERT INTO message VALUES (1, 7, 'message', 1, 'Ann', 'hello', 5);",
            )
            .unwrap();
        let (_, file) = open(&data);
        let epochs: Vec<Epoch> = file.rooms.iter().map(|room| room.epoch).collect();
        assert!(epochs[0] != epochs[1] && epochs[1] != epochs[2]);
        assert_eq!(rows(&file), [1, 0, 0]);
        drop(file);
        let (_, file) = open(&data);
        assert_eq!(file.rooms.iter().map(|room| room.epoch).collect::<Vec<_>>(), epochs);
        assert!(database::open(&path, &before).unwrap_err().to_string().contains("has version 2"));
    }

    #[test]
    fn the_oldest_are_deleted() {
        let data = tempfile::tempdir().unwrap();
        let (directory, mut file) = open(&data);
        let general = directory.rooms().next().unwrap();
        let count = KEPT_MAX + ROWS_EXCESS_MAX + 1;
        file.write(&batch(&file, general, count)).unwrap();
        let first = "SELECT min(id), max(id) FROM message";
        let ids: (u64, u64) =
            file.connection.query_row(first, [], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
        assert_eq!(ids, (ROWS_EXCESS_MAX + 2, count));
    }
}
