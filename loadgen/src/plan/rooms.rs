//! Who is in which room, and which room and member speak at each tick: arithmetic alone.
//!
//! Clients are dealt to rooms like cards: client c sits in room c mod rooms. Those who speak are the
//! clients numbered below `senders`, so they are dealt evenly, too. Broadcasts go round the rooms, and
//! within a room round its senders.

use std::ops::Range;

/// How clients and broadcasts are spread over rooms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rooms {
    /// How many rooms there are.
    ///
    /// Invariant: 0 < count <= senders.
    pub count: u32,
    /// How many clients speak.
    pub senders: u32,
}

/// Where a broadcast comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The room.
    pub room: u32,
    /// The client that speaks.
    pub speaker: u32,
    /// Its place among those who speak in the room.
    pub track: u32,
    /// How many broadcasts of this speaker came before.
    pub ordinal: u32,
}

impl Rooms {
    /// The room of a client.
    #[must_use]
    pub fn of(&self, client: u32) -> u32 {
        client % self.count
    }

    /// How many of the clients numbered below `clients` are in a room.
    #[must_use]
    pub fn members(&self, room: u32, clients: u32) -> u32 {
        (clients + self.count - 1 - room) / self.count
    }

    /// How many speak in the room where most do.
    #[must_use]
    pub fn tracks_max(&self) -> u32 {
        self.members(0, self.senders)
    }

    /// Where a broadcast comes from.
    #[must_use]
    pub fn origin(&self, sequence: u64) -> Origin {
        let room = (sequence % u64::from(self.count)) as u32;
        let in_room = sequence / u64::from(self.count);
        let tracks = u64::from(self.members(room, self.senders));
        let track = (in_room % tracks) as u32;
        Origin { room, speaker: track * self.count + room, track, ordinal: (in_room / tracks) as u32 }
    }

    /// How many of some broadcasts go to a room.
    #[must_use]
    pub fn broadcasts(&self, room: u32, sequences: Range<u64>) -> u64 {
        self.before(room, sequences.end) - self.before(room, sequences.start.min(sequences.end))
    }

    /// How often a speaker has spoken before a broadcast.
    #[must_use]
    pub fn ordinal_before(&self, room: u32, track: u32, sequence: u64) -> u32 {
        let tracks = u64::from(self.members(room, self.senders));
        ((self.before(room, sequence) + tracks - 1 - u64::from(track)) / tracks) as u32
    }

    fn before(&self, room: u32, sequence: u64) -> u64 {
        let count = u64::from(self.count);
        (sequence + count - 1 - u64::from(room)) / count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_and_broadcasts_are_spread_evenly() {
        for (count, senders) in [(1, 1), (1, 3), (3, 3), (3, 7), (4, 10)] {
            let rooms = Rooms { count, senders };
            let mut members = vec![0; count as usize];
            (0..50).for_each(|client| members[rooms.of(client) as usize] += 1);
            let computed: Vec<_> = (0..count).map(|room| rooms.members(room, 50)).collect();
            assert_eq!(members, computed);
            assert!(members.iter().max() <= members.iter().min().map(|least| least + 1).as_ref());

            let mut heard = vec![0; count as usize];
            let mut spoken = vec![0; senders as usize];
            for sequence in 0..240 {
                let origin = rooms.origin(sequence);
                assert_eq!(rooms.of(origin.speaker), origin.room, "a speaker speaks in its own room");
                assert_eq!(origin.ordinal, spoken[origin.speaker as usize]);
                for room in 0..count {
                    let own = (0..sequence).filter(|&earlier| rooms.origin(earlier).room == room).count();
                    assert_eq!(rooms.broadcasts(room, 0..sequence), own as u64);
                }
                assert_eq!(rooms.ordinal_before(origin.room, origin.track, sequence), origin.ordinal);
                assert_eq!(rooms.ordinal_before(origin.room, origin.track, sequence + 1), origin.ordinal + 1);
                heard[origin.room as usize] += 1;
                spoken[origin.speaker as usize] += 1;
            }
            assert!(heard.iter().all(|&heard| heard == 240 / count), "{heard:?}");
            assert!(spoken.iter().all(|&spoken| spoken > 0), "{spoken:?}");
        }
    }

    #[test]
    fn broadcasts_between_two_moments_are_those_before_the_later_one_only() {
        let rooms = Rooms { count: 2, senders: 2 };
        assert_eq!(rooms.broadcasts(0, 3..8), 2);
        assert_eq!(rooms.broadcasts(1, 3..8), 3);
        #[allow(clippy::reversed_empty_ranges, reason = "an empty presence")]
        let none = rooms.broadcasts(1, 8..3);
        assert_eq!(none, 0);
    }
}
