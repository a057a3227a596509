//! A model of the storage: messages are on the disk, and receipts on their way, when the scheduler says so.
//! What a crash would leave is known at every moment: what was written, and how far ids were reserved.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use uproar::rooms::{
    Directory, EntryNumber, Epoch, HistoryChange, KeptMessage, MessageId, Receipt, Restored, RestoredRoom,
    RoomIndex, RoomReceipt, Write, WriteAction,
};

use crate::record::Record;
use crate::scenario::Scenario;
use crate::violation::{Checked, ensure};

#[derive(Debug)]
pub(crate) struct Storage {
    directory: Directory,
    reserved_ahead: u64,
    history: usize,
    queue: VecDeque<Write>,
    /// By shard.
    receipts: Vec<VecDeque<Receipt>>,
    /// The rooms that are open.
    rooms: BTreeMap<RoomIndex, Room>,
    /// What is on the disk, by the rooms' names.
    file: BTreeMap<Arc<str>, Row>,
    is_failing: bool,
}

/// A room that is open.
#[derive(Debug)]
struct Room {
    name: Arc<str>,
    epoch: Epoch,
    /// The last id that was written down as reserved, and the last that was given out.
    reserved: MessageId,
    last_id: MessageId,
    /// The entry of the last write.
    last_entry: EntryNumber,
}

#[derive(Debug)]
struct Row {
    epoch: Epoch,
    kept: Vec<KeptMessage>,
    last_id: MessageId,
}

impl Storage {
    pub(crate) fn new(directory: &Directory, scenario: &Scenario) -> Self {
        let reserved = MessageId(if scenario.opens_early { 0 } else { scenario.reserved_ahead });
        let rooms = directory.rooms().iter().map(|room| {
            let (name, epoch) = (Arc::clone(room.name()), room.epoch());
            let (last_id, last_entry) = (MessageId(0), EntryNumber(0));
            (room.index(), Room { name, epoch, reserved, last_id, last_entry })
        });
        let mut storage = Self {
            directory: directory.clone(),
            reserved_ahead: scenario.reserved_ahead,
            history: scenario.history,
            queue: VecDeque::new(),
            receipts: (0..directory.shards()).map(|_| VecDeque::new()).collect(),
            rooms: rooms.collect(),
            file: BTreeMap::new(),
            is_failing: false,
        };
        if scenario.opens_early {
            directory.rooms().iter().for_each(|room| storage.reserve(room.index()));
        }
        storage
    }

    fn answer(&mut self, room: RoomIndex, receipt: RoomReceipt) {
        self.receipts[usize::from(room.home().0)].push_back(Receipt::Room(room, receipt));
    }

    /// Writes down that ids may be given out so far ahead of the last, and tells the room's home.
    fn reserve(&mut self, index: RoomIndex) {
        let Some(room) = self.rooms.get_mut(&index) else { return };
        room.reserved = MessageId(room.last_id.0 + self.reserved_ahead);
        let reserved = room.reserved;
        self.answer(index, RoomReceipt::Reserved(reserved));
    }

    /// What shards are told at their start.
    pub(crate) fn restored(&self) -> Restored {
        let rooms = self.directory.rooms().iter().map(|room| RestoredRoom {
            epoch: room.epoch(),
            kept: Vec::new(),
            last_id: MessageId(0),
            kept_from: MessageId(1),
            reserved: self.rooms[&room.index()].reserved,
        });
        Restored { rooms: rooms.collect(), last_author: None }
    }

