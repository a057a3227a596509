//! Rooms that clients create: opened when a client asks for one, and forgotten when they have been empty for long, or
//! when another room needs their place.
//!
//! A client asks twice: first the room is opened and *held*, which may be refused; then the client leaves its old room,
//! and joins this one. A hold keeps a room from being forgotten, as a member does.

use std::mem;
use std::sync::Arc;

use super::lease::Lease;
use super::{Homes, OpenRoom, RoomState, reschedule};
use crate::clock::Now;
use crate::rooms::room::Room;
use crate::rooms::{
    ClientRef, Delivery, Epoch, ListedRoom, Request, RestoredRoom, RoomIndex, RoomRefusal, Write, WriteAction,
};

impl Homes {
    /// Opens a room for a client, or finds it open, and holds it for the client.
    pub(super) fn open(&mut self, name: Arc<str>, origin: ClientRef, is_owed: bool, now: Now) {
        let Some(&index) = self.on_demand.get(&name) else {
            return self.open_anew(name, origin, is_owed, now);
        };
        match self.rooms.get_mut(index) {
            Some(RoomState::Opening { waiting, .. }) => {
                waiting.push(origin);
                self.outbox.proposals_waiting += 1;
            }
            Some(RoomState::Open(OpenRoom { lease: Some(lease), .. })) => {
                lease.held += 1;
                if self.follow_lease(index, now) {
                    self.outbox.send(origin.shard, Delivery::Opened { to: origin, room: index });
                } else {
                    // Another home has claimed its place, and the request to forget it is still on the way.
                    self.release(index, now);
                    self.forget(index);
                    self.open_anew(name, origin, is_owed, now);
                }
            }
            Some(RoomState::Open(_)) | None => {
                unreachable!("Bug: a room is found that clients did not create")
            }
        }
    }

    fn open_anew(&mut self, name: Arc<str>, origin: ClientRef, is_owed: bool, now: Now) {
        let refuse = |refusal| Delivery::Refused { to: origin, refusal };
        if self.outbox.is_storage_failing || self.outbox.has_log_ended() {
            return self.outbox.send(origin.shard, refuse(RoomRefusal::NotOpened));
        }
        match self.home.directory.on_demand().reserve() {
            Ok(None) => {}
            Ok(Some(room)) => self.outbox.requests.push_back((room.home(), Request::Forget { room })),
            Err(_) if is_owed => self.home.directory.on_demand().reserve_anyway(),
            Err(_) => return self.outbox.send(origin.shard, refuse(RoomRefusal::TooManyRooms)),
        }
        let opening = RoomState::Opening { name: Arc::clone(&name), waiting: vec![origin] };
        let index = self.rooms.insert(opening);
        self.on_demand.insert(Arc::clone(&name), index);
        self.outbox.proposals_waiting += 1;
        if self.is_durable {
            self.outbox.write(Write { room: index, action: WriteAction::Open(name) });
        } else if self.are_shared() {
            self.propose_opening(name, index);
        } else {
            self.finish_opening(index, None, now);
        }
    }

    /// The room has its history, if it is to have any: the clients that wait may join.
    pub(super) fn finish_opening(&mut self, index: RoomIndex, restored: Option<RestoredRoom>, now: Now) {
        let Some(state) = self.rooms.get_mut(index) else { return };
        let RoomState::Opening { name, waiting } = state else { return };
        let (name, waiting) = (Arc::clone(name), mem::take(waiting));
        let epoch = restored.as_ref().map_or_else(Epoch::random, |restored| restored.epoch);
        let listed = Arc::new(ListedRoom::new(name, index, epoch));
        let mut room = Room::new(Arc::clone(&listed), Arc::clone(&self.home));
        if let Some(restored) = restored {
            room.restore(restored);
        }
        let lease = Lease { held: waiting.len(), ..Lease::default() };
        *state = RoomState::Open(OpenRoom::new(room, Some(lease)));
        self.home.directory.on_demand().insert(&listed);
        self.outbox.proposals_waiting -= waiting.len();
        for to in waiting {
            self.outbox.send(to.shard, Delivery::Opened { to, room: index });
        }
        self.follow(index, now);
    }

    /// The history of a room cannot be read.
    pub(super) fn fail_opening(&mut self, index: RoomIndex) {
        let Some(RoomState::Opening { name, waiting }) = self.rooms.remove(index) else { return };
        self.on_demand.remove(&name);
        self.home.directory.on_demand().cancel();
        self.outbox.proposals_waiting -= waiting.len();
        for to in waiting {
            self.outbox.send(to.shard, Delivery::Refused { to, refusal: RoomRefusal::NotOpened });
        }
    }

