//! What a shard sees that is about to fall asleep.

use uproar::rooms::ShardIndex;
use uproar::shard::turn::{Class, WakeSources};

use crate::host::Mailbox;

/// What a shard that falls asleep looks at.
pub(crate) struct SleepCheck<'a> {
    pub(crate) index: usize,
    pub(crate) mailbox: &'a Mailbox,
    pub(crate) has_receipts: bool,
    pub(crate) has_more: bool,
    pub(crate) others: &'a mut [Mailbox],
    pub(crate) messages_max: usize,
}

impl WakeSources for SleepCheck<'_> {
    fn has_deliveries(&self) -> bool {
        !self.mailbox.deliveries.is_empty()
    }

    fn has_requests(&self) -> bool {
        !self.mailbox.requests.is_empty()
    }

    fn has_receipts(&self) -> bool {
        self.has_receipts
    }

    fn has_more(&self) -> bool {
        self.has_more
    }

    fn ask_for_room(&mut self, to: ShardIndex) {
        let asking = ShardIndex(self.index as u16);
        let room_wanted = &mut self.others[usize::from(to.0)].room_wanted;
        if !room_wanted.contains(&asking) {
            room_wanted.push_back(asking);
        }
    }

    fn has_room(&self, to: ShardIndex, class: Class) -> bool {
        let mailbox = &self.others[usize::from(to.0)];
        match class {
            Class::Requests => mailbox.requests.len() < self.messages_max,
            Class::Deliveries => mailbox.deliveries.len() < self.messages_max,
        }
    }
}
