//! The messages that a room keeps, for newcomers and for clients that resume.

use std::collections::VecDeque;
use std::sync::Arc;

use super::{Epoch, MessageId, RestoredRoom, ResumePoint, RoomMessage};

/// The last messages of one room.
///
/// Invariant: the messages of `kept` from `kept_from` on have ids without gaps, up to `last_id`.
#[derive(Debug)]
pub(super) struct History {
    kept: VecDeque<Arc<RoomMessage>>,
    kept_max: usize,
    epoch: Epoch,
    last_id: MessageId,
    /// The id from which on no message is missing.
    kept_from: MessageId,
    /// The cached result of `recent`, while it is valid.
    recent: Option<Arc<[Arc<RoomMessage>]>>,
}

impl History {
    /// An empty one.
    pub(super) fn new(kept_max: usize, epoch: Epoch) -> Self {
        Self {
            kept: VecDeque::new(),
            kept_max,
            epoch,
            last_id: MessageId(0),
            kept_from: MessageId(1),
            recent: None,
        }
    }

    /// Restores the history from the storage.
    pub(super) fn restore(&mut self, restored: RestoredRoom) {
        let RestoredRoom { epoch, kept, last_id, kept_from, .. } = restored;
        assert!(kept.len() <= self.kept_max && kept.last().is_none_or(|last| last.id <= last_id));
        assert!(kept_from.0 <= last_id.0 + 1);
        *self = Self { kept: kept.into(), last_id, kept_from, ..Self::new(self.kept_max, epoch) };
    }

    /// The epoch of its message ids.
    pub(super) fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Keeps the next message.
    pub(super) fn append(&mut self, message: Arc<RoomMessage>) {
        assert_eq!(message.id.0, self.last_id.0 + 1, "Bug: a message out of order");
        self.last_id = message.id;
        self.recent = None;
        self.kept.push_back(message);
        if self.kept.len() > self.kept_max
            && let Some(forgotten) = self.kept.pop_front()
        {
            self.kept_from = self.kept_from.max(MessageId(forgotten.id.0 + 1));
        }
        debug_assert!(self.is_gapless());
    }

    /// Removes the messages from `first` to `through`, which could not be written: their senders get an error,
    /// and new members should not get messages that the next start lacks. Members have seen another history than this
    /// one, so it gets a new epoch.
    pub(super) fn lose(&mut self, first: MessageId, through: MessageId, epoch: Epoch) {
        self.recent = None;
        self.epoch = epoch;
        self.kept_from = self.kept_from.max(MessageId(through.0 + 1));
        self.kept.retain(|message| message.id < first || message.id > through);
    }

    /// The kept messages, oldest first.
    pub(super) fn recent(&mut self) -> Arc<[Arc<RoomMessage>]> {
        Arc::clone(self.recent.get_or_insert_with(|| self.kept.iter().cloned().collect()))
    }

    /// The kept message of this id.
    pub(super) fn find(&self, id: MessageId) -> Option<&Arc<RoomMessage>> {
        let place = self.kept.binary_search_by_key(&id, |message| message.id).ok()?;
        self.kept.get(place)
    }

    /// The kept messages after a point, oldest first, and whether none of them is missing. If the id is of another
    /// epoch, or was never given out, it is unknown which messages followed it:
    /// then all kept messages are returned.
    pub(super) fn after(&mut self, point: ResumePoint) -> (Arc<[Arc<RoomMessage>]>, bool) {
        let ResumePoint { after, epoch } = point;
        if after > self.last_id || epoch.is_some_and(|epoch| epoch != self.epoch) {
            return (self.recent(), false);
        }
        let complete = after.0 + 1 >= self.kept_from.0;
        (self.kept.iter().filter(|message| message.id > after).cloned().collect(), complete)
    }

