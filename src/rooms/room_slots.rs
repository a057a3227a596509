//! The slots of a home's rooms, and their generations.

use super::{RoomIndex, ShardIndex};

/// The rooms of one home by [`RoomIndex`]. A slot is used again, with the next generation.
#[derive(Debug)]
pub(super) struct RoomSlots<T> {
    home: ShardIndex,
    slots: Vec<Slot<T>>,
    /// The slots without a room that may get one.
    free: Vec<u32>,
}

#[derive(Debug)]
struct Slot<T> {
    generation: u32,
    /// Boxed, because there may be many rooms, and a vector that grows moves all its items.
    room: Option<Box<T>>,
}

impl<T> RoomSlots<T> {
    /// Slots for the rooms of `home`, of which the first ones hold these.
    pub(super) fn new(home: ShardIndex, fixed: impl Iterator<Item = Option<T>>) -> Self {
        let slots = fixed.map(|room| Slot { generation: 0, room: room.map(Box::new) });
        Self { home, slots: slots.collect(), free: Vec::new() }
    }

    /// The room, unless its slot was given to another one.
    pub(super) fn get_mut(&mut self, index: RoomIndex) -> Option<&mut T> {
        debug_assert_eq!(index.home, self.home);
        let slot = self.slots.get_mut(index.slot())?;
        slot.room.as_deref_mut().filter(|_| slot.generation == index.generation)
    }

    /// Gives a room a slot.
    pub(super) fn insert(&mut self, room: T) -> RoomIndex {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot { generation: 0, room: None });
            self.slots.len() as u32 - 1
        });
        let place = &mut self.slots[slot as usize];
        place.room = Some(Box::new(room));
        RoomIndex { home: self.home, slot, generation: place.generation }
    }

    /// Gives up the slot of a room.
    pub(super) fn remove(&mut self, index: RoomIndex) -> Option<T> {
        self.get_mut(index)?;
        let slot = &mut self.slots[index.slot()];
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(index.slot);
        slot.room.take().map(|room| *room)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_of_an_earlier_generation_leads_nowhere() {
        let mut slots = RoomSlots::new(ShardIndex(0), [Some("general"), None].into_iter());
        let first = slots.insert("a");
        assert_eq!((first.slot(), slots.remove(first)), (2, Some("a")));
        assert_eq!(slots.remove(first), None);
        let second = slots.insert("b");
        assert_eq!(second.slot(), first.slot());
        assert_eq!((slots.get_mut(first).copied(), slots.get_mut(second).copied()), (None, Some("b")));
        assert_eq!(slots.get_mut(RoomIndex::GENERAL).copied(), Some("general"));
        assert_eq!(slots.insert("c").slot(), 3, "slots of other homes' rooms stay empty");
    }
}
