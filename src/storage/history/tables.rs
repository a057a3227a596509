//! The tables of `history.db`: one row for each room, one for each message that it keeps. The row of a deleted message
//! stays as long as the message would have, without its content.

use std::sync::Arc;

use rusqlite::{
    CachedStatement, Connection, Error, ErrorCode, OptionalExtension as _, Row, Transaction, params,
};

use crate::rooms::{
    Content, Epoch, KeptMessage, MessageId, RestoredRoom, RoomMessage, UserId, WRITES_UNANSWERED_MAX,
};
use crate::storage::database::Schema;

/// Ids that are reserved for a room ahead of the last message. Each reservation is a row to write, and a
/// crash leaves a gap of what was reserved and not given out: a day of one message a second.
const RESERVED_AHEAD: u64 = 1 << 16;

// A reservation is renewed when half of it is used up. Until the home hears of that it can give out ids to
// no more messages than it may have unanswered, and to one turn's more.
const _: () = assert!(RESERVED_AHEAD / 2 > 2 * WRITES_UNANSWERED_MAX as u64);

pub(super) const SCHEMA: Schema = Schema {
    // "Upro" in ASCII, with the last digit for what is in it.
    application_id: 0x5570_7201,
    steps: &[
        "
        CREATE TABLE room (
            room INTEGER PRIMARY KEY,
            name TEXT NOT NULL UNIQUE,
            -- Ids up to this one may be in use.
            reserved INTEGER NOT NULL,
            -- No message from this id on was lost.
            kept_from INTEGER NOT NULL
        ) STRICT;
        CREATE TABLE message (
            room INTEGER NOT NULL REFERENCES room,
            id INTEGER NOT NULL,
            kind TEXT NOT NULL,
            from_id INTEGER NOT NULL,
            from_name TEXT NOT NULL,
            content TEXT NOT NULL,
            timestamp INTEGER NOT NULL,
            PRIMARY KEY (room, id)
        ) STRICT, WITHOUT ROWID;
        -- Empty, except while the free space of a disk is tested after a failure.
        CREATE TABLE ballast (content BLOB NOT NULL) STRICT;
    ",
        "
        -- Identifies the history that ids belong to: 32 hexadecimal digits.
        ALTER TABLE room ADD COLUMN epoch TEXT NOT NULL DEFAULT '';
        UPDATE room SET epoch = lower(hex(randomblob(16)));
    ",
        "
        -- The account with which the sender had signed in.
        ALTER TABLE message ADD COLUMN from_account TEXT;
    ",
        "
        -- When the room was last forgotten, in Unix seconds; 0 for one that was closed; NULL while it is open, or if it was when the server was
        -- killed.
        ALTER TABLE room ADD COLUMN forgotten INTEGER;
        CREATE INDEX room_by_forgotten ON room (forgotten) WHERE forgotten IS NOT NULL;
    ",
    ],
};

/// Writes a message.
pub(super) const INSERT_MESSAGE: &str = "INSERT INTO message VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";

/// In the name of a closed room: ends the name that it had.
const CLOSED: char = '\0';

/// The kind of a message, in its row.
const KIND_TEXT: &str = "message";
const KIND_IMAGE: &str = "image";
const KIND_DELETED: &str = "deleted";

/// The state of a room: what its row holds, and changes that are not written yet.
#[derive(Clone, Debug)]
pub(super) struct RoomRow {
    pub(super) name: Arc<str>,
    /// `None` while the room has no row. It gets one with its first message; until then, no crash can bring its epoch
    /// back, so its ids need no reservation on the disk.
    pub(super) key: Option<i64>,
    /// The last message that was given to the storage, written or not.
    pub(super) last_id: MessageId,
    /// As in the file, if there is a row.
    pub(super) reserved: MessageId,
    pub(super) kept_from: MessageId,
    pub(super) epoch: Epoch,
    /// True while `kept_from` and `epoch` differ from the file.
    pub(super) is_stale: bool,
    pub(super) rows: u64,
    /// True while it waits to be pruned.
    pub(super) is_overfull: bool,
    /// True when its row said that it was forgotten.
    pub(super) was_forgotten: bool,
    /// True once it is closed.
    pub(super) is_closed: bool,
}