    /// A shard gives it an order, before anybody else hears of that.
    pub(crate) fn take(&mut self, write: Write) -> Checked {
        if let WriteAction::Change(entry, change) = &write.action {
            let Some(room) = self.rooms.get_mut(&write.room) else {
                panic!("{write:?} is about a room that is not open")
            };
            let before = std::mem::replace(&mut room.last_entry, *entry);
            ensure!(OneOrder, *entry > before, "{entry:?} is to be written after {before:?}");
            match change {
                HistoryChange::Append(message) => {
                    let id = message.id;
                    let before = std::mem::replace(&mut room.last_id, id);
                    ensure!(OneOrder, id.0 == before.0 + 1, "{id:?} is to be written after {before:?}");
                    let reserved = room.reserved;
                    ensure!(NoIdTwice, id <= reserved, "{id:?} was given out, and {reserved:?} is reserved");
                }
                HistoryChange::Delete(message) => {
                    let (id, last) = (message.id, room.last_id);
                    ensure!(OneOrder, id <= last, "{id:?} is to be deleted, and {last:?} was the last");
                }
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
        for receipts in &mut self.receipts {
            receipts.push_back(Receipt::Recovered);
        }
        let rooms: Vec<RoomIndex> = self.rooms.keys().copied().collect();
        rooms.into_iter().for_each(|room| self.reserve(room));
    }

    /// A batch of so many orders is on the disk, or lost.
    pub(crate) fn commit(&mut self, count: usize, record: &mut Record) -> bool {
        let batch: Vec<Write> = self.queue.drain(..count).collect();
        for Write { room, action } in batch {
            match action {
                WriteAction::Change(entry, change) => self.commit_change(room, entry, change, record),
                WriteAction::Open(_) if self.is_failing => self.answer(room, RoomReceipt::NotOpened),
                WriteAction::Open(name) => self.open(room, name),
                WriteAction::Close if self.is_failing => self.answer(room, RoomReceipt::NotClosed),
                WriteAction::Close => self.close(room),
                WriteAction::Forget => {
                    let forgotten = self.rooms.remove(&room).expect("Bug: it was open");
                    if let Some(row) = self.file.get_mut(&forgotten.name) {
                        row.last_id = forgotten.last_id;
                    }
                    self.answer(room, RoomReceipt::Forgotten);
                }
            }
        }
        count > 0
    }

    /// Gives a room that is closed a name that no client can ask for.
    fn close(&mut self, index: RoomIndex) {
        let room = self.rooms.get_mut(&index).expect("Bug: it was open");
        let closed: Arc<str> = format!("{}\0{}", room.name, Epoch::random()).into();
        let name = std::mem::replace(&mut room.name, Arc::clone(&closed));
        if let Some(row) = self.file.remove(&name) {
            self.file.insert(closed, row);
        }
        self.answer(index, RoomReceipt::Closed);
    }

    fn commit_change(
        &mut self,
        index: RoomIndex,
        entry: EntryNumber,
        change: HistoryChange,
        record: &mut Record,
    ) {
        let receipt = match self.is_failing {
            true => RoomReceipt::Lost(entry, Epoch::random()),
            false => RoomReceipt::Kept(entry),
        };
        self.answer(index, receipt);
        let room = &self.rooms[&index];
        let (name, epoch, reserved) = (Arc::clone(&room.name), room.epoch, room.reserved);
        // What is still said in a closed room, its members know by the room's own name.
        let room_name = name.split('\0').next().unwrap_or_default().to_owned();
        let row = Row { epoch, kept: Vec::new(), last_id: MessageId(0) };
        match (change, self.is_failing) {
            (HistoryChange::Append(message), true) => drop(record.lost.insert((room_name, message.id.0))),
            (HistoryChange::Delete(_), true) => {}
            (HistoryChange::Delete(message), false) => {
                if let Some(row) = self.file.get_mut(&name) {
                    let kept = row.kept.iter_mut().filter(|kept| kept.id() == message.id);
                    kept.for_each(|kept| *kept = KeptMessage::Deleted(message.id));
                }
                record.durably_deleted.insert((room_name, message.id.0));
            }
            (HistoryChange::Append(message), false) => {
                record.durable.insert((room_name, message.id.0));
                let row = self.file.entry(name).or_insert(row);
                row.kept.push(KeptMessage::Whole(Arc::clone(&message)));
                // At its half.
                if 2 * (reserved.0 - message.id.0) < self.reserved_ahead {
                    self.reserve(index);
                }
            }
        }
    }

    /// Reads a room that clients create, which has a row if anything was ever said there.
    fn open(&mut self, index: RoomIndex, name: Arc<str>) {
        let (epoch, mut kept, last_id) = match self.file.get(&name) {
            Some(row) => (row.epoch, row.kept.clone(), row.last_id),
            None => (Epoch::random(), Vec::new(), MessageId(0)),
        };
        kept.drain(..kept.len().saturating_sub(self.history));
        let kept_from = kept.first().map_or(MessageId(last_id.0 + 1), KeptMessage::id);
        let reserved = MessageId(last_id.0 + self.reserved_ahead);
        let last_entry = EntryNumber(0);
        self.rooms.insert(index, Room { name, epoch, reserved, last_id, last_entry });
        let restored = RestoredRoom { epoch, kept, last_id, kept_from, reserved };
        self.answer(index, RoomReceipt::Opened(Box::new(restored)));
    }

    /// How many orders wait to be carried out.
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
