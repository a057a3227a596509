//! The name of one life of a room's history.

use std::fmt;

use rustix::rand::{GetRandomFlags, getrandom};
use serde::{Serialize, Serializer};

/// Names one life of a room's history: ids of messages mean something within it alone.
///
/// A room has another one when the server has started without its history, or has lost messages that members
/// had seen. It is random, so a client that has an earlier one is recognised however the lives followed one
/// another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Epoch(u128);

impl Epoch {
    /// Stands for what a client has that no server gave out. No room has it.
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

    /// The one that these characters name; where they name none, one that no room has.
    #[must_use]
    pub fn from_wire(text: &str) -> Self {
        let is_ours = text.len() == 32 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        let number = is_ours.then(|| u128::from_str_radix(text, 16).ok()).flatten();
        number.map_or(Self::UNKNOWN, Self)
    }

    /// The same for characters that a file holds; `None` where they name none.
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
