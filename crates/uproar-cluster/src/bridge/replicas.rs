//! Which entries of this node are on as many replicas as were asked for.
//!
//! `WAIT` goes behind each append on its connection, and tells how many replicas have everything up to there. It counts
//! only for what was appended on that connection, so after a new one the next append tells, at the latest that of a
//! canary.
//!
//! `WAIT` keeps the connection busy until enough replicas have it. So once it was too few, it is short for some
//! seconds: a replica that is away costs this node's batches a second now and then, and not each time.

use crate::script::words;
use crate::{Appended, Command, Reply};

/// How long `WAIT` waits, in milliseconds.
pub(super) const WAIT_MS: u64 = 1_000;

/// How long it waits while replicas are away, in milliseconds.
const SHORT_WAIT_MS: u64 = 20;

/// How often it waits as long as otherwise while replicas are away, in milliseconds.
const LONG_WAIT_EVERY_MS: u64 = 5_000;

/// How often it is repeated while nothing is appended, in milliseconds.
const REPEATED_MS: u64 = 500;

/// What the replicas have.
#[derive(Debug)]
pub(super) struct Replicas {
    /// How many must have an entry; 0 where nobody waits for them.
    wanted: u16,
    /// The last entry that was appended on this connection; 0 without one.
    appended: u64,
    /// The last entry that they have, as was told.
    through: u64,
    /// Set since `WAIT` has told of too few: when it is repeated, and when it waits for long again.
    too_few: Option<(u64, u64)>,
}

impl Replicas {
    pub(super) fn new(wanted: u16) -> Self {
        Self { wanted, appended: 0, through: 0, too_few: None }
    }

    /// The connection is another one.
    pub(super) fn handle_disconnected(&mut self) {
        self.appended = 0;
    }

    /// An append, and `WAIT` behind it if anybody waits for replicas.
    pub(super) fn behind(&mut self, append: Command, now_ms: u64) -> Command {
        if self.wanted == 0 {
            return append;
        }
        let wait_ms = match &mut self.too_few {
            Some((_, long_ms)) if now_ms < *long_ms => SHORT_WAIT_MS,
            Some((_, long_ms)) => {
                *long_ms = now_ms + LONG_WAIT_EVERY_MS;
                WAIT_MS
            }
            None => WAIT_MS,
        };
        Command::ThenWait { first: Box::new(append), replicas: self.wanted, wait_ms }
    }

    /// When `WAIT` is repeated, if nothing is appended until then.
    pub(super) fn due_ms(&self) -> Option<u64> {
        let (due_ms, _) = self.too_few?;
        (self.appended > self.through).then_some(due_ms)
    }

    /// `WAIT` alone, when it is due.
    pub(super) fn command(&self, now_ms: u64) -> Option<Command> {
        self.due_ms().filter(|due_ms| *due_ms <= now_ms)?;
        let (wanted, wait_ms) = (self.wanted.to_string(), SHORT_WAIT_MS.to_string());
        Some(Command::Plain(vec![words(["WAIT", &wanted, &wait_ms])]))
    }

    /// The answers to an append, and to `WAIT` behind it.
    pub(super) fn split<'a>(&self, reply: &'a Reply) -> (&'a Reply, Option<&'a Reply>) {
        match reply {
            Reply::List(replies) if self.wanted > 0 => match &replies[..] {
                [append, wait] => (append, Some(wait)),
                _ => (reply, None),
            },
            _ => (reply, None),
        }
    }

    /// A batch that was in the log before was not appended on this connection, perhaps.
    pub(super) fn note_appended(&mut self, appended: Appended) {
        if !appended.is_known {
            self.appended = appended.number;
        }
    }

    /// `WAIT` has told how many replicas have what was appended. Returns the last entry that enough have, if it is a
    /// new one.
    pub(super) fn handle_waited(&mut self, count: u64, now_ms: u64) -> Option<u64> {
        if count < self.wanted.into() {
            let (_, long_ms) = self.too_few.unwrap_or((0, now_ms + LONG_WAIT_EVERY_MS));
            self.too_few = Some((now_ms + REPEATED_MS, long_ms));
            return None;
        }
        self.too_few = None;
        let is_new = self.appended > self.through;
        self.through = self.through.max(self.appended);
        is_new.then_some(self.through)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn appended(number: u64) -> Appended {
        Appended { number, is_known: false, damaged: 0 }
    }

    #[test]
    fn what_was_appended_on_another_connection_does_not_count() {
        let mut replicas = Replicas::new(1);
        replicas.note_appended(appended(7));
        assert_eq!(replicas.handle_waited(0, 0), None);
        assert_eq!((replicas.command(499), replicas.command(500).is_some()), (None, true));
        replicas.handle_disconnected();
        assert_eq!(replicas.command(500), None);
        // A batch that is sent again may have been appended on the other one.
        replicas.note_appended(Appended { is_known: true, ..appended(7) });
        assert_eq!(replicas.handle_waited(1, 600), None);
        replicas.note_appended(appended(8));
        assert_eq!(replicas.handle_waited(1, 700), Some(8));
    }

    #[test]
    fn while_replicas_are_away_a_batch_waits_long_now_and_then() {
        let mut replicas = Replicas::new(2);
        let mut wait_ms = |now_ms, count| {
            let command = replicas.behind(Command::Plain(Vec::new()), now_ms);
            replicas.note_appended(appended(now_ms));
            replicas.handle_waited(count, now_ms);
            match command {
                Command::ThenWait { wait_ms, replicas: 2, .. } => wait_ms,
                other => panic!("{other:?}"),
            }
        };
        let waits =
            [(0, 2), (100, 1), (200, 1), (5_099, 0), (5_100, 1), (5_200, 1), (10_100, 2), (10_200, 2)];
        let waits = waits.map(|(now_ms, count)| wait_ms(now_ms, count));
        assert_eq!(waits, [1_000, 1_000, 20, 20, 1_000, 20, 1_000, 1_000]);
    }
}
