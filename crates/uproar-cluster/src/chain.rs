//! That entries follow each other.

use crate::{Entry, Tag};

/// The last entry that was taken, and with that the one that must follow.
///
/// Numbers alone do not show everything: after a primary has lost the end of the log, another entry can have a number
/// that was seen before. So an entry names the one before it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chain {
    number: u64,
    tag: Option<Tag>,
}

/// Why an entry does not follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Break {
    /// It was taken before.
    Known,
    /// Entries between are missing: the log was trimmed meanwhile.
    Missing,
    /// What was taken is not what the log has now: its end was lost.
    Other,
}

impl Chain {
    /// Begins behind an entry.
    #[must_use]
    pub fn behind(number: u64, tag: Option<Tag>) -> Self {
        Self { number, tag }
    }

    /// The number of the last entry; 0 before the first.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The batch that the last entry is.
    #[must_use]
    pub fn tag(&self) -> Option<&Tag> {
        self.tag.as_ref()
    }

    /// Takes an entry.
    ///
    /// # Errors
    ///
    /// When it does not follow the last one. Then nothing has changed.
    pub fn take(&mut self, entry: &Entry) -> Result<(), Break> {
        if entry.number == self.number && self.tag.as_ref() == Some(&entry.tag) {
            return Err(Break::Known);
        }
        if entry.number > self.number + 1 {
            return Err(Break::Missing);
        }
        if entry.number <= self.number || entry.previous != self.tag {
            return Err(Break::Other);
        }
        (self.number, self.tag) = (entry.number, Some(entry.tag.clone()));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Batch;

    fn tag(batch: u64) -> Tag {
        format!("a 0000000000000001 {batch}").parse().unwrap()
    }

    fn entry(number: u64, batch: u64, previous: Option<u64>) -> Entry {
        Entry {
            number,
            tag: tag(batch),
            previous: previous.map(tag),
            time_ms: 0,
            total_bytes: 0,
            format: 1,
            batch: Batch::default(),
            answers: Vec::new(),
        }
    }

    #[test]
    fn entries_that_follow_are_taken() {
        let mut chain = Chain::default();
        assert_eq!(chain.take(&entry(1, 7, None)), Ok(()));
        assert_eq!(chain.take(&entry(2, 9, Some(7))), Ok(()));
        assert_eq!((chain.number(), chain.tag()), (2, Some(&tag(9))));
    }

    #[test]
    fn what_does_not_follow_is_told_and_changes_nothing() {
        let mut chain = Chain::behind(5, Some(tag(3)));
        let before = chain.clone();
        assert_eq!(chain.take(&entry(5, 3, Some(2))), Err(Break::Known));
        assert_eq!(chain.take(&entry(7, 5, Some(4))), Err(Break::Missing));
        // Its number is the next, and it stands on another one.
        assert_eq!(chain.take(&entry(6, 5, Some(4))), Err(Break::Other));
        assert_eq!(chain.take(&entry(5, 4, Some(2))), Err(Break::Other));
        assert_eq!(chain.take(&entry(1, 1, None)), Err(Break::Other));
        assert_eq!(chain, before);
    }
}
