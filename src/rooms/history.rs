//! A room's memory: it numbers messages, keeps the last of them, and knows which are not durable yet.

use std::collections::VecDeque;
use std::collections::vec_deque::Drain;
use std::sync::Arc;

use super::{Content, Epoch, MessageId, Origin, RestoredRoom, ResumePoint, RoomMessage, UserId};

/// The messages of one room.
///
/// This is all that a room asks of its storage: give the next message its place, say which were the last
/// ones, and who waits for which of them to be durable.
///
/// Invariant: the messages of `kept` from `kept_from` on have ids without gaps, up to `last_id`.
#[derive(Debug)]
pub(super) struct History {
    kept: VecDeque<Arc<RoomMessage>>,
    kept_max: usize,
    epoch: Epoch,
    last_id: MessageId,
    /// The first message behind which, itself included, none is missing.
    kept_from: MessageId,
    /// `None` where memory is all there is.
    storage: Option<Storage>,
    /// What `recent` returned last, while it is still true.
    recent: Option<Arc<[Arc<RoomMessage>]>>,
}

/// How far the storage has come.
#[derive(Debug)]
struct Storage {
    /// The last id that may be given out.
    reserved: MessageId,
    /// Messages on their way to the disk, and who said them.
    unanswered: VecDeque<(MessageId, Origin)>,
}

impl History {
    /// An empty one that is kept in memory alone.
    pub(super) fn new(kept_max: usize, epoch: Epoch) -> Self {
        Self {
            kept: VecDeque::new(),
            kept_max,
            epoch,
            last_id: MessageId(0),
            kept_from: MessageId(1),
            storage: None,
            recent: None,
        }
    }

    /// Goes on where an earlier life of the server has ended, and is durable from now on.
    pub(super) fn restore(&mut self, restored: RestoredRoom) {
        let RestoredRoom { epoch, kept, last_id, kept_from, reserved } = restored;
        assert!(kept.len() <= self.kept_max && kept.last().is_none_or(|last| last.id <= last_id));
        assert!(last_id <= reserved && kept_from.0 <= last_id.0 + 1);
        let storage = Some(Storage { reserved, unanswered: VecDeque::new() });
        *self = Self { kept: kept.into(), last_id, kept_from, storage, ..Self::new(self.kept_max, epoch) };
    }

    /// What the ids of its messages belong to.
    pub(super) fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// True when messages are to be written to the disk.
    pub(super) fn is_durable(&self) -> bool {
        self.storage.is_some()
    }

    /// Gives a message the next id and keeps it. `None` while no id is reserved: nothing can be written.
    ///
    /// Invariant *no id twice*: an id is given out only when it will not be after a crash.
    pub(super) fn append(
        &mut self,
        from: UserId,
        from_name: Arc<str>,
        origin: Origin,
        content: Content,
        timestamp: u64,
    ) -> Option<Arc<RoomMessage>> {
        let id = MessageId(self.last_id.0 + 1);
        if let Some(storage) = &mut self.storage {
            if id > storage.reserved {
                return None;
            }
            storage.unanswered.push_back((id, origin));
        }
        self.last_id = id;
        let message = Arc::new(RoomMessage { id, from, from_name, content, timestamp });
        self.recent = None;
        self.kept.push_back(Arc::clone(&message));
        if self.kept.len() > self.kept_max
            && let Some(forgotten) = self.kept.pop_front()
        {
            self.kept_from = self.kept_from.max(MessageId(forgotten.id.0 + 1));
        }
        debug_assert!(self.is_gapless());
        Some(message)
    }

