//! The members that a shard has of one room or topic, and the fan-out to them.

use std::cell::Cell;
use std::collections::VecDeque;

use uproar_ring::ConnectionId;
use uproar_ring::SharedBytes;

use super::client::Overflow;
use super::clients::Clients;
use super::names_pace::NamesPace;

use crate::dialect::{UserDialect, chat, hub};

/// The golden section of 2^32. A place that moves by it is spread evenly over any number of members.
const GOLDEN_SECTION: u32 = 0x9E37_79B9;

/// The local members of a room or topic: slots of the slab, in no particular order.
#[derive(Debug, Default)]
pub(super) struct Members {
    slots: Vec<u32>,
    /// Where the next fan-out begins, as a part of the whole in units of 2^-32.
    first: Cell<u32>,
}

/// A room as one shard sees it.
#[derive(Debug, Default)]
pub(super) struct LocalRoom {
    /// Those who speak the chat dialect.
    pub(super) chat: Members,
    /// Those who speak the hub dialect.
    pub(super) hub: Members,
    /// What was last encoded for newcomers.
    pub(super) lists: chat::Lists,
    /// What hub members are told of the room with everything.
    pub(super) names: hub::Names,
    /// When they are told them again, in a large room.
    pub(super) pace: NamesPace,
}

impl LocalRoom {
    /// Those who speak a dialect.
    pub(super) fn members(&mut self, dialect: UserDialect) -> &mut Members {
        match dialect {
            UserDialect::Chat => &mut self.chat,
            UserDialect::Hub => &mut self.hub,
        }
    }
}

impl Members {
    pub(super) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Adds a member and tells its place.
    pub(super) fn insert(&mut self, slot: u32) -> u32 {
        self.slots.push(slot);
        self.slots.len() as u32 - 1
    }

    /// Removes the member at a place. The last member moves there, if it was another one.
    #[must_use]
    pub(super) fn remove(&mut self, place: u32, slot: u32) -> Option<u32> {
        let removed = self.slots.swap_remove(place as usize);
        assert_eq!(removed, slot, "Bug: a member was not at its place");
        self.slots.get(place as usize).copied()
    }
}

impl Members {
    /// All members, beginning with another one each time, so that nobody always gets a message after everybody else.
    fn in_turn(&self) -> impl Iterator<Item = u32> {
        let part = self.first.get();
        self.first.set(part.wrapping_add(GOLDEN_SECTION));
        // Less than the number of members, but for none.
        let first = ((u64::from(part) * self.slots.len() as u64) >> 32) as usize;
        let (before, from) = self.slots.split_at(first);
        from.iter().chain(before).copied()
    }
}

/// What a fan-out came to.
#[derive(Debug, Default)]
pub(super) struct FanOut {
    /// Members whose queue took the frame.
    pub(super) delivered: u64,
    /// Members whose queue was full, and of what.
    pub(super) overflowed: Vec<(ConnectionId, Overflow)>,
}

/// Queues one frame for every member but `except`. This is the loop that the server exists for: a pointer
/// and a note for each member, whatever the frame's length.
pub(super) fn fan_out(
    members: &Members,
    clients: &mut Clients,
    dirty: &mut VecDeque<ConnectionId>,
    frame: &SharedBytes,
    except: Option<ConnectionId>,
) -> FanOut {
    let except = except.map(|id| id.index);
    let mut result = FanOut::default();
    for slot in members.in_turn() {
        if Some(slot) == except {
            continue;
        }
        let client = clients.at(slot);
        match client.push_in_order(frame.clone()) {
            Ok(()) => {
                result.delivered += 1;
                if !client.is_dirty {
                    client.is_dirty = true;
                    dirty.push_back(clients.id(slot));
                }
            }
            Err(overflow) => result.overflowed.push((clients.id(slot), overflow)),
        }
    }
    result
}
