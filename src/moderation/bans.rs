//! The bans in force, by what they refuse and by their ids.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Bound;
use std::sync::Arc;

use serde::Serialize;

use super::BanSubject;
use super::terms::{Full, Term, Terms};

/// Names a ban for as long as its subject is banned. No other ban gets the same one, with `--data` also after a restart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct BanId(pub u64);

impl BanId {
    /// Of a ban that has no id yet.
    pub const NONE: Self = Self(0);
}

impl fmt::Display for BanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A ban that is in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ban {
    /// Its id. A ban that replaces another one of the same subject keeps it.
    pub id: BanId,
    /// Its last second, in Unix seconds; 0 for good.
    pub until: u64,
    /// The reason that the admin gave, or nothing. At most 200 characters and an ellipsis.
    pub reason: Arc<str>,
    /// The admin: see [`Admin::label`](super::Admin::label).
    pub by: Arc<str>,
    /// When it was ordered, in Unix seconds; 0 where that is not known.
    pub since: u64,
}

impl Term for Ban {
    fn last_second(&self) -> Option<u64> {
        Some(self.until).filter(|until| *until > 0)
    }
}

/// The bans of a register.
///
/// Invariant: `by_id` has exactly the ids of the bans in `terms`, and none is above `last_id`.
#[derive(Debug)]
pub(super) struct Bans {
    terms: Terms<BanSubject, Ban>,
    by_id: BTreeMap<BanId, BanSubject>,
    last_id: BanId,
}

impl Bans {
    pub(super) fn new(entries_max: usize) -> Self {
        Self { terms: Terms::new(entries_max), by_id: BTreeMap::new(), last_id: BanId(0) }
    }

    /// The last id that was given to a ban.
    pub(super) fn last_id(&self) -> BanId {
        self.last_id
    }

    /// Gives only ids behind this one from now on.
    pub(super) fn continue_after(&mut self, last: BanId) {
        self.last_id = self.last_id.max(last);
    }

    fn id_for(&self, subject: &BanSubject) -> BanId {
        self.terms.find(subject).map_or(BanId(self.last_id.0 + 1), |present| present.id)
    }

    /// Adds a ban, or replaces the one of its subject. One without an id gets one.
    ///
    /// # Errors
    ///
    /// [`Full`]; nothing is changed.
    pub(super) fn insert(&mut self, subject: BanSubject, mut ban: Ban) -> Result<(), Full> {
        if ban.id == BanId::NONE {
            ban.id = self.id_for(&subject);
        }
        let id = ban.id;
        let before = self.terms.find(&subject).map(|before| before.id);
        self.terms.insert([(subject.clone(), ban)])?;
        if let Some(before) = before {
            self.by_id.remove(&before);
        }
        self.by_id.insert(id, subject);
        self.continue_after(id);
        Ok(())
    }

    /// Removes a ban, and returns whether there was one.
    pub(super) fn remove(&mut self, subject: &BanSubject) -> bool {
        let removed = self.terms.take(subject);
        if let Some(ban) = &removed {
            self.by_id.remove(&ban.id);
        }
        removed.is_some()
    }

    /// True where there is no room for a ban of this subject.
    pub(super) fn is_full_for(&self, subject: &BanSubject) -> bool {
        self.terms.is_full_for([subject])
    }

    /// Removes the bans that have ended.
    pub(super) fn purge(&mut self, now: u64) {
        while let Some((_, ban)) = self.terms.pop_ended(now) {
            self.by_id.remove(&ban.id);
        }
    }

    /// The subject of a ban.
    pub(super) fn subject(&self, id: BanId) -> Option<&BanSubject> {
        self.by_id.get(&id)
    }

    /// The bans behind this id, by id.
    pub(super) fn after(&self, after: Option<BanId>) -> impl Iterator<Item = (&BanSubject, &Ban)> {
        let behind = (after.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded);
        self.by_id.range(behind).map(|(_, subject)| {
            let ban = self.terms.find(subject).expect("Bug: the id of a ban that is not there");
            (subject, ban)
        })
    }

    /// The ban that holds for a subject.
    pub(super) fn get(&self, subject: &BanSubject, now: u64) -> Option<&Ban> {
        self.terms.get(subject, now)
    }

    /// The ban of a subject, also one that has ended and was not removed yet.
    pub(super) fn find(&self, subject: &BanSubject) -> Option<&Ban> {
        self.terms.find(subject)
    }

    /// The bans that hold, in the order of their subjects.
    pub(super) fn in_force(&self, now: u64) -> impl Iterator<Item = (&BanSubject, &Ban)> {
        self.terms.iter().filter(move |(_, ban)| ban.holds(now))
    }

    /// How many bans hold.
    pub(super) fn count(&self, now: u64) -> usize {
        self.terms.count(now)
    }

    /// All bans, in the order of their subjects.
    pub(super) fn iter(&self) -> impl ExactSizeIterator<Item = (&BanSubject, &Ban)> {
        self.terms.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subject(name: &str) -> BanSubject {
        BanSubject::account(name).unwrap()
    }

    fn insert(bans: &mut Bans, name: &str, until: u64) -> Result<BanId, Full> {
        let id = bans.id_for(&subject(name));
        let ban = Ban { id, until, reason: "".into(), by: "".into(), since: 0 };
        bans.insert(subject(name), ban).map(|()| id)
    }

    fn ids(bans: &Bans, after: Option<BanId>) -> Vec<u64> {
        bans.after(after).map(|(_, ban)| ban.id.0).collect()
    }

    #[test]
    fn an_id_stays_with_its_subject_and_is_given_once() {
        let mut bans = Bans::new(3);
        assert_eq!(insert(&mut bans, "b", 0), Ok(BanId(1)));
        assert_eq!(insert(&mut bans, "a", 5), Ok(BanId(2)));
        assert_eq!(insert(&mut bans, "b", 9), Ok(BanId(1)), "it is replaced");
        assert_eq!((ids(&bans, None), ids(&bans, Some(BanId(1)))), (vec![1, 2], vec![2]));
        assert!(bans.remove(&subject("a")) && !bans.remove(&subject("a")));
        assert_eq!((bans.subject(BanId(2)), bans.subject(BanId(1))), (None, Some(&subject("b"))));
        assert_eq!(insert(&mut bans, "a", 5), Ok(BanId(3)));
        bans.purge(6);
        assert_eq!(ids(&bans, None), [1]);
        bans.continue_after(BanId(7));
        assert_eq!(insert(&mut bans, "c", 0), Ok(BanId(8)));
        assert_eq!(insert(&mut bans, "d", 0), Ok(BanId(9)));
        assert_eq!(insert(&mut bans, "e", 0), Err(Full));
        assert_eq!((ids(&bans, None), bans.last_id()), (vec![1, 8, 9], BanId(9)));
    }
}
