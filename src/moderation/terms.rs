//! A bounded map of terms: values that hold until a second, or for good.

use std::collections::{BTreeMap, BTreeSet};

/// A value that knows its end.
pub(super) trait Term {
    /// The last second in which it holds, in Unix seconds; `None` for good.
    fn last_second(&self) -> Option<u64>;

    /// Whether it holds in this second.
    fn holds(&self, now: u64) -> bool {
        self.last_second().is_none_or(|last| now <= last)
    }
}

/// Values by their subject, each with its end.
///
/// A value that has ended counts as absent at once, and is removed by the next change.
///
/// Invariant: `by_end` has exactly the ends of those values of `by_subject` that have one.
#[derive(Debug)]
pub(super) struct Terms<K, V> {
    by_subject: BTreeMap<K, V>,
    by_end: BTreeSet<(u64, K)>,
    entries_max: usize,
}

/// There are as many entries as allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Full;

impl<K: Clone + Ord, V: Term> Terms<K, V> {
    pub(super) fn new(entries_max: usize) -> Self {
        Self { by_subject: BTreeMap::new(), by_end: BTreeSet::new(), entries_max }
    }

    /// The value that holds for a subject.
    pub(super) fn get(&self, subject: &K, now: u64) -> Option<&V> {
        self.by_subject.get(subject).filter(|value| value.holds(now))
    }

    /// The value of a subject, also one that has ended and was not removed yet.
    pub(super) fn find(&self, subject: &K) -> Option<&V> {
        self.by_subject.get(subject)
    }

    /// Adds values or replaces them: all, or none.
    ///
    /// # Errors
    ///
    /// [`Full`]; nothing is changed.
    pub(super) fn insert<const COUNT: usize>(&mut self, values: [(K, V); COUNT]) -> Result<(), Full> {
        if self.is_full_for(values.iter().map(|(subject, _)| subject)) {
            return Err(Full);
        }
        for (subject, value) in values {
            self.remove(&subject);
            if let Some(last) = value.last_second() {
                self.by_end.insert((last, subject.clone()));
            }
            self.by_subject.insert(subject, value);
        }
        Ok(())
    }

    /// True where there is no room for values of all these subjects.
    pub(super) fn is_full_for<'a>(&self, subjects: impl IntoIterator<Item = &'a K>) -> bool
    where
        K: 'a,
    {
        let added = subjects.into_iter().filter(|subject| !self.by_subject.contains_key(subject)).count();
        self.by_subject.len() + added > self.entries_max
    }

    /// Removes a value, and returns whether there was one.
    pub(super) fn remove(&mut self, subject: &K) -> bool {
        self.take(subject).is_some()
    }

    /// Removes a value and returns it.
    pub(super) fn take(&mut self, subject: &K) -> Option<V> {
        let value = self.by_subject.remove(subject)?;
        if let Some(last) = value.last_second() {
            self.by_end.remove(&(last, subject.clone()));
        }
        Some(value)
    }

    /// Removes the next value that has ended, and returns it with its subject.
    pub(super) fn pop_ended(&mut self, now: u64) -> Option<(K, V)> {
        let (_, subject) = self.by_end.first().filter(|(last, _)| *last < now)?.clone();
        let value = self.take(&subject)?;
        Some((subject, value))
    }

    /// How many values hold.
    pub(super) fn count(&self, now: u64) -> usize {
        let ended = self.by_end.iter().take_while(|(last, _)| *last < now).count();
        self.by_subject.len() - ended
    }

    /// All values, in the order of their subjects. Those that have ended are among them until they are removed.
    pub(super) fn iter(&self) -> impl ExactSizeIterator<Item = (&K, &V)> {
        self.by_subject.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Eq)]
    struct Until(u64);

    impl Term for Until {
        fn last_second(&self) -> Option<u64> {
            Some(self.0)
        }
    }

    const FOREVER: Until = Until(u64::MAX);

    fn subjects(terms: &Terms<&'static str, Until>) -> Vec<&'static str> {
        terms.iter().map(|(subject, _)| *subject).collect()
    }

    #[test]
    fn a_value_holds_through_its_last_second() {
        let mut terms = Terms::new(10);
        terms.insert([("ann", Until(20)), ("ben", FOREVER)]).unwrap();
        assert_eq!([19, 20, 21].map(|now| terms.get(&"ann", now).is_some()), [true, true, false]);
        assert!(terms.get(&"ben", u64::MAX).is_some() && terms.get(&"cem", 0).is_none());
        assert_eq!(terms.pop_ended(20), None);
        assert_eq!(terms.pop_ended(21), Some(("ann", Until(20))));
        assert_eq!(terms.pop_ended(u64::MAX), None);
        assert_eq!(subjects(&terms), ["ben"]);
    }

    #[test]
    fn the_last_value_counts() {
        let mut terms = Terms::new(10);
        for last in [20, u64::MAX, 10] {
            terms.insert([("ann", Until(last))]).unwrap();
        }
        assert!(terms.get(&"ann", 11).is_none());
        assert_eq!(terms.pop_ended(11), Some(("ann", Until(10))));
        assert_eq!(terms.pop_ended(u64::MAX), None, "ends of earlier values are forgotten");
        terms.insert([("ann", Until(20))]).unwrap();
        assert!(terms.remove(&"ann") && !terms.remove(&"ann"));
        assert_eq!(terms.pop_ended(u64::MAX), None);
    }

    #[test]
    fn where_there_is_no_room_nothing_is_changed() {
        let mut terms = Terms::new(3);
        terms.insert([("ann", Until(5)), ("ben", FOREVER)]).unwrap();
        assert_eq!(terms.insert([("ann", Until(9)), ("cem", FOREVER), ("dora", FOREVER)]), Err(Full));
        assert_eq!((subjects(&terms), terms.get(&"ann", 5)), (vec!["ann", "ben"], Some(&Until(5))));
        terms.insert([("cem", FOREVER), ("ann", Until(9))]).unwrap();
        assert_eq!(terms.insert([("dora", FOREVER)]), Err(Full));
        assert_eq!(terms.pop_ended(10), Some(("ann", Until(9))));
        terms.insert([("dora", FOREVER)]).unwrap();
        assert_eq!(subjects(&terms), ["ben", "cem", "dora"]);
    }
}
