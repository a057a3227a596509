//! The table of requests of backends with an idempotency key: one row for each that is kept.
//!
//! A row is written before its request is carried out, and again with its outcome. So after a crash a request is known to
//! have begun, whatever became of it.

use rusqlite::{OptionalExtension as _, Row, Transaction, params};

use crate::kept_requests::{
    KeptAnswer, KeptRequest, KeptRequests, REQUEST_KEPT_FOR, REQUESTS_BYTES_MAX, REQUESTS_MAX, RequestKey,
    RequestState,
};

/// Old rows that a commit deletes at most: twice as many as it can add.
const DELETED_MAX: usize = 8_192;

/// Rows that a step of [`renew`] writes at most, and deletes at most.
const RENEWED_MAX: usize = 4_096;

/// Bytes of requests that a step of [`renew`] writes at most, or of a single one.
const RENEWED_BYTES_MAX: usize = 8 << 20;

pub(super) const CREATE: &str = "
    CREATE TABLE request (
        -- The digest of the API key's name and the idempotency key.
        key BLOB PRIMARY KEY,
        -- The digest of what was asked for.
        content BLOB NOT NULL,
        -- When it began, and later when it was done, in Unix seconds.
        at INTEGER NOT NULL,
        -- The answer; NULL while the request is under way.
        status INTEGER,
        body TEXT
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX request_by_at ON request (at);
";

/// Writes a request as it is now, or removes its row.
pub(super) fn save(
    transaction: &Transaction<'_>,
    key: RequestKey,
    requests: &KeptRequests,
) -> rusqlite::Result<()> {
    match requests.get(key) {
        Some(request) => insert(transaction, key, &request),
        None => transaction.prepare_cached("DELETE FROM request WHERE key = ?1")?.execute([key.0]).map(drop),
    }
}

fn insert(transaction: &Transaction<'_>, key: RequestKey, request: &KeptRequest) -> rusqlite::Result<()> {
    let KeptRequest { content, at, state } = request;
    let (status, body) = match state {
        RequestState::UnderWay | RequestState::CutOff => (None, None),
        RequestState::Done(KeptAnswer { status, body }) => (Some(*status), Some(&**body)),
    };
    let mut insert =
        transaction.prepare_cached("INSERT OR REPLACE INTO request VALUES (?1, ?2, ?3, ?4, ?5)")?;
    insert.execute(params![key.0, content, at, status, body]).map(drop)
}

/// Deletes rows that are too old, and not too many of them.
pub(super) fn remove_old(transaction: &Transaction<'_>, unix_seconds: u64) -> rusqlite::Result<()> {
    let mut delete = transaction.prepare_cached(
        "DELETE FROM request WHERE key IN (SELECT key FROM request WHERE at <= ?1 ORDER BY at LIMIT ?2)",
    )?;
    delete.execute(params![oldest(unix_seconds), DELETED_MAX]).map(drop)
}

/// Replaces the next rows in the order of their keys, from the first or behind one: what is in the file and in memory up to
/// some key is then the same. Returns that key, or `None` after the last rows.
pub(super) fn renew(
    transaction: &Transaction<'_>,
    after: Option<RequestKey>,
    requests: &KeptRequests,
) -> rusqlite::Result<Option<RequestKey>> {
    // Smaller than each key.
    let after_bytes = after.map_or(Vec::new(), |key| key.0.to_vec());
    let mut last = transaction
        .prepare_cached("SELECT key FROM request WHERE key > ?1 ORDER BY key LIMIT 1 OFFSET ?2")?;
    let last_row = last
        .query_row(params![after_bytes, RENEWED_MAX - 1], |row| row.get::<_, [u8; 32]>(0))
        .optional()?
        .map(RequestKey);
    let mut kept = requests.next_by_key(after, RENEWED_MAX, RENEWED_BYTES_MAX);
    // What ends the file ends here, too; and the other way round.
    let last_kept = kept.last().map(|(key, _)| *key);
    let has_more = last_kept.filter(|key| !requests.next_by_key(Some(*key), 1, 0).is_empty());
    let through = match (last_row, has_more) {
        (Some(row), Some(kept)) => Some(row.min(kept)),
        (row, kept) => row.or(kept),
    };
    match through {
        Some(through) => {
            let mut delete =
                transaction.prepare_cached("DELETE FROM request WHERE key > ?1 AND key <= ?2")?;
            delete.execute(params![after_bytes, through.0])?;
            kept.retain(|(key, _)| *key <= through);
        }
        None => {
            transaction.prepare_cached("DELETE FROM request WHERE key > ?1")?.execute([after_bytes])?;
        }
    }
    kept.iter().try_for_each(|(key, request)| insert(transaction, *key, request))?;
    Ok(through)
}

/// Deletes the rows that are too old, and reads the others, the oldest first: no more than memory keeps. `None` if one is
/// invalid.
pub(super) fn restore(
    transaction: &Transaction<'_>,
    unix_seconds: u64,
) -> rusqlite::Result<Option<Vec<(RequestKey, KeptRequest)>>> {
    restore_within(transaction, unix_seconds, REQUESTS_MAX, REQUESTS_BYTES_MAX)
}

pub(super) fn restore_within(
    transaction: &Transaction<'_>,
    unix_seconds: u64,
    count_max: usize,
    bytes_max: usize,
) -> rusqlite::Result<Option<Vec<(RequestKey, KeptRequest)>>> {
    transaction.execute("DELETE FROM request WHERE at <= ?1", [oldest(unix_seconds)])?;
    // One of the future is from before the clock was set back.
    transaction.execute("UPDATE request SET at = ?1 WHERE at > ?1", [unix_seconds])?;
    let mut select = transaction
        .prepare("SELECT key, content, at, status, body FROM request ORDER BY at DESC LIMIT ?1")?;
    let mut rows = select.query([count_max])?;
    let (mut requests, mut bytes) = (Vec::new(), 0);
    while let Some(row) = rows.next()? {
        let Some((key, request)) = read(row)? else { return Ok(None) };
        bytes += request.bytes();
        if bytes > bytes_max {
            break;
        }
        requests.push((key, request));
    }
    requests.reverse();
    Ok(Some(requests))
}

fn read(row: &Row<'_>) -> rusqlite::Result<Option<(RequestKey, KeptRequest)>> {
    let digest = |index| row.get::<_, Vec<u8>>(index).map(|bytes| <[u8; 32]>::try_from(bytes).ok());
    let (key, content) = (digest(0)?, digest(1)?);
    let at = u64::try_from(row.get::<_, i64>(2)?).ok();
    let status = row.get::<_, Option<i64>>(3)?.map(|status| u16::try_from(status).ok());
    let body: Option<String> = row.get(4)?;
    let state = match (status, body) {
        (None, None) => RequestState::CutOff,
        (Some(Some(status)), Some(body)) => RequestState::Done(KeptAnswer { status, body: body.into() }),
        _ => return Ok(None),
    };
    let Some(((key, content), at)) = key.zip(content).zip(at) else { return Ok(None) };
    Ok(Some((RequestKey(key), KeptRequest { content, at, state })))
}

fn oldest(unix_seconds: u64) -> u64 {
    unix_seconds.saturating_sub(REQUEST_KEPT_FOR.as_secs())
}
