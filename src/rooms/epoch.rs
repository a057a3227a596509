//! The epoch of a room's history.

use std::fmt;

use rustix::rand::{GetRandomFlags, getrandom};
use serde::{Serialize, Serializer};

/// Identifies one version of a room's history. Message ids are comparable only within one epoch.
///
/// A room gets a new one when it is opened without its history, or loses messages that members
/// had seen. It is random, so a room does not get the same epoch
/// twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Epoch(u128);

impl Epoch {
    /// The result of parsing a client's text that is not an epoch. No room has it.
    const UNKNOWN: Self = Self(0);

    /// A new one.
    #[must_use]
    pub fn random() -> Self {
        let mut bytes = [0; 16];
        // Fewer than 257 bytes come all at once, or none while the machine starts (getrandom(2)).
        while Self(u128::from_ne_bytes(bytes)) == Self::UNKNOWN {
            let _ = getrandom(&mut bytes, GetRandomFlags::empty());
        }
        Self(u128::from_ne_bytes(bytes))
    }

    /// That of a room of a cluster: the epoch of the shared log, and which room was opened by which entry.
    #[must_use]
    pub fn of_shared(log: &str, room: &str, opened: u64) -> Self {
        let log = u64::from_str_radix(log, 16).unwrap_or(u64::MAX);
        // FNV-1a, which every version of every node must compute alike.
        let name = room.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        Self(u128::from(log) << 64 | u128::from(name ^ opened))
    }

    /// Parses an epoch from a client; invalid text gives an epoch that no room has.
    #[must_use]
    pub fn from_wire(text: &str) -> Self {
        let is_ours = text.len() == 32 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        let number = is_ours.then(|| u128::from_str_radix(text, 16).ok()).flatten();
        number.map_or(Self::UNKNOWN, Self)
    }

    /// Parses an epoch from the history file; `None` if it is invalid.
    #[must_use]
    pub fn from_file(text: &str) -> Option<Self> {
        Some(Self::from_wire(text)).filter(|epoch| *epoch != Self::UNKNOWN)
    }
}

/// 32 hexadecimal digits.
impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl Serialize for Epoch {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_epoch_of_a_shared_room_is_its_own_and_the_same_everywhere() {
        let text = Epoch::of_shared("3acd4e1a95ed7cfc", "general", 3).to_string();
        assert_eq!(text, "3acd4e1a95ed7cfc9e275796a0d9a908");
        let others = [
            ("3acd4e1a95ed7cfd", "general", 3),
            ("3acd4e1a95ed7cfc", "random", 3),
            ("3acd4e1a95ed7cfc", "general", 4),
        ];
        for (log, room, opened) in others {
            assert_ne!(Epoch::of_shared(log, room, opened).to_string(), text);
        }
    }

    #[test]
    fn an_epoch_is_found_again_in_its_characters_and_in_no_others() {
        let epoch = Epoch::random();
        let text = epoch.to_string();
        assert_eq!(text.len(), 32);
        assert_eq!(Epoch::from_wire(&text), epoch);
        assert_eq!(serde_json::to_string(&epoch).unwrap(), format!("{text:?}"));
        assert_ne!(Epoch::random(), epoch);
        let zero = "0".repeat(32);
        for other in ["", "+", &text[1..], &format!("{text}0"), &format!("+{}", &text[1..]), &zero] {
            assert_eq!(Epoch::from_wire(other), Epoch::UNKNOWN, "{other}");
            assert_eq!(Epoch::from_file(other), None, "{other}");
        }
        assert_eq!(Epoch::from_wire(&"A".repeat(32)), Epoch::UNKNOWN, "nobody was given capitals");
    }
}
