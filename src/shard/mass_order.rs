//! Orders about many connections, until they are done.

use std::collections::VecDeque;
use std::sync::Arc;
use std::vec;

use uproar_ring::ConnectionId;

use super::account_message::MessageToAccount;
use super::user::OrderedMove;
use crate::accounts::AccountChangeKind;
use crate::moderation::ModerationNotice;
use crate::rooms::{ClientRef, RoomIndex};

/// What is done with each connection.
#[derive(Debug)]
pub(super) enum MassAction {
    /// It leaves a closed room.
    LeaveClosed(RoomIndex),
    /// It is closed, muted or unmuted.
    Notice(Arc<ModerationNotice>),
    /// It enters another room.
    Move(OrderedMove),
    /// It gets a private message.
    Message(Box<MessageToAccount>),
    /// Its account has changed.
    FollowAccount(AccountChangeKind),
}

/// Orders that wait for one another. Those of different classes do not: nobody is banned later because a large room is
/// closed, or because many get a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OrderClass {
    /// Notices, and changes of accounts: who may stay, and who may speak.
    Moderation,
    /// Messages and moves of backends.
    Backend,
    /// Members of closed rooms that are to leave.
    ClosedRoom,
}

impl OrderClass {
    /// All of them, in the order in which they have their turn.
    pub(super) const FIRST_TO_LAST: [Self; 3] = [Self::Moderation, Self::Backend, Self::ClosedRoom];
}

impl MassAction {
    fn class(&self) -> OrderClass {
        match self {
            Self::Notice(_) | Self::FollowAccount(_) => OrderClass::Moderation,
            Self::Move(_) | Self::Message(_) => OrderClass::Backend,
            Self::LeaveClosed(_) => OrderClass::ClosedRoom,
        }
    }
}

/// An order about many connections.
#[derive(Debug)]
pub(super) struct MassOrder {
    pub(super) action: MassAction,
    /// The connections that it has not come to, of which some may have ended.
    pub(super) waiting: vec::IntoIter<ConnectionId>,
    /// How many connections it was about so far.
    pub(super) connections: usize,
    /// The admin or backend that is told this number when the order is done.
    pub(super) origin: Option<ClientRef>,
}

/// The orders that are not done, those of each class in the order in which they came.
///
/// Bounded by:
///
/// - the HTTP API, which has at most 64 requests to all shards under way, of one order each;
/// - the admins in the chat, whose input waits until their last order was answered: it has three notices at most, one that
///   unmutes an account, its session's address and its own. One who leaves before the answers come leaves these notices
///   behind, until they are done;
/// - reloads of the accounts, each with an order for each changed account that has connections here;
/// - closed rooms, which have each connection at most once for each time that it has entered the room.
#[derive(Debug, Default)]
pub(super) struct MassOrders([VecDeque<MassOrder>; OrderClass::FIRST_TO_LAST.len()]);

impl MassOrders {
    /// Adds an order behind the others of its class.
    pub(super) fn push(&mut self, order: MassOrder) {
        self.of(order.action.class()).push_back(order);
    }

    /// True while there is an order of this class.
    pub(super) fn has(&self, class: OrderClass) -> bool {
        !self.0[class as usize].is_empty()
    }

    /// True while an admin or a backend may wait for an answer.
    pub(super) fn has_unanswered(&self) -> bool {
        self.has(OrderClass::Moderation) || self.has(OrderClass::Backend)
    }

    /// The orders of a class.
    pub(super) fn of(&mut self, class: OrderClass) -> &mut VecDeque<MassOrder> {
        &mut self.0[class as usize]
    }
}