    /// A client that has held a room will not join it.
    pub(super) fn release(&mut self, index: RoomIndex, now: Now) {
        if let Some(OpenRoom { lease: Some(lease), .. }) = self.open_room(index) {
            lease.release();
            self.follow(index, now);
        }
    }

    /// Forgets a room without members, unless it is forgotten already.
    ///
    /// What a user has said just before it came back elsewhere may come late, and wait for the storage still. It is lost
    /// with the connection that has sent it.
    ///
    /// In a cluster only the shared log knows whether it has members elsewhere, and forgets it.
    pub(super) fn forget(&mut self, index: RoomIndex) {
        if self.are_shared() {
            return self.propose_forgetting(index);
        }
        let Some(open) = self.open_room(index) else { return };
        assert_eq!(open.room.member_count(), 0, "Bug: a room with members is forgotten");
        assert!(open.lease.as_ref().is_some_and(|lease| lease.held == 0), "Bug: a held room is forgotten");
        open.is_forgotten = true;
        self.outbox.proposals_waiting -= open.room.drop_waiting();
        self.take_off(index);
        if self.is_durable {
            // Its last writes may have no receipt yet.
            self.outbox.write(Write { room: index, action: WriteAction::Forget });
        } else {
            self.rooms.remove(index);
        }
    }

    /// Takes a room off all lists.
    pub(super) fn take_off(&mut self, index: RoomIndex) {
        let Some(RoomState::Open(open)) = self.rooms.get_mut(index) else { return };
        let (listed, report_ms) = (Arc::clone(open.room.listed()), open.report_ms.take());
        let expiry_ms = open.lease.as_mut().and_then(|lease| lease.expiry_ms.take());
        open.is_waiting = false;
        self.waiting.remove(&index);
        self.reports.remove(&(report_ms.unwrap_or_default(), index));
        self.expiries.remove(&(expiry_ms.unwrap_or_default(), index));
        // Where it was closed, its name may be that of another room.
        if self.on_demand.get(listed.name()) == Some(&index) {
            self.on_demand.remove(listed.name());
        }
        self.home.directory.on_demand().remove(&listed);
    }

    /// Tells the list of rooms how many members a room has now, and when it is to be forgotten. False when another home
    /// has claimed its place.
    pub(super) fn follow_lease(&mut self, index: RoomIndex, now: Now) -> bool {
        let Some(RoomState::Open(OpenRoom { room, lease: Some(lease), .. })) = self.rooms.get_mut(index)
        else {
            return true;
        };
        let members = room.member_count();
        let is_empty = members == 0 && lease.held == 0 && !room.has_waiting();
        if lease.is_closed {
            if is_empty {
                self.forget(index);
            }
            return true;
        }
        // Who has joined may have left in the same moment, if both had to wait for the storage.
        let was_vacated = members == 0 && !room.has_waiting() && mem::take(&mut lease.was_used);
        if was_vacated {
            lease.left_ms = Some(now.monotonic_ms);
        } else if (members, is_empty) == (lease.members, lease.is_empty) {
            return true;
        }
        (lease.members, lease.is_empty) = (members, is_empty);
        if is_empty && lease.left_ms.is_none() {
            // The client that created it has not come.
            self.forget(index);
            return true;
        }
        let expiry_ms = lease.left_ms.filter(|_| is_empty).map(|left_ms| left_ms + self.home.settings.ttl_ms);
        reschedule(&mut self.expiries, index, &mut lease.expiry_ms, expiry_ms);
        let list = self.home.directory.on_demand();
        if list.update(room.listed(), members, was_vacated, is_empty) {
            return true;
        }
        if self.sharing.is_none() {
            return false;
        }
        // The log may keep what another home wanted to have forgotten.
        list.reserve_anyway();
        list.insert(room.listed());
        list.update(room.listed(), members, true, is_empty)
    }
}

#[cfg(test)]
mod tests {
    use uproar_ring::ConnectionId;

    use super::*;
    use crate::metrics::ShardMetrics;
    use crate::rooms::{
        Change, Content, Directory, Member, MessageId, NewMessage, PresencePolicy, Receipt, RoomReceipt,
        RoomSettings, ShardIndex, UserId, Visit,
    };

    const TTL_MS: u64 = 1_000;

    fn at(monotonic_ms: u64) -> Now {
        Now { monotonic_ms, uptime_ms: monotonic_ms, unix_seconds: 0 }
    }

