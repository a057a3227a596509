//! Moves of chat users to another room that the user has not asked for: by an order of a backend, or because its room is
//! closed. The client sees what it would see after a `join_room`. The rights of its token do not count here.
//!
//! A user that waits for an answer of a home moves when it has it, so that the answers stay in their order.

use super::client_io::ClientIo;
use super::user::{Opening, OrderedMove, RoomMembership, User};
use crate::dialect::UserDialect;

impl User {
    /// Moves this user, now or once it has the answers that it waits for. False when it is not concerned.
    pub(super) fn order_move(&mut self, order: OrderedMove, io: &mut ClientIo<'_>) -> bool {
        let is_concerned = self.dialect == UserDialect::Chat && self.is_to_move(&order);
        if is_concerned {
            self.ordered_move = Some(Box::new(order));
            self.follow_ordered_move(io);
        }
        is_concerned
    }

    /// Carries out a move that has waited for an answer. To be called behind each of them.
    pub(super) fn follow_ordered_move(&mut self, io: &mut ClientIo<'_>) {
        let is_in_a_room = matches!(self.membership, RoomMembership::In { .. });
        if self.ordered_move.is_none() || !is_in_a_room || self.is_awaiting() {
            return;
        }
        let Some(order) = self.ordered_move.take() else { return };
        // It may have gone elsewhere meanwhile; and where everybody is about to be closed, it stays.
        if !self.is_to_move(&order) || io.context.has_stopped_reading {
            return;
        }
        let OrderedMove { to, .. } = *order;
        match io.context.directory.find(&to) {
            Some(room) => {
                let _ = self.leave_for(room, to, None, io);
            }
            None => self.request_opening(Opening { name: to, after: None, is_ordered: true }, io),
        }
    }

    fn is_to_move(&self, OrderedMove { from, to }: &OrderedMove) -> bool {
        *self.room_name != **to && from.as_ref().is_none_or(|from| *self.room_name == **from)
    }
}
