//! The rooms and topics whose home is one shard.

use std::collections::HashMap;
use std::sync::Arc;

use super::outbox::Outbox;
use super::room::Room;
use super::topic::Topic;
use super::{
    Delivery, Directory, PROPOSALS_WAITING_MAX, Receipt, Request, RestoredRoom, RoomIndex, RoomSettings,
    ShardIndex, WRITES_UNANSWERED_MAX, Write,
};
use crate::clock::Now;
use crate::metrics::ShardMetrics;

/// A shard's rooms and topics.
///
/// Drain rule: after every `handle_*`, poll deliveries and writes until `None`.
#[derive(Debug)]
pub struct Homes {
    directory: Directory,
    /// By room; `None` where another shard is the home.
    rooms: Vec<Option<Room>>,
    /// A topic exists while a connection is subscribed to it.
    topics: HashMap<Arc<str>, Topic>,
    outbox: Outbox,
}

impl Homes {
    /// The rooms of `directory` whose home is `shard`.
    #[must_use]
    pub fn new(
        shard: ShardIndex,
        settings: &RoomSettings,
        directory: &Directory,
        metrics: Arc<ShardMetrics>,
    ) -> Self {
        let room = |index: RoomIndex| {
            (directory.home(index) == shard).then(|| Room::new(index, settings, directory))
        };
        Self {
            directory: directory.clone(),
            rooms: directory.rooms().map(room).collect(),
            topics: HashMap::new(),
            outbox: Outbox::new(metrics),
        }
    }

    /// Takes a request for one of these rooms or topics.
    pub fn handle_request(&mut self, request: Request, now: Now) {
        let outbox = &mut self.outbox;
        match request {
            Request::Room { room, proposal } => home(&mut self.rooms, room).propose(proposal, now, outbox),
            Request::Subscribe { topic, origin } => {
                let shards = self.directory.shards();
                self.topics.entry(topic).or_insert_with(|| Topic::new(shards)).subscribe(origin.shard);
                outbox.send(origin.shard, Delivery::Subscribed { to: origin });
            }
            Request::Unsubscribe { topic, shard } => {
                let entry = self.topics.get_mut(&topic).expect("Bug: a connection left an unknown topic");
                entry.unsubscribe(shard);
                if entry.is_empty() {
                    self.topics.remove(&topic);
                }
            }
            Request::Relay { topic, kind, payload, origin } => match (self.topics.get(&topic), origin) {
                (Some(entry), _) => entry.relay(&topic, kind, payload, origin, now, outbox),
                (None, Some(to)) => outbox.send(to.shard, Delivery::Relayed { to, shards: 0 }),
                // The sender may have been evicted, and the topic with it, while this was on its way.
                (None, None) => {}
            },
        }
    }

    /// Restores all rooms from the storage. From now on messages are written to the disk, and a
    /// message is acknowledged only when it is durable.
    pub fn restore(&mut self, rooms: &[RestoredRoom]) {
        for (room, restored) in self.rooms.iter_mut().zip(rooms) {
            if let Some(room) = room {
                room.restore(restored.clone());
            }
        }
    }

    /// Handles a receipt of the storage. Proposals that waited for it become entries.
    pub fn handle_receipt(&mut self, receipt: Receipt, now: Now) {
        let outbox = &mut self.outbox;
        match receipt {
            Receipt::Room(room, receipt) => home(&mut self.rooms, room).handle_receipt(receipt, now, outbox),
            Receipt::Withdrawn => {
                for room in self.rooms.iter_mut().flatten() {
                    room.handle_withdrawn(now, outbox);
                }
            }
        }
    }

    /// Sends the presence reports that are due.
    pub fn handle_tick(&mut self, now: Now) {
        for room in self.rooms.iter_mut().flatten() {
            room.handle_tick(now, &mut self.outbox);
        }
    }

    /// When [`Homes::handle_tick`] has something to do.
    #[must_use]
    pub fn next_due_ms(&self) -> Option<u64> {
        self.rooms.iter().flatten().filter_map(Room::next_due_ms).min()
    }

    /// The next delivery, and the shard that it is for.
    #[must_use]
    pub fn poll_delivery(&mut self) -> Option<(ShardIndex, Delivery)> {
        self.outbox.deliveries.pop_front()
    }

    /// The next message for the storage. It must be handed over before the deliveries of the same message are posted.
    #[must_use]
    pub fn poll_write(&mut self) -> Option<Write> {
        self.outbox.writes.pop_front()
    }

    /// The number of writes without a receipt.
    #[must_use]
    pub fn writes_unanswered(&self) -> usize {
        self.outbox.writes_unanswered
    }

    /// How many proposals wait for the storage.
    #[must_use]
    pub fn proposals_waiting(&self) -> usize {
        self.outbox.proposals_waiting
    }

    /// True while no proposal or write waits for the storage.
    #[must_use]
    pub fn are_settled(&self) -> bool {
        self.outbox.proposals_waiting == 0 && self.outbox.writes_unanswered == 0
    }

    /// False while too many writes or proposals wait for the storage.
    #[must_use]
    pub fn accept_requests(&self) -> bool {
        self.outbox.proposals_waiting < PROPOSALS_WAITING_MAX
            && self.outbox.writes_unanswered < WRITES_UNANSWERED_MAX
    }

    /// True when [`Homes::poll_delivery`] has something.
    #[must_use]
    pub fn has_deliveries(&self) -> bool {
        !self.outbox.deliveries.is_empty()
    }

    /// The number of rooms and topics whose home is this shard.
    #[must_use]
    pub fn room_count(&self) -> usize {
        self.rooms.iter().flatten().count() + self.topics.len()
    }
}

fn home(rooms: &mut [Option<Room>], index: RoomIndex) -> &mut Room {
    rooms[index.get()].as_mut().expect("Bug: a request reached a shard that is not the room's home")
}
