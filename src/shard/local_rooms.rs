//! The local members of rooms and topics, and the fan-out of events to them.

use std::cell::Cell;
use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use uproar_protocol::frames;
use uproar_ring::{ConnectionId, SharedBytes};

use super::clients::{Clients, Moved};
use super::link::Overflow;
use super::names_pace::{Listing, NamesPace, is_coming_or_going};
use super::schedule::Schedule;
use super::work::Work;
use crate::clock::Now;
use crate::dialect::{UserDialect, chat, hub};
use crate::metrics::ShardMetrics;
use crate::rooms::{Directory, Event, MemberEntry, Publication, RoomCursor, RoomEvent, RoomIndex};

/// The golden section of 2^32. A place that moves by it is spread evenly over any number of members.
const GOLDEN_SECTION: u32 = 0x9E37_79B9;

/// The rooms and topics that have members on this shard.
#[derive(Debug)]
pub(super) struct LocalRooms {
    /// The configured rooms, whether they have members here or not.
    configured: Vec<LocalRoom>,
    /// The rooms that clients have created, while they have members here.
    on_demand: HashMap<RoomIndex, LocalRoom>,
    topics: HashMap<Arc<str>, Members>,
    hub: Hub,
}

/// A room as one shard sees it.
#[derive(Debug, Default)]
struct LocalRoom {
    /// Members that use the chat dialect.
    chat: Members,
    /// The encoded member list and history, cached for the next newcomer.
    lists: chat::Lists,
}

/// The members that use the hub dialect, all of them in the room `general`.
#[derive(Debug, Default)]
struct Hub {
    members: Members,
    /// The names that they get with messages.
    names: hub::Names,
    /// When they get the names again, if the room is large.
    pace: NamesPace,
}

/// The local members of a room or topic: slots of the slab, in no particular order.
#[derive(Debug, Default)]
struct Members {
    slots: Vec<u32>,
    /// Where the next fan-out begins, as a part of the whole in units of 2^-32.
    first: Cell<u32>,
}

impl LocalRooms {
    /// The configured rooms of `directory`, without members.
    pub(super) fn new(directory: &Directory) -> Self {
        Self {
            configured: directory.rooms().iter().map(|_| LocalRoom::default()).collect(),
            on_demand: HashMap::new(),
            topics: HashMap::new(),
            hub: Hub::default(),
        }
    }

    /// A room, if it is configured or has members here.
    fn find(&mut self, room: RoomIndex) -> Option<&mut LocalRoom> {
        match self.configured.get_mut(room.slot()) {
            Some(configured) => Some(configured),
            None => self.on_demand.get_mut(&room),
        }
    }

    /// The encoded lists of a room with members here.
    pub(super) fn lists(&mut self, room: RoomIndex) -> &mut chat::Lists {
        &mut self.find(room).expect("Bug: a member of an unknown room").lists
    }

    /// The names in the room `general`, as this shard last received them.
    pub(super) fn names(&self) -> &hub::Names {
        &self.hub.names
    }

    /// Takes over newer names.
    pub(super) fn update_names(&mut self, listed: &Arc<[MemberEntry]>) {
        self.hub.names.update(listed);
    }

    /// Adds a client to the members of a room, and returns its place.
    pub(super) fn join(&mut self, room: RoomIndex, dialect: UserDialect, slot: u32) -> u32 {
        if room.slot() >= self.configured.len() {
            self.on_demand.entry(room).or_default();
        }
        self.members(room, dialect).insert(slot)
    }

    /// Removes the member of a room at a place. Another one may be there afterwards.
    #[must_use]
    pub(super) fn leave(
        &mut self,
        room: RoomIndex,
        dialect: UserDialect,
        place: u32,
        slot: u32,
    ) -> Option<Moved> {
        let members = self.members(room, dialect);
        let moved = members.remove(place, slot);
        if members.is_empty() {
            self.on_demand.remove(&room);
        }
        moved
    }

    /// The slots of a room's members of the chat dialect.
    pub(super) fn chat_members(&mut self, room: RoomIndex) -> &[u32] {
        self.find(room).map_or(&[], |room| &room.chat.slots)
    }

