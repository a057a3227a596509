//! Rooms that a backend closes.
//!
//! From one moment on, nobody finds the room: it is off the list, its name is free for another room, and in the file it has
//! a name that no client can ask for. Who is in it is told to leave, and who has held it before and joins now is, too. Until
//! then it is a room like any other, so nothing that its members say is lost on the way. When the last one has left, it is
//! forgotten, and the storage deletes its history.
//!
//! In a cluster, every server tells its members to leave. The room is found until the last one has left, since the log does
//! not forget a room with members.

use std::mem;
use std::sync::Arc;

use super::{Homes, OpenRoom, RoomState, reschedule};
use crate::rooms::{ClientRef, Delivery, RoomIndex, Write, WriteAction};

impl Homes {
    /// Takes a room off the list, and tells the storage.
    pub(super) fn begin_closing(&mut self, index: RoomIndex, origin: ClientRef) {
        let Some(RoomState::Open(OpenRoom { room, lease: Some(lease), .. })) = self.rooms.get_mut(index)
        else {
            return;
        };
        let (listed, members) = (Arc::clone(room.listed()), room.member_count());
        lease.is_closed = true;
        reschedule(&mut self.expiries, index, &mut lease.expiry_ms, None);
        if self.is_durable {
            lease.closed_by = Some((origin, members));
            self.outbox.write(Write { room: index, action: WriteAction::Close });
        } else {
            self.outbox.send(origin.shard, Delivery::Closed { to: origin, members, is_stored: true });
        }
        if self.sharing.is_some() {
            // Until the log forgets it, its name is not free.
            return;
        }
        self.on_demand.remove(listed.name());
        self.home.directory.on_demand().remove(&listed);
    }

    /// The storage has noted that a room is closed, or could not. Tells the HTTP API.
    pub(super) fn finish_closing(&mut self, index: RoomIndex, is_stored: bool) {
        self.outbox.note_answered();
        // It may be forgotten already, and keeps its slot until the storage has answered that, too.
        if let Some(RoomState::Open(OpenRoom { lease: Some(lease), .. })) = self.rooms.get_mut(index)
            && let Some((to, members)) = mem::take(&mut lease.closed_by)
        {
            self.outbox.send(to.shard, Delivery::Closed { to, members, is_stored });
        }
    }
}

#[cfg(test)]
mod tests {
    use uproar_ring::ConnectionId;

    use super::*;
    use crate::clock::Now;
    use crate::metrics::ShardMetrics;
    use crate::rooms::{
        Change, Directory, Epoch, Member, MessageId, PresencePolicy, Receipt, Request, RestoredRoom,
        RoomReceipt, RoomRefusal, RoomSettings, ShardIndex, Unlogged, UserId, Visit,
    };

    const NOW: Now = Now { monotonic_ms: 1, uptime_ms: 1, unix_seconds: 1 };

    fn client(shard: ShardIndex, index: u32) -> ClientRef {
        ClientRef { shard, connection: ConnectionId { index, generation: 0 } }
    }

    fn api() -> ClientRef {
        client(ShardIndex::API, 7)
    }

    struct Home(Homes);

    impl Home {
        fn new() -> Self {
            let settings =
                RoomSettings { presence: PresencePolicy::Exact, names_max: 9, history: 9, ttl_ms: 9 };
            let directory =
                Directory::new(&["general".to_owned()], 1).with_rooms_on_demand(&["*".to_owned()], 9);
            let mut homes =
                Homes::new(ShardIndex(0), &settings, &directory, Arc::new(ShardMetrics::default()));
            homes.restore(&[]);
            Self(homes)
        }

        /// Opens a room and holds it for a client.
        fn open(&mut self) -> RoomIndex {
            let origin = client(ShardIndex(0), 1);
            self.0.handle_request(Request::Open { name: "team".into(), origin, is_owed: false }, NOW);
            let write = self.0.poll_write();
            let Some(Write { room, action: WriteAction::Open(_) }) = write else { panic!("{write:?}") };
            let epoch = Epoch::random();
            let (last_id, kept_from, reserved) = (MessageId(0), MessageId(1), MessageId(9));
            let restored = RestoredRoom { epoch, kept: Vec::new(), last_id, kept_from, reserved };
            self.receipt(room, RoomReceipt::Opened(Box::new(restored)));
            self.deliveries();
            room
        }