    /// The messages up to `through` are on the disk. Says which those are that were not before, and who said
    /// them.
    pub(super) fn handle_kept(&mut self, through: MessageId) -> Drain<'_, (MessageId, Origin)> {
        let storage = self.storage.as_mut().expect("Bug: a receipt for a room in memory");
        let count = storage.unanswered.partition_point(|(id, _)| *id <= through);
        storage.unanswered.drain(..count)
    }

    /// As [`History::handle_kept`], for messages that could not be written. They are kept no longer: their
    /// authors are told so, and a newcomer should not be shown what the next start will not know. Those who have
    /// seen them have seen another history than this one, which is therefore called otherwise from now on.
    pub(super) fn handle_lost(&mut self, through: MessageId, epoch: Epoch) -> Drain<'_, (MessageId, Origin)> {
        self.recent = None;
        self.epoch = epoch;
        self.kept_from = self.kept_from.max(MessageId(through.0 + 1));
        let storage = self.storage.as_ref().expect("Bug: a receipt for a room in memory");
        if let Some(&(first, _)) = storage.unanswered.front() {
            self.kept.retain(|message| message.id < first || message.id > through);
        }
        self.handle_kept(through)
    }

    /// Ids up to `reserved` may be given out.
    pub(super) fn reserve(&mut self, reserved: MessageId) {
        let storage = self.storage.as_mut().expect("Bug: a reservation for a room in memory");
        assert!(reserved >= self.last_id, "Bug: {reserved:?} is reserved and {:?} given out", self.last_id);
        storage.reserved = reserved;
    }

    /// No id may be given out any more, until the next reservation.
    pub(super) fn withdraw(&mut self) {
        if let Some(storage) = &mut self.storage {
            storage.reserved = self.last_id;
        }
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

    /// The kept messages behind a point, oldest first, and whether they are all that there were. An id of another
    /// epoch, or one that was never given out, is of another life of this room: nobody knows what was said
    /// since, and all that is kept is the answer.
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
    use crate::rooms::ShardIndex;
    use uproar_ring::ConnectionId;

    fn origin(connection: u32) -> Origin {
        Origin { shard: ShardIndex(0), connection: ConnectionId { index: connection, generation: 0 } }
    }

    fn try_append(history: &mut History, n: u64) -> Option<Arc<RoomMessage>> {
        let user = UserId::from_wire(1).unwrap();
        history.append(user, "a".into(), origin(n as u32), Content::Text(n.to_string()), n)
    }

    fn append(history: &mut History, n: u64) -> Arc<RoomMessage> {
        try_append(history, n).unwrap()
    }

    fn ids(messages: &[Arc<RoomMessage>]) -> Vec<u64> {
        messages.iter().map(|message| message.id.0).collect()
    }

    fn new(kept_max: usize) -> History {
        History::new(kept_max, Epoch::random())
    }

    /// What one gets who has heard this message last and tells no epoch.
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
    fn no_id_is_given_out_that_is_not_reserved() {
        let mut history = restored(&[], 0, 1, 2);
        append(&mut history, 1);
        append(&mut history, 2);
        assert!(try_append(&mut history, 3).is_none());
        history.reserve(MessageId(10));
        assert_eq!(append(&mut history, 3).id, MessageId(3));
        history.withdraw();
        assert!(try_append(&mut history, 4).is_none());
        history.reserve(MessageId(20));
        assert_eq!(append(&mut history, 4).id, MessageId(4));
    }

    #[test]
    fn receipts_name_the_authors_in_order_and_each_once() {
        let mut history = restored(&[], 0, 1, 10);
        (1..=3).for_each(|n| drop(append(&mut history, n)));
        let kept: Vec<_> = history.handle_kept(MessageId(2)).collect();
        assert_eq!(kept, [(MessageId(1), origin(1)), (MessageId(2), origin(2))]);
        let kept: Vec<_> = history.handle_kept(MessageId(3)).collect();
        assert_eq!(kept, [(MessageId(3), origin(3))]);
    }

    #[test]
    fn what_could_not_be_written_is_forgotten_and_the_gap_is_told() {
        let mut history = restored(&[], 0, 1, 10);
        (1..=3).for_each(|n| drop(append(&mut history, n)));
        history.handle_kept(MessageId(1));
        assert_eq!(ids(&history.recent()), [1, 2, 3]);
        let (before, epoch) = (history.epoch(), Epoch::random());
        let lost: Vec<_> = history.handle_lost(MessageId(2), epoch).collect();
        assert_eq!(lost, [(MessageId(2), origin(2))]);
        assert_eq!(ids(&history.recent()), [1, 3]);
        assert_eq!(after(&mut history, 1), (vec![3], false));
        assert_eq!(after(&mut history, 2), (vec![3], true));
        // Who has heard the lost one, under the name that the history had then, has heard another history.
        assert_eq!(history.epoch(), epoch);
        let heard = ResumePoint { after: MessageId(2), epoch: Some(before) };
        let (messages, complete) = history.after(heard);
        assert_eq!((ids(&messages), complete), (vec![1, 3], false));
    }
}