impl RoomRow {
    /// A room without a row.
    pub(super) fn new(name: Arc<str>) -> Self {
        Self {
            name,
            key: None,
            last_id: MessageId(0),
            reserved: MessageId(RESERVED_AHEAD),
            kept_from: MessageId(1),
            epoch: Epoch::random(),
            is_stale: false,
            rows: 0,
            is_overfull: false,
            was_forgotten: false,
            is_closed: false,
        }
    }

    /// The row's key. The row is created if necessary.
    fn written_key(&mut self, transaction: &Connection) -> rusqlite::Result<i64> {
        if let Some(key) = self.key {
            return Ok(key);
        }
        let mut insert = transaction
            .prepare_cached("INSERT INTO room (name, reserved, kept_from, epoch) VALUES (?1, ?2, ?3, ?4)")?;
        let (reserved, kept_from, epoch) = (self.reserved.0, self.kept_from.0, self.epoch.to_string());
        let key = insert.insert(params![&*self.name, reserved, kept_from, epoch])?;
        self.key = Some(key);
        self.is_stale = false;
        Ok(key)
    }

    /// Writes the next message of the room, with [`INSERT_MESSAGE`].
    pub(super) fn insert(
        &mut self,
        transaction: &Connection,
        statement: &mut CachedStatement<'_>,
        message: &RoomMessage,
    ) -> rusqlite::Result<()> {
        let key = self.written_key(transaction)?;
        let RoomMessage { id, from, from_name, from_account, content, timestamp } = message;
        let (kind, content) = match content {
            Content::Text(text) => (KIND_TEXT, text),
            Content::Image(url) => (KIND_IMAGE, url),
        };
        let (from, from_account) = (from.get(), from_account.as_deref());
        statement.execute(params![key, id.0, kind, from, &**from_name, content, timestamp, from_account])?;
        self.last_id = *id;
        self.rows += 1;
        Ok(())
    }

    /// Deletes the content of a message and its author's names, and keeps the row for the id. A message that was lost
    /// has no row.
    ///
    /// The bytes are overwritten, too. Otherwise they would stay in free space of the file, and be copied with it.
    pub(super) fn delete(&self, transaction: &Connection, id: MessageId) -> rusqlite::Result<()> {
        let overwrite = |is_on: bool| {
            transaction.pragma_update_and_check(None, "secure_delete", is_on, |row| row.get::<_, i64>(0))
        };
        overwrite(true)?;
        let mut update = transaction.prepare_cached(
            "UPDATE message SET kind = ?3, from_name = '', from_account = NULL, content = '' \
             WHERE room = ?1 AND id = ?2",
        )?;
        update.execute(params![self.key, id.0, KIND_DELETED])?;
        overwrite(false)?;
        Ok(())
    }

    /// Gives the room a name by which no client can find it: names have no control characters. Another room may take its
    /// name at once.
    pub(super) fn close(&mut self) {
        if !self.is_closed {
            self.name = format!("{}{CLOSED}{}", self.name, Epoch::random()).into();
            (self.is_closed, self.is_stale) = (true, true);
        }
    }

    pub(super) fn needs_reservation(&self) -> bool {
        self.reserved.0 - self.last_id.0 < RESERVED_AHEAD / 2
    }

    /// Writes that the room is forgotten and no id beyond the last message is in use, and deletes the rows that it does
    /// not keep. False for a room without a row.
    pub(super) fn finish(&mut self, transaction: &Connection, kept_max: u64) -> rusqlite::Result<bool> {
        if self.key.is_none() {
            return Ok(false);
        }
        self.reserved = self.last_id;
        self.store(transaction, true)?;
        self.prune(transaction, kept_max, u64::MAX)?;
        Ok(true)
    }

    /// Writes the changes, with a new reservation.
    pub(super) fn save(&mut self, transaction: &Connection) -> rusqlite::Result<()> {
        self.reserved = self.reserved.max(MessageId(self.last_id.0 + RESERVED_AHEAD));
        self.is_stale = false;
        self.store(transaction, false)
    }

    fn store(&self, transaction: &Connection, is_forgotten: bool) -> rusqlite::Result<()> {
        let mut update = transaction.prepare_cached(
            "UPDATE room SET reserved = ?2, kept_from = ?3, epoch = ?4, name = ?6, \
             forgotten = iif(?5, iif(?7, 0, unixepoch()), NULL) WHERE room = ?1",
        )?;
        let (epoch, name) = (self.epoch.to_string(), &*self.name);
        let Self { key, reserved, kept_from, is_closed, .. } = self;
        update.execute(params![key, reserved.0, kept_from.0, epoch, is_forgotten, name, is_closed])?;
        Ok(())
    }

