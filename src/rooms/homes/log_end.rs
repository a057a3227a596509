//! The end of the shared log for this server.

use std::collections::HashMap;

use super::{Homes, RoomState};
use crate::clock::Now;
use crate::rooms::{Delivery, LogEnd, RoomIndex, RoomRefusal};

impl Homes {
    /// Lets nobody wait any more: all clients are about to be closed.
    pub(super) fn handle_log_end(&mut self, end: LogEnd, now: Now) {
        self.outbox.log_end = Some(end);
        self.outbox.proposals.clear();
        let relays = self.sharing.as_mut().map(|sharing| {
            sharing.departing.clear();
            std::mem::take(&mut sharing.relays)
        });
        for to in relays.into_iter().flat_map(HashMap::into_values) {
            self.outbox.send(to.shard, Delivery::Refused { to, refusal: RoomRefusal::OutcomeUnknown });
        }
        let opening: Vec<RoomIndex> = self.on_demand.values().copied().collect();
        for index in opening {
            if let Some(RoomState::Opening { .. }) = self.rooms.get_mut(index) {
                self.fail_opening(index);
            }
        }
        for index in std::mem::take(&mut self.waiting) {
            self.with_room(index, now, |room, outbox| {
                room.forget_waiting(outbox);
            });
        }
        self.outbox.proposals_waiting = 0;
    }

    /// Why the log is at its end for this server; `None` while it is not.
    #[must_use]
    pub fn log_end(&self) -> Option<LogEnd> {
        self.outbox.log_end
    }
}
