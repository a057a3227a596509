//! A model of the storage: messages are on the disk, and receipts on their way, when the scheduler says so.
//! What a crash would leave is known at every moment: what was written, and how far ids were reserved.

use std::collections::VecDeque;

use uproar::rooms::{
    Directory, EntryNumber, Epoch, HistoryChange, MessageId, Receipt, Restored, RestoredRoom, RoomIndex,
    RoomReceipt, Write,
};

use crate::record::Record;
use crate::scenario::Scenario;
use crate::violation::{Checked, ensure};

#[derive(Debug)]
pub(crate) struct Storage {
    directory: Directory,
    reserved_ahead: u64,
    queue: VecDeque<Write>,
    /// By shard.
    receipts: Vec<VecDeque<Receipt>>,
    /// By room: the last id that was written down as reserved, and the last that was given out.
    reserved: Vec<MessageId>,
    last_ids: Vec<MessageId>,
    /// By room: the entry of the last write.
    last_entries: Vec<EntryNumber>,
    is_failing: bool,
}

impl Storage {
    pub(crate) fn new(directory: &Directory, scenario: &Scenario) -> Self {
        let reserved = if scenario.opens_early { 0 } else { scenario.reserved_ahead };
        let mut storage = Self {
            directory: directory.clone(),
            reserved_ahead: scenario.reserved_ahead,
            queue: VecDeque::new(),
            receipts: (0..directory.shards()).map(|_| VecDeque::new()).collect(),
            reserved: vec![MessageId(reserved); directory.room_count()],
            last_ids: vec![MessageId(0); directory.room_count()],
            last_entries: vec![EntryNumber(0); directory.room_count()],
            is_failing: false,
        };
        if scenario.opens_early {
            directory.rooms().for_each(|room| storage.reserve(room));
        }
        storage
    }

    /// Writes down that ids may be given out so far ahead of the last, and tells the room's home.
    fn reserve(&mut self, room: RoomIndex) {
        let reserved = MessageId(self.last_ids[room.get()].0 + self.reserved_ahead);
        self.reserved[room.get()] = reserved;
        self.receipts[usize::from(self.directory.home(room).0)]
            .push_back(Receipt::Room(room, RoomReceipt::Reserved(reserved)));
    }

    /// What shards are told at their start.
    pub(crate) fn restored(&self) -> Restored {
        let rooms = self.directory.rooms().zip(&self.reserved).map(|(room, &reserved)| RestoredRoom {
            epoch: self.directory.epoch(room),
            kept: Vec::new(),
            last_id: MessageId(0),
            kept_from: MessageId(1),
            reserved,
        });
        Restored { rooms: rooms.collect(), last_author: None }
    }

    /// A shard gives it a message, before anybody else hears of that.
    pub(crate) fn take(&mut self, write: Write) -> Checked {
        let (room, entry) = (write.room.get(), write.entry);
        let before = std::mem::replace(&mut self.last_entries[room], entry);
        ensure!(OneOrder, entry > before, "{entry:?} is to be written after {before:?}");
        match &write.change {
            HistoryChange::Append(message) => {
                let id = message.id;
                let before = std::mem::replace(&mut self.last_ids[room], id);
                ensure!(OneOrder, id.0 == before.0 + 1, "{id:?} is to be written after {before:?}");
                let reserved = self.reserved[room];
                ensure!(NoIdTwice, id <= reserved, "{id:?} was given out, and {reserved:?} is reserved");
            }
            HistoryChange::Delete(message) => {
                let (id, last) = (message.id, self.last_ids[room]);
                ensure!(OneOrder, id <= last, "{id:?} is to be deleted, and {last:?} was the last");
            }
        }
        self.queue.push_back(write);
        Ok(())
    }

    /// The disk fails: nothing can be written until it is mended.
    pub(crate) fn fail(&mut self) {
        self.is_failing = true;
        for receipts in &mut self.receipts {
            receipts.push_back(Receipt::Withdrawn);
        }
    }

    pub(crate) fn is_failing(&self) -> bool {
        self.is_failing
    }

    pub(crate) fn mend(&mut self) {
        self.is_failing = false;
        let directory = self.directory.clone();
        directory.rooms().for_each(|room| self.reserve(room));
    }

    /// A batch of so many changes is on the disk, or lost.
    pub(crate) fn commit(&mut self, count: usize, record: &mut Record) -> bool {
        let batch: Vec<Write> = self.queue.drain(..count).collect();
        for Write { room, entry, change } in batch {
            let receipts = &mut self.receipts[usize::from(self.directory.home(room).0)];
            let receipt = match self.is_failing {
                true => RoomReceipt::Lost(entry, Epoch::random()),
                false => RoomReceipt::Kept(entry),
            };
            receipts.push_back(Receipt::Room(room, receipt));
            let room_name = self.directory.name(room).to_string();
            let message = match (change, self.is_failing) {
                (HistoryChange::Append(message), true) => {
                    record.lost.insert((room_name, message.id.0));
                    continue;
                }
                (HistoryChange::Delete(_), true) => continue,
                (HistoryChange::Delete(message), false) => {
                    record.durably_deleted.insert((room_name, message.id.0));
                    continue;
                }
                (HistoryChange::Append(message), false) => message,
            };
            record.durable.insert((room_name, message.id.0));
            // At its half.
            if 2 * (self.reserved[room.get()].0 - message.id.0) < self.reserved_ahead {
                self.reserve(room);
            }
        }
        count > 0
    }

    /// How many changes wait to be written.
    pub(crate) fn len(&self) -> usize {
        self.queue.len()
    }

    /// How many receipts are on their way to a shard.
    pub(crate) fn receipts_for(&self, shard: usize) -> usize {
        self.receipts[shard].len()
    }

    pub(crate) fn next_receipt(&mut self, shard: usize) -> Option<Receipt> {
        self.receipts[shard].pop_front()
    }
}