    fn is_gapless(&self) -> bool {
        let gapless = self.kept.iter().skip_while(|message| message.id < self.kept_from);
        gapless.zip(self.kept_from.0..).all(|(message, id)| message.id.0 == id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rooms::{Content, UserId};

    /// Appends the next message.
    fn append(history: &mut History, n: u64) -> Arc<RoomMessage> {
        let message = Arc::new(RoomMessage {
            id: MessageId(history.last_id.0 + 1),
            from: UserId::from_wire(1).unwrap(),
            from_name: "a".into(),
            content: Content::Text(n.to_string()),
            timestamp: n,
        });
        history.append(Arc::clone(&message));
        message
    }

    fn ids(messages: &[Arc<RoomMessage>]) -> Vec<u64> {
        messages.iter().map(|message| message.id.0).collect()
    }

    fn new(kept_max: usize) -> History {
        History::new(kept_max, Epoch::random())
    }

    /// The answer to a client that received this message last and sends no epoch.
    fn after(history: &mut History, after: u64) -> (Vec<u64>, bool) {
        let (messages, complete) = history.after(ResumePoint { after: MessageId(after), epoch: None });
        (ids(&messages), complete)
    }

    /// A room of which `kept` is on the disk.
    fn restored(kept: &[u64], last_id: u64, kept_from: u64, reserved: u64) -> History {
        let mut history = new(3);
        let mut earlier = new(100);
        let kept = kept.iter().map(|&id| {
            earlier.last_id.0 = id - 1;
            earlier.kept_from.0 = id;
            append(&mut earlier, id)
        });
        history.restore(RestoredRoom {
            epoch: Epoch::random(),
            kept: kept.collect(),
            last_id: MessageId(last_id),
            kept_from: MessageId(kept_from),
            reserved: MessageId(reserved),
        });
        history
    }

    #[test]
    fn ids_have_no_gaps_and_only_the_last_messages_are_kept() {
        let mut history = new(3);
        assert!(history.recent().is_empty());
        for n in 1..=5 {
            let message = append(&mut history, n);
            assert_eq!(message.id, MessageId(n));
        }
        assert_eq!(ids(&history.recent()), [3, 4, 5]);
        let found = |id| history.find(MessageId(id)).map(|message| message.id.0);
        assert_eq!([0, 2, 3, 5, 6, u64::MAX].map(found), [None, None, Some(3), Some(5), None, None]);
    }

    #[test]
    fn who_comes_back_is_told_whether_anything_is_missing() {
        let mut history = new(3);
        assert!(after(&mut history, 0).1);
        for n in 1..=5 {
            append(&mut history, n);
        }
        for (id, expected, complete) in [
            (0, vec![3, 4, 5], false),
            (1, vec![3, 4, 5], false),
            (2, vec![3, 4, 5], true),
            (4, vec![5], true),
            (5, vec![], true),
            (6, vec![3, 4, 5], false),
            (u64::MAX, vec![3, 4, 5], false),
        ] {
            assert_eq!(after(&mut history, id), (expected, complete), "after {id}");
        }
    }

    #[test]
    fn an_id_of_another_epoch_says_nothing_about_what_is_missing() {
        let mut history = new(3);
        (1..=2).for_each(|n| drop(append(&mut history, n)));
        let own = Some(history.epoch());
        for (after, epoch, expected, is_complete) in [
            (1, None, vec![2], true),
            (1, own, vec![2], true),
            (1, Some(Epoch::random()), vec![1, 2], false),
            (0, Some(Epoch::random()), vec![1, 2], false),
            (2, Some(Epoch::from_wire("?")), vec![1, 2], false),
            (3, own, vec![1, 2], false),
        ] {
            let (messages, complete) = history.after(ResumePoint { after: MessageId(after), epoch });
            assert_eq!((ids(&messages), complete), (expected, is_complete), "after {after} of {epoch:?}");
        }
    }

    #[test]
    fn a_room_without_history_still_numbers() {
        let mut history = new(0);
        append(&mut history, 1);
        assert_eq!(append(&mut history, 2).id, MessageId(2));
        assert!(history.recent().is_empty());
    }

    #[test]
    fn after_a_crash_ids_go_on_behind_all_that_were_reserved_and_the_gap_is_told() {
        let mut history = restored(&[6, 7, 8], 100, 101, 200);
        assert_eq!(append(&mut history, 1).id, MessageId(101));
        assert_eq!(ids(&history.recent()), [7, 8, 101]);
        for (id, expected, complete) in
            [(6, vec![7, 8, 101], false), (99, vec![101], false), (100, vec![101], true), (101, vec![], true)]
        {
            assert_eq!(after(&mut history, id), (expected, complete), "after {id}");
        }
    }

    #[test]
    fn lost_messages_are_forgotten_and_the_gap_is_reported() {
        let mut history = restored(&[], 0, 1, 10);
        (1..=3).for_each(|n| drop(append(&mut history, n)));
        assert_eq!(ids(&history.recent()), [1, 2, 3]);
        let (before, epoch) = (history.epoch(), Epoch::random());
        history.lose(MessageId(2), MessageId(2), epoch);
        assert_eq!(ids(&history.recent()), [1, 3]);
        assert_eq!(after(&mut history, 1), (vec![3], false));
        assert_eq!(after(&mut history, 2), (vec![3], true));
        // A client that received the lost message, in the epoch of that time, has seen another history.
        assert_eq!(history.epoch(), epoch);
        let heard = ResumePoint { after: MessageId(2), epoch: Some(before) };
        let (messages, complete) = history.after(heard);
        assert_eq!((ids(&messages), complete), (vec![1, 3], false));
    }
}
