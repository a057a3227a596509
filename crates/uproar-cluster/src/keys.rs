//! The keys in Redis.
//!
//! All keys of a partition carry its hash tag, `{uproar:0}`, so they lie on one server of a Redis Cluster, and one
//! script may use them together.

use crate::TermKind;

/// By how much the message ids of all rooms go on higher when the epoch changes: more than can have been lost, so that
/// a client that has seen a lost message, and tells no epoch, is not taken for one that misses nothing.
pub const IDS_RAISED: u64 = 65_536;

/// How many partitions there are, and which room lies in which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Partitions(pub u16);

impl Partitions {
    /// The partition of a room or topic.
    #[must_use]
    pub fn of(self, name: &str) -> u16 {
        // FNV-1a, which every version of every node must compute alike.
        let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        // The upper half: a node divides rooms among its shards by the lower one.
        u16::try_from((hash >> 32) % u64::from(self.0)).unwrap_or(0)
    }
}

/// The keys of a partition.
#[derive(Clone, Debug)]
pub struct Keys {
    tag: String,
}

impl Keys {
    /// Of this partition.
    #[must_use]
    pub fn of_partition(partition: u16) -> Self {
        Self { tag: format!("{{uproar:{partition}}}:") }
    }

    /// The log: a stream. The id of an entry is its number and `-0`.
    #[must_use]
    pub fn log(&self) -> String {
        self.key("log")
    }

    /// What is true of the partition as a whole: a hash. `life` is the primary that the log was recovered for, `last`
    /// and `tag` the last entry, `time` its time in Unix milliseconds, `total` the bytes of all entries, `epoch` that
    /// of the log, `format` the newest in which something is written, `numbers` the next block of user ids, `settings`
    /// what all nodes must agree on, `swept:ban` and `swept:mute` where the search for ended
    /// terms goes on, `early` how many keys of requests had to go before their time.
    #[must_use]
    pub fn meta(&self) -> String {
        self.key("meta")
    }

    /// The nodes that are alive: a hash from the name to `incarnation batch entry reads`, the
    /// last being the newest format that it reads.
    #[must_use]
    pub fn nodes(&self) -> String {
        self.key("nodes")
    }

    /// The recovery that is under way: a hash.
    #[must_use]
    pub fn recovery(&self) -> String {
        self.key("recovery")
    }

    /// The rooms that are open: a hash from the name to `opened last raised`, the entry that opened it, its last
    /// message id, and how many times the epoch had changed by then: each time since has raised the id by
    /// [`IDS_RAISED`].
    #[must_use]
    pub fn rooms(&self) -> String {
        self.key("rooms")
    }

    /// The rooms of which something could not be written: a hash from the name to the entry by which that happened.
    #[must_use]
    pub fn damaged(&self) -> String {
        self.key("damaged")
    }

    /// The last messages of a room: a list of [`KeptMessage`](crate::KeptMessage), the oldest first.
    #[must_use]
    pub fn history(&self, name: &str) -> String {
        self.key(&format!("history:{name}"))
    }

    /// The members of a room: a hash from the user's id to a [`KeptMember`](crate::KeptMember).
    #[must_use]
    pub fn roster(&self, name: &str) -> String {
        self.key(&format!("roster:{name}"))
    }

    /// The users that have left a room: a list of [`KeptLeft`](crate::KeptLeft), the first one first. Nodes that begin
    /// know their sessions by it.
    #[must_use]
    pub fn left(&self) -> String {
        self.key("left")
    }

    /// The key that signs tokens of sessions: 32 bytes. Only the first partition has it.
    #[must_use]
    pub fn session_key(&self) -> String {
        self.key("session-key")
    }

    /// The bans or mutes: a hash from the subject to `number until value`, see [`Term`](crate::Term). Only the first partition has
    /// them.
    #[must_use]
    pub fn terms(&self, kind: TermKind) -> String {
        self.key(match kind {
            TermKind::Ban => "bans",
            TermKind::Mute => "mutes",
        })
    }

    /// The keys that the script `append` takes whatever is in a batch, in its order.
    pub(crate) fn of_every_batch(&self) -> [String; 12] {
        let names = ["log", "meta", "nodes", "rooms", "recovery", "marks", "damaged"];
        let [log, meta, nodes, rooms, recovery, marks, damaged] = names.map(|name| self.key(name));
        let [requests, before] = ["requests", "requests:before"].map(|name| self.key(name));
        let [bans, mutes] = TermKind::ALL.map(|kind| self.terms(kind));
        let left = self.left();
        [log, meta, nodes, rooms, recovery, marks, damaged, requests, before, left, bans, mutes]
    }

    /// The keys that it takes for a room, in its order.
    pub(crate) fn of_room(&self, name: &str) -> [String; 2] {
        [self.history(name), self.roster(name)]
    }

    fn key(&self, name: &str) -> String {
        format!("{}{name}", self.tag)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_room_stays_in_its_partition() {
        // Written down: another version that computes another one would split rooms in two.
        let of = |name| Partitions(16).of(name);
        assert_eq!((of("general"), of("random"), of("ü")), (6, 2, 7));
        assert_eq!(Partitions(1).of("general"), 0);
    }

    #[test]
    fn all_keys_of_a_partition_have_its_hash_tag() {
        let keys = Keys::of_partition(3);
        assert_eq!(keys.roster("a}b"), "{uproar:3}:roster:a}b");
        let all = keys.of_every_batch().into_iter().chain(keys.of_room("{x}"));
        assert!(all.into_iter().all(|key| key.starts_with("{uproar:3}:")));
    }
}
