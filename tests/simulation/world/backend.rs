//! A backend that closes rooms, in the place of the HTTP API.

use std::collections::BTreeSet;
use std::sync::Arc;

use uproar::mail::{Delivery, Request};
use uproar::rooms::{self, ClientRef, RoomRefusal, ShardIndex, Unlogged};
use uproar::shard::stage::Stage;
use uproar_ring::ConnectionId;

use super::World;
use crate::violation::{Checked, ensure, violated};

impl World<'_> {
    /// Asks the home of a room that clients have created to close it, if its mailbox has room.
    pub(super) fn close_room(&mut self) {
        // The API asks nothing more once the server shuts down.
        if self.shutdown.stage > Stage::Serving {
            return;
        }
        let listed = self.directory.on_demand().page(None, "", 0, usize::MAX).rooms;
        if listed.is_empty() {
            return;
        }
        let (room, _) = self.random.pick(&listed);
        let (name, index) = (Arc::clone(room.name()), room.index());
        let home = &mut self.hosts[usize::from(index.home().0)];
        if home.mailbox.requests.len() >= self.scenario.mailbox_messages_max {
            return;
        }
        let connection = ConnectionId { index: self.closes as u32, generation: 0 };
        let origin = ClientRef { shard: ShardIndex::API, connection };
        let proposal = Unlogged::Close { origin }.into();
        home.mailbox.requests.push_back(Request::Room(rooms::Request::Room { room: index, proposal }));
        home.mailbox.wake();
        self.closes += 1;
        *self.record.closed.entry(name.to_string()).or_default() += 1;
        self.trace.note([usize::from(index.home().0), self.closes, 0], || format!("{name} is to be closed"));
    }

    /// Each order was answered once.
    pub(super) fn check_api_answers(&self) -> Checked {
        let mut answered = BTreeSet::new();
        for answer in &self.api_answers {
            let to = match answer {
                Delivery::Room(rooms::Delivery::Closed { to, is_stored: true, .. }) => to,
                // Another order was faster, or it was forgotten meanwhile.
                Delivery::Room(rooms::Delivery::Refused { to, refusal: RoomRefusal::NoRoom }) => to,
                other => violated!(Protocol, "the API gets {other:?}"),
            };
            ensure!(Protocol, answered.insert(to.connection.index), "{to:?} is answered twice");
        }
        ensure!(
            NoWaitingOnTheSlow,
            answered.len() == self.closes,
            "{} of {} orders are answered",
            answered.len(),
            self.closes
        );
        Ok(())
    }
}
