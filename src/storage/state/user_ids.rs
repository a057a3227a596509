//! The table of user ids: how far they may have been given out, and which series they belong to.

use rusqlite::{Connection, OptionalExtension as _, Transaction, params};
use rustix::rand::{GetRandomFlags, getrandom};

/// Ids that are reserved ahead of the last one that was given out. A kill leaves a gap of what was not given out. They are
/// renewed at half, so the disk has the time in which 32,768 users come. While it fails for longer, ids go on without a
/// reservation, and their users get no session tokens: after a kill, the tokens would name other users.
const RESERVED_AHEAD: u64 = 1 << 16;

pub(super) const CREATE: &str = "
    CREATE TABLE user_ids (
        only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
        -- Identifies this series of ids: 16 random bytes.
        series BLOB NOT NULL,
        -- Ids up to this one may be in use.
        reserved INTEGER NOT NULL
    ) STRICT;
";

/// Identifies a series of user ids: those of another file may be the same numbers, and are other users.
#[derive(Clone, Copy, Debug)]
pub(super) struct SeriesId(pub(super) [u8; 16]);

/// The ids that may be given out before the next reservation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ReservedIds {
    through: u64,
}

impl ReservedIds {
    /// A reservation for the users who come after this one.
    pub(super) fn ahead_of(last: u64) -> Self {
        Self { through: last.saturating_add(RESERVED_AHEAD) }
    }

    /// The end of all reservations: nobody comes after this user.
    pub(super) fn none_ahead_of(last: u64) -> Self {
        Self { through: last }
    }

    /// The last id that is reserved.
    pub(super) fn through(self) -> u64 {
        self.through
    }

    /// The next reservation, if half of this one is used up.
    pub(super) fn renewed(self, last: u64) -> Option<Self> {
        (self.through < last.saturating_add(RESERVED_AHEAD / 2)).then(|| Self::ahead_of(last))
    }

    pub(super) fn save(self, connection: &Connection) -> rusqlite::Result<()> {
        connection.execute("UPDATE user_ids SET reserved = ?1", [self.through]).map(drop)
    }
}

/// The series and the last reserved id; a new series where there is none. `None` if they are invalid.
pub(super) fn find(transaction: &Transaction<'_>) -> rusqlite::Result<Option<(SeriesId, u64)>> {
    let read = |row: &rusqlite::Row<'_>| Ok((row.get::<_, Vec<u8>>(0)?, row.get::<_, i64>(1)?));
    let found = transaction.query_row("SELECT series, reserved FROM user_ids", [], read).optional()?;
    let Some((series, reserved)) = found else {
        let mut series = [0; 16];
        // Fewer than 257 bytes come all at once, or none while the machine starts (getrandom(2)).
        while series == [0; 16] {
            let _ = getrandom(&mut series, GetRandomFlags::empty());
        }
        transaction.execute("INSERT INTO user_ids VALUES (1, ?1, 0)", params![series])?;
        return Ok(Some((SeriesId(series), 0)));
    };
    Ok(series.try_into().ok().map(SeriesId).zip(reserved.try_into().ok()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reservation_is_renewed_when_half_of_it_is_used() {
        let reserved = ReservedIds::ahead_of(10);
        assert_eq!(reserved.through, 10 + RESERVED_AHEAD);
        assert_eq!(reserved.renewed(10 + RESERVED_AHEAD / 2), None);
        let half_used = 11 + RESERVED_AHEAD / 2;
        assert_eq!(reserved.renewed(half_used), Some(ReservedIds::ahead_of(half_used)));
    }
}
