//! When a client counts as a receiver, and how many deliveries are expected.
//!
//! A client that leaves and rejoins is expected to receive exactly the broadcasts that are *due* while it
//! is present. It decides to leave at some moment, and still reads until everything due before has
//! arrived; only then does it close. It is present again from the moment at which it has seen its join
//! confirmed. Since nothing is sent before it is due, what was due while it was present was sent to a
//! member, and stayed receivable; what was due outside is counted neither as expected nor as received,
//! even when it arrives. Due times are known to all threads, so each can decide this by itself.

use crate::plan::Plan;

/// When a client counts as a receiver, in due times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Presence {
    /// From here on.
    since_ns: u64,
    /// Until here, once it is leaving.
    until_ns: u64,
    /// Deliveries received that were due within, each counted once.
    pub heard_count: u64,
}

impl Default for Presence {
    fn default() -> Self {
        Self { since_ns: 0, until_ns: u64::MAX, heard_count: 0 }
    }
}

impl Presence {
    /// Begins, for what is due from `now_ns` on.
    #[must_use]
    pub fn since(now_ns: u64) -> Self {
        Self { since_ns: now_ns, ..Self::default() }
    }

    /// Ends, for what is due from `now_ns` on.
    pub fn end(&mut self, now_ns: u64) {
        self.until_ns = now_ns.max(self.since_ns);
    }

    /// True for a broadcast that is to be received.
    #[must_use]
    pub fn covers(&self, intended_ns: u64) -> bool {
        (self.since_ns..self.until_ns).contains(&intended_ns)
    }

    /// How many deliveries it comes to in a room, the warm-up's included.
    #[must_use]
    pub fn expected_count(&self, plan: &Plan, start_ns: u64, room: u32) -> u64 {
        let first = |time_ns| plan.schedule.first_due_from(start_ns, time_ns);
        plan.rooms.broadcasts(room, first(self.since_ns)..first(self.until_ns))
    }
}

/// A time in which one client of a room was not present, in sequence numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Absence {
    /// The room that it was not in.
    pub room: u32,
    /// The place of its server.
    pub server: u8,
    /// The first broadcast that it is not to receive.
    pub from: u64,
    /// The first that it is to receive again; `u64::MAX` when it has not come back.
    pub until: u64,
}

/// How many clients of a server receive each measured broadcast, when `readers` (by room) do in the absence of
/// absences. A speaker in chat does not hear itself.
#[must_use]
pub fn expected_counts<'a>(
    plan: &Plan,
    server: usize,
    readers: &[u64],
    absences: impl Iterator<Item = &'a Absence>,
) -> Vec<u64> {
    let measured = plan.schedule.measured();
    // By how much the absentees of a room grow or shrink at a broadcast. It may not be one of the room.
    let mut changes = Vec::new();
    for absence in absences.filter(|absence| usize::from(absence.server) == server) {
        changes.push((absence.from.max(measured.start), absence.room, 1_i64));
        changes.push((absence.until.max(measured.start), absence.room, -1));
    }
    changes.sort_unstable();
    let mut changes = changes.into_iter().peekable();
    let mut absent = vec![0_i64; readers.len()];
    measured
        .map(|sequence| {
            while let Some((_, room, change)) = changes.next_if(|(at, ..)| *at <= sequence) {
                absent[room as usize] += change;
            }
            let origin = plan.rooms.origin(sequence);
            let room = origin.room as usize;
            let present = readers[room].saturating_sub(absent[room].unsigned_abs());
            let hears_itself = plan.dialect.joins_chat() && plan.server_index(origin.speaker) == server;
            present.saturating_sub(u64::from(hears_itself))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::tests::plan;

    const MS: u64 = 1_000_000;

    #[test]
    fn a_presence_covers_what_is_due_within() {
        let mut presence = Presence::since(100);
        assert!(!presence.covers(99) && presence.covers(100) && presence.covers(u64::MAX - 1));
        presence.end(200);
        assert!(presence.covers(199) && !presence.covers(200));
    }

    #[test]
    fn a_leaving_client_waits_for_its_own_room() {
        let arguments = ["--dialect", "raw", "--clients", "4", "--rooms", "2", "--rate", "10"];
        let plan = plan(&[&arguments[..], &["--warmup", "1s", "--duration", "1s"]].concat());
        let mut presence = Presence::since(1_150 * MS);
        presence.end(1_450 * MS);
        // Due at 1.2 s, 1.3 s and 1.4 s are broadcasts 2, 3 and 4 when it all began at 1 s.
        assert_eq!(presence.expected_count(&plan, 1_000 * MS, 0), 2);
        assert_eq!(presence.expected_count(&plan, 1_000 * MS, 1), 1);
    }

    #[test]
    fn an_absent_client_is_expected_to_receive_nothing() {
        let arguments = ["--dialect", "raw", "--clients", "6", "--rooms", "2", "--rate", "4"];
        let plan = plan(&[&arguments[..], &["--warmup", "1s", "--duration", "2s"]].concat());
        let absences = [
            Absence { room: 0, server: 0, from: 1, until: 7 },
            Absence { room: 0, server: 0, from: 6, until: u64::MAX },
            Absence { room: 1, server: 0, from: 0, until: 2 },
        ];
        let counts = expected_counts(&plan, 0, &[3, 3], absences.iter());
        // Broadcasts 4 to 11, to the rooms 0 and 1 in turn.
        assert_eq!(counts, [2, 3, 1, 3, 2, 3, 2, 3]);
    }

    #[test]
    fn each_server_expects_what_its_own_clients_are_there_for() {
        let servers =
            ["--url", "ws://a", "--url", "ws://b", "--clients", "5", "--rate", "4", "--warmup", "0s"];
        let plan = plan(&[&servers[..], &["--duration", "1s"]].concat());
        let absences = [Absence { room: 0, server: 1, from: 2, until: u64::MAX }];
        // Both servers have a speaker, in turn, which does not hear itself.
        assert_eq!(expected_counts(&plan, 0, &[3], absences.iter()), [2, 3, 2, 3]);
        assert_eq!(expected_counts(&plan, 1, &[2], absences.iter()), [2, 1, 1, 0]);
    }
}
