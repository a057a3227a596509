//! The tables of bans and mutes: one row for each that is in force.

use rusqlite::{Row, Transaction, params};

use crate::moderation::{Ban, BanId, BanSubject, Moderation, MuteSubject, MuteTerm, StoredTerms};
use crate::rooms::UserId;

pub(super) const CREATE: &str = "
    CREATE TABLE ban (
        -- 'account' or 'address'.
        kind TEXT NOT NULL,
        subject TEXT NOT NULL,
        -- The last second, in Unix seconds; 0 for good.
        until INTEGER NOT NULL,
        reason TEXT NOT NULL,
        PRIMARY KEY (kind, subject)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE mute (
        -- 'account', 'session' (the subject is a user id) or 'address'.
        kind TEXT NOT NULL,
        subject TEXT NOT NULL,
        until INTEGER NOT NULL,
        PRIMARY KEY (kind, subject)
    ) STRICT, WITHOUT ROWID;
";

pub(super) const ADD_NETWORK: &str = "
    -- Of a session: the address that was muted with it, or the first one of its /64.
    ALTER TABLE mute ADD COLUMN network TEXT;
";

/// Bans that were made before have no id: they get one, and nobody knows who made them and when.
pub(super) const ADD_BAN_IDS: &str = "
    ALTER TABLE ban RENAME TO ban_before;
    CREATE TABLE ban (
        id INTEGER PRIMARY KEY,
        kind TEXT NOT NULL,
        subject TEXT NOT NULL,
        until INTEGER NOT NULL,
        reason TEXT NOT NULL,
        -- The author of the order: account:NAME, user:ID or key:NAME.
        admin TEXT NOT NULL,
        -- When it was ordered, in Unix seconds; 0: before that was noted.
        since INTEGER NOT NULL,
        UNIQUE (kind, subject)
    ) STRICT;
    INSERT INTO ban SELECT row_number() OVER (ORDER BY kind, subject), kind, subject, until, reason, '', 0
        FROM ban_before;
    DROP TABLE ban_before;
    CREATE TABLE ban_ids (
        only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
        -- The last id that was given to a ban.
        last INTEGER NOT NULL
    ) STRICT;
    INSERT INTO ban_ids SELECT 1, coalesce(max(id), 0) FROM ban;
";

/// Writes a ban as it is now, or removes its row.
pub(super) fn save_ban(
    transaction: &Transaction<'_>,
    subject: &BanSubject,
    moderation: &Moderation,
) -> rusqlite::Result<()> {
    match moderation.stored_ban(subject) {
        Some(ban) => insert_ban(transaction, subject, &ban),
        None => delete(transaction, "DELETE FROM ban WHERE kind = ?1 AND subject = ?2", ban_key(subject)),
    }?;
    save_last_id(transaction, moderation.last_ban())
}

fn save_last_id(transaction: &Transaction<'_>, last: BanId) -> rusqlite::Result<()> {
    transaction.prepare_cached("UPDATE ban_ids SET last = ?1")?.execute([last.0]).map(drop)
}

/// Writes a mute as it is now, or removes its row.
pub(super) fn save_mute(
    transaction: &Transaction<'_>,
    subject: &MuteSubject,
    moderation: &Moderation,
) -> rusqlite::Result<()> {
    match moderation.stored_mute(subject) {
        Some(term) => insert_mute(transaction, subject, term),
        None => delete(transaction, "DELETE FROM mute WHERE kind = ?1 AND subject = ?2", mute_key(subject)),
    }
}

/// Replaces all rows.
pub(super) fn save_all(transaction: &Transaction<'_>, moderation: &Moderation) -> rusqlite::Result<()> {
    transaction.execute_batch("DELETE FROM ban; DELETE FROM mute")?;
    let StoredTerms { bans, last_ban, mutes } = moderation.stored();
    save_last_id(transaction, last_ban)?;
    bans.iter().try_for_each(|(subject, ban)| insert_ban(transaction, subject, ban))?;
    mutes.iter().try_for_each(|(subject, term)| insert_mute(transaction, subject, *term))
}

/// Removes the rows that have ended.
pub(super) fn remove_ended(transaction: &Transaction<'_>, unix_seconds: u64) -> rusqlite::Result<()> {
    transaction.execute("DELETE FROM ban WHERE until <> 0 AND until < ?1", [unix_seconds])?;
    transaction.execute("DELETE FROM mute WHERE until < ?1", [unix_seconds]).map(drop)
}

/// Reads all rows. `None` if one is invalid.
pub(super) fn restore(transaction: &Transaction<'_>) -> rusqlite::Result<Option<StoredTerms>> {
    let text = |row: &Row<'_>, index| row.get::<_, String>(index);
    let mut bans = transaction.prepare("SELECT kind, subject, until, reason, id, admin, since FROM ban")?;
    let bans = bans.query_map([], |row| {
        let (kind, subject, until) = (text(row, 0)?, text(row, 1)?, row.get::<_, i64>(2)?);
        let reason = text(row, 3)?.into();
        let number = |index| row.get::<_, i64>(index).map(|number| u64::try_from(number).ok());
        let (until, id, since) = (u64::try_from(until).ok(), number(4)?, number(6)?);
        let by = text(row, 5)?.into();
        let ban = until.zip(id).zip(since);
        let ban = ban.map(|((until, id), since)| Ban { id: BanId(id), until, reason, by, since });
        Ok(ban_subject(&kind, &subject).zip(ban))
    })?;
    let Some(bans) = bans.collect::<rusqlite::Result<Option<Vec<_>>>>()? else { return Ok(None) };
    let last_ban = transaction.query_row("SELECT last FROM ban_ids", [], |row| row.get::<_, i64>(0));
    let Ok(last_ban) = u64::try_from(last_ban?).map(BanId) else { return Ok(None) };
    if bans.iter().any(|(_, ban)| ban.id > last_ban) {
        return Ok(None);
    }
    let mut mutes = transaction.prepare("SELECT kind, subject, until, network FROM mute")?;
    let mutes = mutes.query_map([], |row| {
        let (kind, subject, until) = (text(row, 0)?, text(row, 1)?, row.get::<_, i64>(2)?);
        let network = row.get::<_, Option<String>>(3)?.map(|network| network.parse().ok());
        let term = match (until.try_into().ok(), network) {
            (Some(until), None) => Some(MuteTerm { until, network: None }),
            (Some(until), Some(network @ Some(_))) => Some(MuteTerm { until, network }),
            _ => None,
        };
        Ok(mute_subject(&kind, &subject).zip(term))
    })?;
    let mutes = mutes.collect::<rusqlite::Result<Option<_>>>()?;
    Ok(mutes.map(|mutes| StoredTerms { bans, last_ban, mutes }))
}

fn insert_ban(transaction: &Transaction<'_>, subject: &BanSubject, ban: &Ban) -> rusqlite::Result<()> {
    let (kind, subject) = ban_key(subject);
    let Ban { id, until, reason, by, since } = ban;
    let mut insert =
        transaction.prepare_cached("INSERT OR REPLACE INTO ban VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)")?;
    insert.execute(params![id.0, kind, subject, until, &**reason, &**by, since]).map(drop)
}

fn insert_mute(transaction: &Transaction<'_>, subject: &MuteSubject, term: MuteTerm) -> rusqlite::Result<()> {
    let (kind, subject) = mute_key(subject);
    let network = term.network.map(|network| network.to_string());
    let mut insert = transaction.prepare_cached("INSERT OR REPLACE INTO mute VALUES (?1, ?2, ?3, ?4)")?;
    insert.execute(params![kind, subject, term.until, network]).map(drop)
}

fn delete(transaction: &Transaction<'_>, sql: &str, key: (&str, String)) -> rusqlite::Result<()> {
    transaction.prepare_cached(sql)?.execute(key).map(drop)
}

fn ban_key(subject: &BanSubject) -> (&'static str, String) {
    match subject {
        BanSubject::Account(account) => ("account", account.to_string()),
        BanSubject::Address(address) => ("address", address.to_string()),
    }
}

fn ban_subject(kind: &str, subject: &str) -> Option<BanSubject> {
    match kind {
        "account" => BanSubject::account(subject),
        "address" => BanSubject::parse_address(subject),
        _ => None,
    }
}

fn mute_key(subject: &MuteSubject) -> (&'static str, String) {
    match subject {
        MuteSubject::Account(account) => ("account", account.to_string()),
        MuteSubject::Session(user) => ("session", user.to_string()),
        MuteSubject::Address(address) => ("address", address.to_string()),
    }
}

fn mute_subject(kind: &str, subject: &str) -> Option<MuteSubject> {
    match kind {
        "account" => Some(MuteSubject::Account(subject.into())),
        "session" => subject.parse().ok().and_then(UserId::from_wire).map(MuteSubject::Session),
        "address" => subject.parse().ok().map(MuteSubject::Address),
        _ => None,
    }
}