    fn members(&mut self, room: RoomIndex, dialect: UserDialect) -> &mut Members {
        match dialect {
            UserDialect::Chat => &mut self.find(room).expect("Bug: a member of an unknown room").chat,
            UserDialect::Hub => &mut self.hub.members,
        }
    }

    /// Adds a client to the listeners of a topic, and returns its place.
    pub(super) fn subscribe(&mut self, topic: &Arc<str>, slot: u32) -> u32 {
        self.topics.entry(Arc::clone(topic)).or_default().insert(slot)
    }

    /// As [`LocalRooms::leave`], of a topic.
    #[must_use]
    pub(super) fn unsubscribe(&mut self, topic: &Arc<str>, place: u32, slot: u32) -> Option<Moved> {
        let members = self.topics.get_mut(topic).expect("Bug: a member of an unknown topic");
        let moved = members.remove(place, slot);
        if members.is_empty() {
            self.topics.remove(topic);
        }
        moved
    }

    /// Sends a publication to every member on this shard; `own` is the client that caused it, if it is one of them.
    pub(super) fn publish(
        &mut self,
        publication: &Arc<Publication>,
        own: Option<ConnectionId>,
        fan_out: &mut FanOut<'_>,
    ) {
        match &publication.event {
            Event::Room { room, .. } => self.publish_in(*room, publication, own, fan_out),
            Event::Relay { topic, kind, payload } => {
                if let Some(members) = self.topics.get(topic) {
                    fan_out.metrics.broadcasts.add(1);
                    let own = own.map(Own::without);
                    fan_out.push(members, frames::message(*kind, payload), publication, own);
                }
            }
        }
    }

    /// Sends an event to the members of a room. Invariant *encode once*: one encoding for each dialect that has members here.
    fn publish_in(
        &mut self,
        index: RoomIndex,
        publication: &Arc<Publication>,
        own: Option<ConnectionId>,
        fan_out: &mut FanOut<'_>,
    ) {
        let Event::Room { room_name, event, names, timestamp, .. } = &publication.event else { return };
        // All hub members are in the first of the configured rooms.
        let hub = (index.slot() == 0 && !self.hub.members.is_empty()).then_some(&mut self.hub);
        let for_hub = hub.and_then(|hub| hub.encode(publication, own, names.as_ref(), fan_out.now));
        let room = match self.configured.get(index.slot()) {
            Some(configured) => Some(configured),
            None => self.on_demand.get(&index),
        };
        let chat = room.map(|room| &room.chat).filter(|chat| !chat.is_empty());
        if chat.is_some() || for_hub.is_some() {
            fan_out.metrics.broadcasts.add(1);
        }
        if let Some(chat) = chat {
            let own = match event {
                // The event is the answer, too.
                RoomEvent::Deleted { .. } => own.zip(publication.pending).map(|(id, entry)| {
                    let gate = Some(RoomCursor { room: index, entry });
                    Own { id, gate }
                }),
                _ => own.map(Own::without),
            };
            fan_out.push(chat, chat::room_event(event, room_name, *timestamp), publication, own);
        }
        if let Some(bytes) = for_hub {
            // A hub client gets its own messages and renames like everyone, but not its own login, which
            // it got before, and its own logout.
            let own = own.filter(|_| is_coming_or_going(event));
            fan_out.push(&self.hub.members, bytes, publication, own.map(Own::without));
        }
    }

    /// Sends hub members the events that had to wait for the names.
    pub(super) fn publish_due(&mut self, fan_out: &mut FanOut<'_>) {
        let Hub { members, names, pace } = &mut self.hub;
        for ((publication, own), listing) in pace.take_due(fan_out.now.monotonic_ms) {
            let Event::Room { event, .. } = &publication.event else { continue };
            let Some(bytes) = hub::room_event(event, names, listing == Listing::Whole) else {
                continue;
            };
            // It may have left meanwhile, and its slot be another client's.
            let own = own.filter(|_| is_coming_or_going(event));
            let own = own.filter(|&own| fan_out.clients.get_mut(own).is_some());
            fan_out.metrics.broadcasts.add(1);
            fan_out.push(members, bytes, &publication, own.map(Own::without));
        }
    }