    fn origin() -> ClientRef {
        ClientRef { shard: ShardIndex(0), connection: ConnectionId { index: 1, generation: 0 } }
    }

    /// The home of a room that is open, held for one client, and has no id left for a message.
    fn home_without_ids(rooms_max: usize) -> (Homes, RoomIndex) {
        let settings =
            RoomSettings { presence: PresencePolicy::Exact, names_max: 9, history: 9, ttl_ms: TTL_MS };
        let directory =
            Directory::new(&["general".to_owned()], 1).with_rooms_on_demand(&["*".to_owned()], rooms_max);
        let mut homes = Homes::new(ShardIndex(0), &settings, &directory, Arc::new(ShardMetrics::default()));
        homes.restore(&[]);
        homes.handle_request(Request::Open { name: "team".into(), origin: origin(), is_owed: false }, at(0));
        let room = homes.poll_write().unwrap().room;
        let restored = RestoredRoom {
            epoch: Epoch::random(),
            kept: Vec::new(),
            last_id: MessageId(0),
            kept_from: MessageId(1),
            reserved: MessageId(0),
        };
        homes.handle_receipt(Receipt::Room(room, RoomReceipt::Opened(Box::new(restored))), at(0));
        (homes, room)
    }

    fn propose(homes: &mut Homes, room: RoomIndex, change: Change<NewMessage>, now: Now) {
        homes.handle_request(Request::Room { room, proposal: change.into() }, now);
    }

    fn user() -> UserId {
        UserId::from_wire(1).unwrap()
    }

    fn join() -> Change<NewMessage> {
        let member = Member {
            user: user(),
            visit: Visit(0),
            name: "Ann".into(),
            account: None,
            connected_at: 0,
            owner: None,
            origin: origin(),
            wants_names: false,
        };
        Change::Join { member, after: None }
    }

    fn leave() -> Change<NewMessage> {
        Change::Leave { user: user(), visit: Visit(0), reply: None }
    }

    fn message() -> Change<NewMessage> {
        let content = Content::Text("late".into());
        let message = NewMessage { user: user(), name: "Ann".into(), account: None, content };
        Change::Message { message, visit: None, origin: origin() }
    }

    #[test]
    fn a_room_that_was_used_and_left_in_one_moment_is_kept_for_its_time() {
        let (mut homes, room) = home_without_ids(9);
        for change in [message(), join(), leave()] {
            propose(&mut homes, room, change, at(1));
        }
        assert_eq!(homes.proposals_waiting(), 3);
        homes.handle_receipt(Receipt::Room(room, RoomReceipt::Reserved(MessageId(9))), at(5));
        assert_eq!((homes.proposals_waiting(), homes.next_due_ms()), (0, Some(5 + TTL_MS)));
        homes.handle_tick(at(4 + TTL_MS));
        assert_eq!(homes.home.directory.on_demand().len(), 1);
        homes.handle_tick(at(5 + TTL_MS));
        assert_eq!(homes.home.directory.on_demand().len(), 0);
    }

    #[test]
    fn what_waits_in_a_room_that_is_claimed_is_dropped_with_it() {
        let (mut homes, room) = home_without_ids(1);
        for change in [join(), leave()] {
            propose(&mut homes, room, change, at(1));
        }
        let claimed = homes.home.directory.on_demand().reserve();
        assert_eq!(claimed, Ok(Some(room)));
        propose(&mut homes, room, message(), at(2));
        assert_eq!(homes.proposals_waiting(), 1);
        homes.handle_request(Request::Forget { room }, at(3));
        assert_eq!(homes.proposals_waiting(), 0);
    }

    #[test]
    fn a_claimed_room_that_somebody_asks_for_is_opened_anew() {
        let (mut homes, room) = home_without_ids(2);
        for change in [join(), leave()] {
            propose(&mut homes, room, change, at(1));
        }
        let list = homes.home.directory.on_demand().clone();
        assert_eq!(list.reserve(), Ok(None));
        assert_eq!(list.reserve(), Ok(Some(room)));
        list.cancel();
        homes.handle_request(Request::Open { name: "team".into(), origin: origin(), is_owed: false }, at(2));
        let orders: Vec<Write> = std::iter::from_fn(|| homes.poll_write()).collect();
        let [
            Write { room: forgotten, action: WriteAction::Forget },
            Write { room: opened, action: WriteAction::Open(_) },
        ] = &orders[..]
        else {
            panic!("{orders:?}")
        };
        assert_eq!(*forgotten, room);
        assert_ne!(*opened, room);
        homes.handle_request(Request::Forget { room }, at(3));
        assert_eq!(list.len(), 2);
    }
}
