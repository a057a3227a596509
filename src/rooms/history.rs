//! The messages that a room keeps, for newcomers, for clients that resume and for those that look further back.

use std::collections::VecDeque;
use std::sync::Arc;

use super::{Epoch, HistoryPage, KeptMessage, MessageId, RestoredRoom, ResumePoint, Resumed, RoomMessage};

/// The last messages of one room. A deleted one keeps its place until it is too old to be kept, so that clients which
/// resume can be told of it.
///
/// Invariant: the messages of `kept` from `kept_from` on have ids without gaps, up to `last_id`.
#[derive(Debug)]
pub(super) struct History {
    kept: VecDeque<KeptMessage>,
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
        assert!(kept.len() <= self.kept_max && kept.last().is_none_or(|last| last.id() <= last_id));
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
        self.kept.push_back(KeptMessage::Whole(message));
        if self.kept.len() > self.kept_max
            && let Some(forgotten) = self.kept.pop_front()
        {
            self.kept_from = self.kept_from.max(MessageId(forgotten.id().0 + 1));
        }
        debug_assert!(self.is_gapless());
    }

    /// Removes the content of a message, if the room keeps it.
    pub(super) fn delete(&mut self, id: MessageId) {
        self.replace(KeptMessage::Deleted(id));
    }

    /// Takes the deletion of a message back, because it could not be written.
    pub(super) fn undelete(&mut self, message: Arc<RoomMessage>) {
        self.replace(KeptMessage::Whole(message));
    }

    fn replace(&mut self, new: KeptMessage) {
        if let Ok(place) = self.place_of(new.id()) {
            self.recent = None;
            self.kept[place] = new;
        }
    }

    /// Removes a message that could not be written, deleted or not.
    pub(super) fn lose(&mut self, id: MessageId) {
        self.recent = None;
        self.kept_from = self.kept_from.max(MessageId(id.0 + 1));
        if let Ok(place) = self.place_of(id) {
            self.kept.remove(place);
        }
    }

    /// Lets the ids go on so much higher, with a new epoch: those between were lost.
    pub(super) fn raise(&mut self, epoch: Epoch, by: u64) {
        self.epoch = epoch;
        self.last_id.0 += by;
        self.kept_from = MessageId(self.last_id.0 + 1);
    }

    /// Gives the history a new epoch, because members have seen another one.
    pub(super) fn begin_epoch(&mut self, epoch: Epoch) {
        self.epoch = epoch;
    }

    /// The kept messages, oldest first.
    pub(super) fn recent(&mut self) -> Arc<[Arc<RoomMessage>]> {
        let kept = &self.kept;
        let recent = self.recent.get_or_insert_with(|| messages(kept.iter()).collect());
        Arc::clone(recent)
    }

    /// The kept message of this id.
    pub(super) fn find(&self, id: MessageId) -> Option<&Arc<RoomMessage>> {
        self.kept[self.place_of(id).ok()?].message()
    }

    /// The last kept messages before this one, or of all.
    pub(super) fn page(&self, before: Option<MessageId>, limit: usize) -> HistoryPage {
        let end = before.map_or(self.kept.len(), |before| self.place_of(before).unwrap_or_else(|end| end));
        let mut older = messages(self.kept.range(..end).rev());
        let mut messages: Vec<_> = older.by_ref().take(limit).collect();
        messages.reverse();
        HistoryPage { messages, epoch: self.epoch, has_more: older.next().is_some() }
    }

    /// The first `limit` kept messages behind this one, oldest first.
    pub(super) fn page_after(&self, after: MessageId, limit: usize) -> HistoryPage {
        let begin = self.kept.partition_point(|kept| kept.id() <= after);
        let mut newer = messages(self.kept.range(begin..));
        let messages: Vec<_> = newer.by_ref().take(limit).collect();
        HistoryPage { messages, epoch: self.epoch, has_more: newer.next().is_some() }
    }

    /// The kept messages after a point, oldest first. If the id is of another epoch, or was never given out, it is
    /// unknown which messages followed it: then all kept messages are returned.
    pub(super) fn after(&mut self, point: ResumePoint) -> (Arc<[Arc<RoomMessage>]>, Resumed) {
        let ResumePoint { after, epoch } = point;
        if epoch.is_some_and(|epoch| epoch != self.epoch) {
            // Its ids are not those of these messages.
            return (self.recent(), Resumed { is_complete: false, deleted: Vec::new() });
        }
        let end = self.kept.partition_point(|kept| kept.id() <= after);
        let gone = self.kept.range(..end).filter(|kept| kept.message().is_none());
        let deleted = gone.map(KeptMessage::id).collect();
        if after > self.last_id {
            return (self.recent(), Resumed { is_complete: false, deleted });
        }
        let is_complete = after.0 + 1 >= self.kept_from.0;
        (messages(self.kept.range(end..)).collect(), Resumed { is_complete, deleted })
    }

    /// The place of a message in `kept`, or that of the next one.
    fn place_of(&self, id: MessageId) -> Result<usize, usize> {
        self.kept.binary_search_by_key(&id, KeptMessage::id)
    }

    fn is_gapless(&self) -> bool {
        let gapless = self.kept.iter().skip_while(|kept| kept.id() < self.kept_from);
        gapless.zip(self.kept_from.0..).all(|(kept, id)| kept.id().0 == id)
    }
}

