//! Bans and mutes, which hold on all nodes: values by their subjects, which only nodes read.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::kept::{BadValue, parse};

/// How many numbers each entry has for its terms.
pub(crate) const NUMBERS_AN_ENTRY: u64 = 1_024;

/// What kind of term it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum TermKind {
    /// A ban.
    Ban,
    /// A mute.
    Mute,
}

impl TermKind {
    /// Every kind.
    pub const ALL: [Self; 2] = [Self::Ban, Self::Mute];

    /// The script's word for it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Ban => "ban",
            Self::Mute => "mute",
        }
    }
}

/// A change of the terms: the subject has this value from now on, or none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TermChange {
    /// The kind.
    pub kind: TermKind,
    /// The subject. It is not empty.
    pub subject: Arc<str>,
    /// Its last second, in Unix seconds; 0 for good. One that has ended counts as absent.
    pub until: u64,
    /// Its value, which is not empty; `None` removes it.
    pub value: Option<Arc<str>>,
}

/// All bans and mutes, by their subjects.
pub type Terms = BTreeMap<(TermKind, Arc<str>), Term>;

/// A term that holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Term {
    /// The number of the proposal that has set it: no other proposal of the log has the same.
    pub number: u64,
    /// Its last second, in Unix seconds; 0 for good.
    pub until: u64,
    /// Its value.
    pub value: Arc<str>,
}

impl Term {
    /// Writes it as the script `append` does.
    pub(crate) fn write(&self) -> Vec<u8> {
        format!("{} {} {}", self.number, self.until, self.value).into_bytes()
    }

    /// False in a second in which it has ended.
    pub(crate) fn holds(&self, unix_seconds: u64) -> bool {
        self.until == 0 || unix_seconds <= self.until
    }

    /// Reads `number until value`.
    pub(crate) fn read(text: &str) -> Result<Self, BadValue> {
        let (number, rest) = text.split_once(' ').ok_or(BadValue)?;
        let (until, value) = rest.split_once(' ').ok_or(BadValue)?;
        Ok(Self { number: parse(number)?, until: parse(until)?, value: value.into() })
    }
}

/// The number of the proposal at this place of an entry's batch.
#[must_use]
pub fn term_number(entry: u64, place: usize) -> u64 {
    entry * NUMBERS_AN_ENTRY + place as u64
}

/// Writes changes for the script: of each its kind, the lengths of subject and value, its last second, subject and value.
pub(crate) fn changes_text(changes: &[TermChange]) -> String {
    let text = |TermChange { kind, subject, until, value }: &TermChange| {
        let value = value.as_deref().unwrap_or_default();
        format!("{} {} {} {until}:{subject}{value}", kind.word(), subject.len(), value.len())
    };
    changes.iter().map(text).collect()
}
