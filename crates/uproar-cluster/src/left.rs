//! The users that have left, as long as they may come back.

use std::collections::BTreeMap;

use crate::KeptLeft;

/// How many are known at most, as in the script `append`.
const LEFT_MAX: usize = 65_536;

/// The users that have left the rooms of a partition. One that has left several is here several times.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Left {
    /// For so many milliseconds.
    kept_ms: u64,
    /// By time and user.
    kept: BTreeMap<(u64, u64), KeptLeft>,
}

impl Left {
    pub(crate) fn new(kept_ms: u64) -> Self {
        Self { kept_ms, kept: BTreeMap::new() }
    }

    /// An empty one that keeps as long.
    pub(crate) fn emptied(&self) -> Self {
        Self::new(self.kept_ms)
    }

    pub(crate) fn push(&mut self, left: KeptLeft) {
        if self.kept_ms == 0 {
            return;
        }
        self.kept.insert((left.time_ms, left.user), left);
        if self.kept.len() > LEFT_MAX {
            self.kept.pop_first();
        }
    }

    /// Forgets those who had left too long ago at this time.
    pub(crate) fn forget_expired(&mut self, now_ms: u64) {
        while let Some(first) = self.kept.first_entry()
            && first.key().0.saturating_add(self.kept_ms) < now_ms
        {
            first.remove();
        }
    }

    /// All of them, in the order in which they have left.
    pub fn iter(&self) -> impl Iterator<Item = &KeptLeft> {
        self.kept.values()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Incarnation, KeptMember};

    fn left(user: u64, time_ms: u64) -> KeptLeft {
        let (node, incarnation) = ("a".parse().unwrap(), Incarnation(1));
        let member = KeptMember { visit: 0, node, incarnation, member: "".into() };
        KeptLeft { user, time_ms, room: "general".into(), member }
    }

    fn users(left: &Left) -> Vec<u64> {
        left.iter().map(|left| left.user).collect()
    }

    #[test]
    fn users_are_known_in_the_order_in_which_they_have_left_until_their_time_is_over() {
        let mut all = Left::new(100);
        [(7, 20), (8, 10), (8, 10), (9, 30)].into_iter().for_each(|(user, ms)| all.push(left(user, ms)));
        assert_eq!(users(&all), [8, 7, 9]);
        all.forget_expired(120);
        assert_eq!(users(&all), [7, 9]);
        let mut none = all.emptied();
        none.kept_ms = 0;
        none.push(left(7, 20));
        assert_eq!(users(&none), []);
    }

    #[test]
    fn the_one_who_has_left_first_makes_place() {
        let mut all = Left::new(100);
        (0..=LEFT_MAX as u64).for_each(|user| all.push(left(user, user)));
        assert_eq!((all.kept.len(), all.iter().next().unwrap().user), (LEFT_MAX, 1));
    }
}