/// The messages among these that were not deleted.
fn messages<'a>(kept: impl Iterator<Item = &'a KeptMessage>) -> impl Iterator<Item = Arc<RoomMessage>> {
    kept.filter_map(KeptMessage::message).cloned()
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
            from_account: None,
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
        let (messages, resumed) = history.after(ResumePoint { after: MessageId(after), epoch: None });
        (ids(&messages), resumed.is_complete)
    }

    /// A room of which `kept` is on the disk.
    fn restored(kept: &[u64], last_id: u64, kept_from: u64, reserved: u64) -> History {
        let mut history = new(3);
        let mut earlier = new(100);
        let kept = kept.iter().map(|&id| {
            earlier.last_id.0 = id - 1;
            earlier.kept_from.0 = id;
            KeptMessage::Whole(append(&mut earlier, id))
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
            let (messages, resumed) = history.after(ResumePoint { after: MessageId(after), epoch });
            let shown = (ids(&messages), resumed.is_complete);
            assert_eq!(shown, (expected, is_complete), "after {after} of {epoch:?}");
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
        history.lose(MessageId(2));
        history.begin_epoch(epoch);
        assert_eq!(ids(&history.recent()), [1, 3]);
        assert_eq!(after(&mut history, 1), (vec![3], false));
        assert_eq!(after(&mut history, 2), (vec![3], true));
        // A client that received the lost message, in the epoch of that time, has seen another history.
        assert_eq!(history.epoch(), epoch);
        let heard = ResumePoint { after: MessageId(2), epoch: Some(before) };
        let (messages, resumed) = history.after(heard);
        assert_eq!((ids(&messages), resumed.is_complete), (vec![1, 3], false));
    }

    /// What a client is told that received this message last.
    fn deleted(history: &mut History, after: u64) -> Vec<u64> {
        let (_, resumed) = history.after(ResumePoint { after: MessageId(after), epoch: None });
        resumed.deleted.iter().map(|id| id.0).collect()
    }

    #[test]
    fn a_deleted_message_counts_as_if_it_were_there_and_is_shown_to_nobody() {
        let mut history = new(4);
        (1..=5).for_each(|n| drop(append(&mut history, n)));
        assert_eq!(ids(&history.recent()), [2, 3, 4, 5]);
        [1, 3, 5, 6].into_iter().for_each(|id| history.delete(MessageId(id)));
        assert_eq!(ids(&history.recent()), [2, 4]);
        assert!(history.find(MessageId(3)).is_none() && history.find(MessageId(4)).is_some());
        for (id, expected, complete, gone) in [
            (0, vec![2, 4], false, vec![]),
            (1, vec![2, 4], true, vec![]),
            (2, vec![4], true, vec![]),
            (3, vec![4], true, vec![3]),
            (4, vec![], true, vec![3]),
            (5, vec![], true, vec![3, 5]),
            (6, vec![2, 4], false, vec![3, 5]),
        ] {
            assert_eq!(after(&mut history, id), (expected, complete), "after {id}");
            assert_eq!(deleted(&mut history, id), gone, "after {id}");
        }
        let foreign = ResumePoint { after: MessageId(5), epoch: Some(Epoch::random()) };
        assert!(history.after(foreign).1.deleted.is_empty());
        // Its place is given up as that of any other.
        assert_eq!(append(&mut history, 6).id, MessageId(6));
        append(&mut history, 7);
        assert_eq!(ids(&history.recent()), [4, 6, 7]);
        assert_eq!(deleted(&mut history, 7), [5]);
    }

    #[test]
    fn a_deletion_that_was_not_written_is_taken_back() {
        let mut history = new(3);
        let messages: Vec<_> = (1..=3).map(|n| append(&mut history, n)).collect();
        messages[..2].iter().for_each(|message| history.delete(message.id));
        // The second one was never written itself.
        history.lose(MessageId(2));
        messages[..2].iter().for_each(|message| history.undelete(Arc::clone(message)));
        assert_eq!(ids(&history.recent()), [1, 3]);
        assert!(deleted(&mut history, 3).is_empty());
    }

    #[test]
    fn a_page_ends_before_a_message_and_passes_over_deleted_ones() {
        let mut history = new(10);
        assert!(!history.page(None, 5).has_more);
        (1..=12).for_each(|n| drop(append(&mut history, n)));
        [3, 4, 8, 12].into_iter().for_each(|id| history.delete(MessageId(id)));
        for (before, limit, expected, has_more) in [
            (None, 3, vec![9, 10, 11], true),
            (Some(9), 2, vec![6, 7], true),
            (Some(8), 2, vec![6, 7], true),
            (Some(7), 2, vec![5, 6], false),
            (Some(7), 1, vec![6], true),
            (Some(5), 9, vec![], false),
            (Some(3), 9, vec![], false),
            (Some(1), 9, vec![], false),
            (Some(0), 9, vec![], false),
            (Some(13), 2, vec![10, 11], true),
            (Some(u64::MAX), 100, vec![5, 6, 7, 9, 10, 11], false),
        ] {
            let page = history.page(before.map(MessageId), limit);
            assert_eq!(
                (ids(&page.messages), page.has_more),
                (expected, has_more),
                "{limit} before {before:?}"
            );
        }
    }
}
