//! The table of sessions: one row for each chat user that is online or may come back.

use std::time::Duration;

use rusqlite::{Row, Transaction, params};

use crate::rooms::{EndedSession, StoredSession, UserId, UserSession, Users};

pub(super) const CREATE: &str = "
    CREATE TABLE session (
        user INTEGER PRIMARY KEY,
        name TEXT NOT NULL,
        room TEXT NOT NULL,
        -- The account with which the user has signed in.
        account TEXT,
        -- In Unix seconds; none while the user is online.
        ended_at INTEGER
    ) STRICT;
";

/// Writes a user's session as it is now, or removes its row.
pub(super) fn save(transaction: &Transaction<'_>, user: UserId, users: &Users) -> rusqlite::Result<()> {
    match users.stored_session(user) {
        Some(stored) => insert(transaction, user, &stored),
        None => {
            let mut delete = transaction.prepare_cached("DELETE FROM session WHERE user = ?1")?;
            delete.execute([user.get()]).map(drop)
        }
    }
}

/// Replaces all rows.
pub(super) fn save_all(transaction: &Transaction<'_>, users: &Users) -> rusqlite::Result<()> {
    transaction.execute("DELETE FROM session", [])?;
    users.stored_sessions().into_iter().try_for_each(|(user, stored)| insert(transaction, user, &stored))
}

fn insert(transaction: &Transaction<'_>, user: UserId, stored: &StoredSession) -> rusqlite::Result<()> {
    let StoredSession { session, ended_at } = stored;
    let UserSession { name, room, account } = &**session;
    let mut insert =
        transaction.prepare_cached("INSERT OR REPLACE INTO session VALUES (?1, ?2, ?3, ?4, ?5)")?;
    insert.execute(params![user.get(), &**name, &**room, account.as_deref(), ended_at]).map(drop)
}

/// Removes the sessions that are too old, ends those that were online, and returns what is left, the oldest first. `None`
/// if a row is invalid.
pub(super) fn restore(
    transaction: &Transaction<'_>,
    timeout: Duration,
    unix_seconds: u64,
) -> rusqlite::Result<Option<Vec<EndedSession>>> {
    transaction.execute("UPDATE session SET ended_at = ?1 WHERE ended_at IS NULL", [unix_seconds])?;
    // A session that has ended in the future has done so before the clock was set back.
    transaction.execute("UPDATE session SET ended_at = ?1 WHERE ended_at > ?1", [unix_seconds])?;
    let oldest =
        if timeout.is_zero() { u64::MAX >> 1 } else { unix_seconds.saturating_sub(timeout.as_secs()) };
    transaction.execute("DELETE FROM session WHERE ended_at < ?1", [oldest])?;
    let mut select = transaction
        .prepare("SELECT user, name, room, account, ended_at FROM session ORDER BY ended_at, user")?;
    let rows = select.query_map([], |row| read(row, timeout, unix_seconds))?;
    rows.collect()
}

fn read(row: &Row<'_>, timeout: Duration, unix_seconds: u64) -> rusqlite::Result<Option<EndedSession>> {
    let user = row.get::<_, i64>(0)?.try_into().ok().and_then(UserId::from_wire);
    let session = UserSession {
        name: row.get::<_, String>(1)?.into(),
        room: row.get::<_, String>(2)?.into(),
        account: row.get::<_, Option<String>>(3)?.map(Into::into),
    };
    let ended_at: i64 = row.get(4)?;
    let Some((user, ended_at)) = user.zip(u64::try_from(ended_at).ok()) else { return Ok(None) };
    let passed = Duration::from_secs(unix_seconds - ended_at);
    let expires_ms = timeout.saturating_sub(passed).as_millis() as u64;
    Ok(Some(EndedSession { user, session: session.into(), ended_at, expires_ms }))
}
