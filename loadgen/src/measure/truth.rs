//! Checks that each receiver gets each broadcast once, in the order of its speaker.

use std::collections::HashSet;

/// How many missing broadcasts are remembered by name, over all receivers of a thread. What is late
/// beyond them cannot be told from a duplicate and counts as one.
const MISSING_MAX: usize = 4 << 20;

/// What one receipt says about the order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing like it came before, and nothing that was sent later.
    InOrder,
    /// It was overtaken by a later one of the same speaker.
    Disorder,
    /// It had come before.
    Duplicate,
}

/// The expected next broadcast of each speaker at each receiver: four bytes a pair.
///
/// Speakers are told apart by their track, their place among those who speak in the room. What is skipped is
/// remembered by name, so that a late one can be told from a duplicate; memory for that is only touched when
/// something is wrong.
#[derive(Debug)]
pub struct Sequences {
    tracks_per_receiver: usize,
    next: Vec<u32>,
    /// Track and ordinal of what was skipped and has not come since.
    missing: HashSet<(u32, u32)>,
}

impl Sequences {
    /// For so many receivers, each of which hears so many speakers.
    #[must_use]
    pub fn new(receivers: usize, speakers_heard: usize) -> Self {
        Self {
            tracks_per_receiver: speakers_heard,
            next: vec![0; receivers * speakers_heard],
            missing: HashSet::new(),
        }
    }

    /// Makes `ordinal` the next that `receiver` is to hear of a speaker: it was away for those before.
    pub fn restart(&mut self, receiver: usize, speaker: usize, ordinal: u32) {
        self.next[receiver * self.tracks_per_receiver + speaker] = ordinal;
    }

    /// Notes that `receiver` got the `ordinal`-th broadcast of `speaker`.
    #[must_use]
    pub fn note(&mut self, receiver: usize, speaker: usize, ordinal: u32) -> Verdict {
        let track = receiver * self.tracks_per_receiver + speaker;
        let next = &mut self.next[track];
        if ordinal == *next {
            *next += 1;
            return Verdict::InOrder;
        }
        if ordinal > *next {
            let room = MISSING_MAX - self.missing.len();
            self.missing.extend((*next..ordinal).take(room).map(|skipped| (track as u32, skipped)));
            *next = ordinal + 1;
            return Verdict::InOrder;
        }
        match self.missing.remove(&(track as u32, ordinal)) {
            true => Verdict::Disorder,
            false => Verdict::Duplicate,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn late_is_told_from_twice() {
        let mut sequences = Sequences::new(2, 3);
        let mut note = |ordinal| sequences.note(1, 2, ordinal);
        assert_eq!(note(0), Verdict::InOrder);
        assert_eq!(note(3), Verdict::InOrder);
        assert_eq!(note(2), Verdict::Disorder);
        assert_eq!(note(2), Verdict::Duplicate);
        assert_eq!(note(0), Verdict::Duplicate);
        assert_eq!(note(4), Verdict::InOrder);
        assert_eq!(sequences.note(0, 2, 0), Verdict::InOrder, "receivers are apart");
        assert_eq!(sequences.note(1, 1, 0), Verdict::InOrder, "speakers are apart");
    }

    #[test]
    fn what_came_while_a_receiver_was_away_is_not_missing() {
        let mut sequences = Sequences::new(1, 1);
        assert_eq!(sequences.note(0, 0, 0), Verdict::InOrder);
        sequences.restart(0, 0, 5);
        assert_eq!(sequences.note(0, 0, 5), Verdict::InOrder);
        assert_eq!(sequences.note(0, 0, 4), Verdict::Duplicate, "nobody waits for it");
    }

    proptest! {
        #[test]
        fn it_agrees_with_a_set(ordinals in prop::collection::vec(0..20u32, 0..100)) {
            let mut sequences = Sequences::new(1, 1);
            let mut seen = BTreeSet::new();
            for ordinal in ordinals {
                let expected = match (seen.contains(&ordinal), seen.last()) {
                    (true, _) => Verdict::Duplicate,
                    (false, Some(&last)) if last > ordinal => Verdict::Disorder,
                    _ => Verdict::InOrder,
                };
                prop_assert_eq!(sequences.note(0, 0, ordinal), expected);
                seen.insert(ordinal);
            }
        }
    }
}