        fn propose(&mut self, room: RoomIndex, proposal: impl Into<crate::rooms::Proposal>) {
            self.0.handle_request(Request::Room { room, proposal: proposal.into() }, NOW);
        }

        fn join(&mut self, room: RoomIndex, user: u64) {
            let member = Member {
                user: UserId::from_wire(user).unwrap(),
                visit: Visit(0),
                name: "Ann".into(),
                account: None,
                connected_at: 0,
                owner: None,
                origin: client(ShardIndex(0), user as u32),
                wants_names: false,
            };
            self.propose(room, Change::Join { member, after: None });
        }

        fn leave(&mut self, room: RoomIndex, user: u64) {
            let user = UserId::from_wire(user).unwrap();
            self.propose(room, Change::Leave { user, visit: Visit(0), reply: None });
        }

        fn close(&mut self, room: RoomIndex) {
            self.propose(room, Unlogged::Close { origin: api() });
        }

        fn receipt(&mut self, room: RoomIndex, receipt: RoomReceipt) {
            self.0.handle_receipt(Receipt::Room(room, receipt), NOW);
        }

        /// Who is told to leave, and the answers to the API.
        fn deliveries(&mut self) -> (Vec<Option<u32>>, Vec<String>) {
            let (mut closing, mut answers) = (Vec::new(), Vec::new());
            while let Some((to, delivery)) = self.0.poll_delivery() {
                match delivery {
                    Delivery::Closing { member, .. } => {
                        closing.push(member.map(|member| member.connection.index));
                    }
                    Delivery::Closed { members, is_stored, .. } => {
                        answers.push(format!("closed {members} {is_stored}"));
                    }
                    Delivery::Refused { refusal, .. } if to == ShardIndex::API => {
                        assert_eq!(refusal, RoomRefusal::NoRoom);
                        answers.push("no room".into());
                    }
                    _ => {}
                }
            }
            (closing, answers)
        }
    }

    #[test]
    fn a_closed_room_is_a_room_until_its_members_have_left_and_its_name_is_free_at_once() {
        let mut home = Home::new();
        let room = home.open();
        home.join(room, 1);
        home.deliveries();
        // Another client has asked for it, and is on its way.
        home.0.handle_request(
            Request::Open { name: "team".into(), origin: client(ShardIndex(0), 2), is_owed: false },
            NOW,
        );
        home.close(room);
        assert_eq!(home.deliveries(), (vec![None], vec![]));
        let write = home.0.poll_write();
        assert!(matches!(write, Some(Write { room: closed, action: WriteAction::Close }) if closed == room));
        home.receipt(room, RoomReceipt::Closed);
        assert_eq!(home.deliveries(), (vec![], vec!["closed 1 true".into()]));
        home.close(room);
        assert_eq!(home.deliveries(), (vec![], vec!["no room".into()]), "it is closed already");
        let another = home.open();
        assert_ne!(another, room);
        home.leave(room, 1);
        assert!(home.0.poll_write().is_none(), "it is held for the other one");
        home.join(room, 2);
        assert_eq!(home.deliveries(), (vec![Some(2)], vec![]));
        home.leave(room, 2);
        let write = home.0.poll_write();
        assert!(matches!(write, Some(Write { room: left, action: WriteAction::Forget }) if left == room));
        home.receipt(room, RoomReceipt::Forgotten);
        // The room that has its name now is another one, and is found.
        assert_eq!(home.0.on_demand.get("team"), Some(&another));
        assert_eq!(home.0.home.directory.on_demand().find("team").unwrap().index(), another);
        home.close(room);
        assert_eq!(home.deliveries(), (vec![], vec!["no room".into()]));
    }

    #[test]
    fn a_configured_room_is_not_closed_and_a_disk_that_fails_is_told() {
        let mut home = Home::new();
        let general = home.0.home.directory.general();
        home.close(general);
        assert_eq!(home.deliveries(), (vec![], vec!["no room".into()]));
        let room = home.open();
        home.close(room);
        assert!(matches!(home.0.poll_write(), Some(Write { action: WriteAction::Close, .. })));
        home.receipt(room, RoomReceipt::NotClosed);
        assert_eq!(home.deliveries(), (vec![], vec!["closed 0 false".into()]));
        assert!(home.0.home.directory.on_demand().is_empty());
    }
}