    /// Deletes up to `rows_max` of the oldest rows beyond those that the room keeps. Returns how many.
    pub(super) fn prune(
        &mut self,
        transaction: &Connection,
        kept_max: u64,
        rows_max: u64,
    ) -> rusqlite::Result<u64> {
        let rows = self.rows.saturating_sub(kept_max).min(rows_max);
        let Some(others) = rows.checked_sub(1) else { return Ok(0) };
        let mut delete = transaction.prepare_cached(
            "DELETE FROM message WHERE room = ?1 AND id <= \
             (SELECT id FROM message WHERE room = ?1 ORDER BY id LIMIT 1 OFFSET ?2)",
        )?;
        let deleted = delete.execute(params![self.key, others])? as u64;
        self.rows -= deleted;
        Ok(deleted)
    }
}

/// Creates the row of a configured room, which has one from the start.
pub(super) fn create_room(transaction: &Connection, name: &str) -> rusqlite::Result<()> {
    transaction.execute(
        "INSERT INTO room (name, reserved, kept_from, epoch) VALUES (?1, 0, 1, ?2) ON CONFLICT DO NOTHING",
        params![name, Epoch::random().to_string()],
    )?;
    Ok(())
}

/// A room's state. `Err` says what is wrong with it in the file.
fn find_room(transaction: &Connection, name: &Arc<str>) -> rusqlite::Result<Result<RoomRow, &'static str>> {
    let mut select = transaction.prepare_cached(
        "SELECT room, reserved, kept_from, epoch, forgotten IS NOT NULL FROM room WHERE name = ?1",
    )?;
    let row = |row: &Row<'_>| {
        // All reserved ids count as used.
        let reserved = MessageId(row.get(1)?);
        let kept_from = MessageId(row.get(2)?);
        let Some(epoch) = Epoch::from_file(&row.get::<_, String>(3)?) else {
            return Ok(Err("a room with an invalid epoch"));
        };
        let (key, last_id, was_forgotten) = (Some(row.get(0)?), reserved, row.get(4)?);
        let new = RoomRow::new(Arc::clone(name));
        Ok(Ok(RoomRow { key, last_id, reserved, kept_from, epoch, was_forgotten, ..new }))
    };
    let found = select.query_row([&**name], row).optional()?;
    Ok(found.unwrap_or_else(|| Ok(RoomRow::new(Arc::clone(name)))))
}

/// As [`restore_room`], for a room that a client asks for: one that cannot be read changes nothing, and no other room
/// has to do with it.
pub(super) fn open_room(
    transaction: &mut Transaction<'_>,
    name: &Arc<str>,
    kept_max: u64,
) -> rusqlite::Result<Result<(RoomRow, RestoredRoom), String>> {
    let savepoint = transaction.savepoint()?;
    // Where it returns before the end, the savepoint is rolled back.
    match restore_room(&savepoint, name, kept_max) {
        Ok(Ok(opened)) => savepoint.commit().map(|()| Ok(opened)),
        Ok(Err(damage)) => Ok(Err(damage.to_owned())),
        Err(error) if is_damage(&error) => Ok(Err(error.to_string())),
        Err(error) => Err(error),
    }
}

/// True for an error that comes from what is in the file, and not from writing it.
fn is_damage(error: &Error) -> bool {
    match error {
        Error::FromSqlConversionFailure(..)
        | Error::IntegralValueOutOfRange(..)
        | Error::InvalidColumnType(..)
        | Error::Utf8Error(..) => true,
        _ => error.sqlite_error_code() == Some(ErrorCode::DatabaseCorrupt),
    }
}

/// Notes for the rooms that were open at a kill that they are forgotten. Returns how many rooms are.
pub(super) fn forget_all(transaction: &Connection) -> rusqlite::Result<u64> {
    transaction.execute(
        "UPDATE room SET forgotten = iif(instr(name, char(0)), 0, unixepoch()) WHERE forgotten IS NULL",
        [],
    )?;
    transaction.query_row("SELECT count(*) FROM room", [], |row| row.get(0))
}