    /// When [`LocalRooms::publish_due`] has something.
    #[must_use]
    pub(super) fn next_due_ms(&self) -> Option<u64> {
        self.hub.pace.next_due_ms()
    }
}

impl Hub {
    /// The bytes of an event for the members, if they are told of it, and now.
    fn encode(
        &mut self,
        publication: &Arc<Publication>,
        own: Option<ConnectionId>,
        names: Option<&Arc<[MemberEntry]>>,
        now: Now,
    ) -> Option<Bytes> {
        let Event::Room { event, .. } = &publication.event else { return None };
        if let Some(names) = names {
            self.names.update(names);
        }
        match self.pace.step(event, &self.names, now.monotonic_ms) {
            Listing::Later => {
                self.pace.wait_with(event, (Arc::clone(publication), own));
                None
            }
            listing => hub::room_event(event, &self.names, listing == Listing::Whole),
        }
    }
}

impl Members {
    fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    fn insert(&mut self, slot: u32) -> u32 {
        self.slots.push(slot);
        self.slots.len() as u32 - 1
    }

    fn remove(&mut self, place: u32, slot: u32) -> Option<Moved> {
        let removed = self.slots.swap_remove(place as usize);
        assert_eq!(removed, slot, "Bug: a member was not at its place");
        self.slots.get(place as usize).map(|&slot| Moved { slot, place })
    }

    /// All members, beginning with another one each time, so that nobody always gets a message after everybody else.
    fn in_turn(&self) -> impl Iterator<Item = u32> {
        let part = self.first.get();
        self.first.set(part.wrapping_add(GOLDEN_SECTION));
        // Less than the number of members, unless there are none.
        let first = ((u64::from(part) * self.slots.len() as u64) >> 32) as usize;
        let (before, from) = self.slots.split_at(first);
        from.iter().chain(before).copied()
    }
}

/// The client that caused an event, if it does not get the event like everyone.
#[derive(Clone, Copy)]
struct Own {
    id: ConnectionId,
    /// It gets the event once the storage's receipt for this has arrived; without one, it gets none.
    gate: Option<RoomCursor>,
}

impl Own {
    fn without(id: ConnectionId) -> Self {
        Self { id, gate: None }
    }
}

/// The state that a fan-out changes, and the clients whose queue was full.
pub(super) struct FanOut<'s> {
    pub(super) clients: &'s mut Clients,
    pub(super) schedule: &'s mut Schedule,
    pub(super) work: &'s mut Work,
    pub(super) metrics: &'s ShardMetrics,
    pub(super) now: Now,
    /// How many queues have taken a frame so far.
    pub(super) delivered: usize,
    /// To be evicted when the fan-out is over.
    pub(super) overflowed: Vec<(ConnectionId, Overflow)>,
}

impl FanOut<'_> {
    /// Queues one frame for every member; for `own`, behind a gate or not at all. This is the loop that the server exists
    /// for: a pointer and a note for each member, whatever the frame's length.
    fn push(&mut self, members: &Members, bytes: Bytes, publication: &Publication, own: Option<Own>) {
        let frame_bytes = bytes.len();
        let frame = match &publication.timer {
            Some(timer) => {
                self.schedule.await_send();
                SharedBytes::with_completion_guard(bytes, Arc::clone(timer) as _)
            }
            None => SharedBytes::new(bytes),
        };
        let mut delivered = 0;
        for slot in members.in_turn() {
            let own = own.filter(|own| own.id.index == slot);
            if own.is_some_and(|own| own.gate.is_none()) {
                continue;
            }
            let id = self.clients.id(slot);
            let link = &mut self.clients.at(slot).link;
            let pushed = match own.and_then(|own| own.gate) {
                None => link.push_in_order(frame.clone()),
                Some(cursor) => link.push_gate(cursor, frame.clone()),
            };
            match pushed {
                Ok(()) => {
                    delivered += 1;
                    self.schedule.mark_dirty(id, link);
                }
                Err(overflow) => self.overflowed.push((id, overflow)),
            }
        }
        self.work.count_frames(delivered, frame_bytes);
        self.delivered += delivered as usize;
        self.metrics.frames_encoded.add(1);
        self.metrics.messages_delivered.add(delivered);
    }
}
