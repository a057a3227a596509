//! A room's memory: it numbers messages and keeps the last of them.

use std::collections::VecDeque;
use std::sync::Arc;

use super::{Content, MessageId, RoomMessage, UserId};

/// The messages of one room, in memory.
///
/// This is all that a room asks of its storage: give the next message its place, and say which were the
/// last ones.
#[derive(Debug)]
pub(super) struct History {
    kept: VecDeque<Arc<RoomMessage>>,
    kept_max: usize,
    last_id: MessageId,
    /// What `recent` returned last, while it is still true.
    recent: Option<Arc<[Arc<RoomMessage>]>>,
}

impl History {
    pub(super) fn new(kept_max: usize) -> Self {
        Self { kept: VecDeque::new(), kept_max, last_id: MessageId(0), recent: None }
    }

    /// Gives a message the next id and keeps it.
    pub(super) fn append(
        &mut self,
        from: UserId,
        from_name: Arc<str>,
        content: Content,
        timestamp: u64,
    ) -> Arc<RoomMessage> {
        self.last_id.0 += 1;
        let message = Arc::new(RoomMessage { id: self.last_id, from, from_name, content, timestamp });
        self.recent = None;
        if self.kept_max > 0 {
            if self.kept.len() == self.kept_max {
                self.kept.pop_front();
            }
            self.kept.push_back(Arc::clone(&message));
        }
        debug_assert!(self.kept.iter().zip(self.kept.iter().skip(1)).all(|(a, b)| a.id.0 + 1 == b.id.0));
        message
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

    /// The kept messages behind `after`, oldest first, and whether they are all that there were. An id that
    /// was never given out belongs to another life of the server, and nobody knows what was said since.
    pub(super) fn after(&self, after: MessageId) -> (Arc<[Arc<RoomMessage>]>, bool) {
        let first_kept = self.last_id.0 + 1 - self.kept.len() as u64;
        let complete = after <= self.last_id && after.0 + 1 >= first_kept;
        (self.kept.iter().filter(|message| message.id > after).cloned().collect(), complete)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Content {
        Content::Text(text.to_owned())
    }

    #[test]
    fn ids_have_no_gaps_and_only_the_last_messages_are_kept() {
        let mut history = History::new(3);
        assert!(history.recent().is_empty());
        let user = UserId::from_wire(1).unwrap();
        for n in 1..=5 {
            let message = history.append(user, "a".into(), text(&n.to_string()), n);
            assert_eq!(message.id, MessageId(n));
        }
        let kept: Vec<u64> = history.recent().iter().map(|message| message.id.0).collect();
        assert_eq!(kept, [3, 4, 5]);
        let found = |id| history.find(MessageId(id)).map(|message| message.id.0);
        assert_eq!([0, 2, 3, 5, 6, u64::MAX].map(found), [None, None, Some(3), Some(5), None, None]);
    }

    #[test]
    fn who_comes_back_is_told_whether_anything_is_missing() {
        let mut history = History::new(3);
        assert!(history.after(MessageId(0)).1);
        let user = UserId::from_wire(1).unwrap();
        for n in 1..=5 {
            history.append(user, "a".into(), text(&n.to_string()), n);
        }
        let after = |id| {
            let (messages, complete) = history.after(MessageId(id));
            (messages.iter().map(|message| message.id.0).collect::<Vec<_>>(), complete)
        };
        assert_eq!(after(0), (vec![3, 4, 5], false));
        assert_eq!(after(1), (vec![3, 4, 5], false));
        assert_eq!(after(2), (vec![3, 4, 5], true));
        assert_eq!(after(4), (vec![5], true));
        assert_eq!(after(5), (vec![], true));
        assert_eq!(after(6), (vec![], false));
        assert_eq!(after(u64::MAX), (vec![], false));
    }

    #[test]
    fn a_room_without_history_still_numbers() {
        let mut history = History::new(0);
        let user = UserId::from_wire(1).unwrap();
        history.append(user, "a".into(), text("x"), 0);
        assert_eq!(history.append(user, "a".into(), text("y"), 0).id, MessageId(2));
        assert!(history.recent().is_empty());
    }
}