/// How many rooms are forgotten because they were closed, which is noted as a time before all others.
pub(super) fn count_closed(transaction: &Connection) -> rusqlite::Result<u64> {
    transaction.query_row("SELECT count(*) FROM room WHERE forgotten = 0", [], |row| row.get(0))
}

/// Deletes up to `rows_max` messages of the room that has been forgotten longest, and the room itself when none is left.
/// Returns how many rows that were, and whether the room is gone; `None` when no room is forgotten.
pub(super) fn delete_oldest(
    transaction: &Connection,
    rows_max: u64,
) -> rusqlite::Result<Option<(u64, bool)>> {
    let mut oldest = transaction.prepare_cached(
        "SELECT room FROM room WHERE forgotten IS NOT NULL ORDER BY forgotten, room LIMIT 1",
    )?;
    let Some(key) = oldest.query_row([], |row| row.get::<_, i64>(0)).optional()? else { return Ok(None) };
    let mut delete = transaction.prepare_cached(
        "DELETE FROM message WHERE room = ?1 AND id IN \
         (SELECT id FROM message WHERE room = ?1 ORDER BY id LIMIT ?2)",
    )?;
    let rows = delete.execute(params![key, rows_max])? as u64;
    if rows == rows_max {
        return Ok(Some((rows, false)));
    }
    transaction.prepare_cached("DELETE FROM room WHERE room = ?1")?.execute([key])?;
    Ok(Some((rows + 1, true)))
}

/// A room's state and history, with a new reservation if it has a row. `Err` says what is wrong with it in the file.
pub(super) fn restore_room(
    transaction: &Connection,
    name: &Arc<str>,
    kept_max: u64,
) -> rusqlite::Result<Result<(RoomRow, RestoredRoom), &'static str>> {
    let mut state = match find_room(transaction, name)? {
        Ok(state) => state,
        Err(damage) => return Ok(Err(damage)),
    };
    let mut kept = Vec::new();
    if let Some(key) = state.key {
        state.rows = count_rows(transaction, key)?;
        state.prune(transaction, kept_max, u64::MAX)?;
        let Some(found) = last_messages(transaction, key)? else { return Ok(Err("an invalid message")) };
        kept = found;
        // Members may have seen messages with reserved ids that are not in the file.
        let last = kept.last().map_or(MessageId(0), KeptMessage::id);
        if last > state.last_id || state.kept_from.0 > state.last_id.0 + 1 || state.last_id > MessageId::MAX {
            return Ok(Err("a room whose ids contradict its messages"));
        }
        if last < state.last_id {
            state.kept_from = MessageId(state.last_id.0 + 1);
        } else if let Some(first) = kept.first() {
            state.kept_from = state.kept_from.max(first.id());
        }
        state.save(transaction)?;
    }
    let RoomRow { epoch, last_id, kept_from, reserved, .. } = state;
    Ok(Ok((state, RestoredRoom { epoch, kept, last_id, kept_from, reserved })))
}

fn count_rows(transaction: &Connection, key: i64) -> rusqlite::Result<u64> {
    transaction.query_row("SELECT count(*) FROM message WHERE room = ?1", [key], |row| row.get(0))
}

/// A room's messages, oldest first; `None` when one of them is invalid.
fn last_messages(transaction: &Connection, key: i64) -> rusqlite::Result<Option<Vec<KeptMessage>>> {
    let mut select = transaction.prepare_cached(
        "SELECT id, kind, from_id, from_name, content, timestamp, from_account FROM message WHERE room = ?1 \
         ORDER BY id",
    )?;
    select.query_map([key], message)?.collect()
}

fn message(row: &Row<'_>) -> rusqlite::Result<Option<KeptMessage>> {
    let id = MessageId(row.get(0)?);
    let kind: String = row.get(1)?;
    let content = match &*kind {
        KIND_TEXT => Content::Text(row.get(4)?),
        KIND_IMAGE => Content::Image(row.get(4)?),
        KIND_DELETED => return Ok(Some(KeptMessage::Deleted(id))),
        _ => return Ok(None),
    };
    let from = UserId::from_stored(row.get(2)?);
    let from_name: String = row.get(3)?;
    let from_account: Option<String> = row.get(6)?;
    Ok(Some(KeptMessage::Whole(Arc::new(RoomMessage {
        id,
        from,
        from_name: from_name.into(),
        from_account: from_account.map(Into::into),
        content,
        timestamp: row.get(5)?,
    }))))
}
