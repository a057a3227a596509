//! The members of closed rooms, on their way to their first room.

use std::sync::Arc;

use super::Shard;
use super::client_io::ClientIo;
use super::mass_order::MassAction;
use super::user::{OrderedMove, RoomMembership, User};
use crate::rooms::{ClientRef, RoomIndex};

impl Shard {
    /// Lets the members of a closed room leave, or the one that has just joined it. A member may be told more than once, and
    /// leaves once.
    pub(super) fn note_closing(&mut self, room: RoomIndex, member: Option<ClientRef>) {
        let members = match member {
            Some(member) => vec![member.connection],
            None => {
                let slots = self.context.rooms.chat_members(room);
                slots.iter().map(|slot| self.clients.id(*slot)).collect()
            }
        };
        self.order_all(members, MassAction::LeaveClosed(room), None);
    }
}

impl User {
    /// Goes to its first room, unless it has left the closed one already.
    pub(super) fn leave_closed(&mut self, room: RoomIndex, io: &mut ClientIo<'_>) {
        let (RoomMembership::In { room: own, .. } | RoomMembership::Joining(own)) = self.membership else {
            return;
        };
        if own != room {
            return;
        }
        // Who may join none is closed, as one that comes is.
        if let Some(first) = self.first_room(io) {
            let (from, to) = (Some(Arc::clone(&self.room_name)), io.context.directory.configured_name(first));
            self.order_move(OrderedMove { from, to }, io);
        }
    }
}
