//! Orders about many connections: those of admins and backends about an account or an address, changes of accounts, and
//! closed rooms.
//!
//! Each is about the connections that are there when it comes to the shard. It is carried out for some of them in each turn,
//! as long as there is room for the mail that follows, so an account or a room of ten thousand delays nobody. When it is done,
//! the admin or backend that has given it gets an answer.

use uproar_ring::ConnectionId;

use super::Shard;
use super::mass_order::{MassAction, MassOrder, OrderClass};
use crate::clock::Now;
use crate::mail::Delivery;
use crate::rooms::ClientRef;

/// The steps of each class of orders in a turn: a connection is one, and the end of an order. As many newcomers may join in
/// a turn.
const STEPS_A_TURN: usize = 64;

impl Shard {
    /// Begins to carry out an order about these connections. About none, there is nothing to do but to answer.
    pub(super) fn order_all(
        &mut self,
        ids: Vec<ConnectionId>,
        action: MassAction,
        origin: Option<ClientRef>,
    ) {
        if !ids.is_empty() || origin.is_some() {
            let order = MassOrder { action, waiting: ids.into_iter(), connections: 0, origin };
            self.mass_orders.push(order);
        }
    }

    /// Carries orders out for some of their connections.
    pub(super) fn carry_out_some(&mut self, now: Now) {
        for class in OrderClass::FIRST_TO_LAST {
            for _ in 0..STEPS_A_TURN {
                if !self.may_carry_out(class) {
                    break;
                }
                let Some(mut order) = self.mass_orders.of(class).pop_front() else { break };
                if let Some(id) = order.waiting.next() {
                    order.connections += usize::from(self.carry_out_for(id, &mut order.action, now));
                    self.mass_orders.of(class).push_front(order);
                } else if let Some(to) = order.origin {
                    let done = Delivery::NoticeDone { to, connections: order.connections };
                    self.context.mail.deliver(to.shard, done);
                }
                self.settle(now);
            }
        }
    }

    /// True when the next turn can go on with an order.
    pub(super) fn has_orders_to_carry_out(&self) -> bool {
        let mut classes = OrderClass::FIRST_TO_LAST.into_iter();
        classes.any(|class| self.mass_orders.has(class) && self.may_carry_out(class))
    }

    /// False while orders wait for room for the mail that they lead to. A shutdown waits for the orders of admins and
    /// backends, so they go on; members of closed rooms stay, because all connections are about to be closed.
    fn may_carry_out(&self, class: OrderClass) -> bool {
        let is_too_late = class == OrderClass::ClosedRoom && self.context.has_stopped_reading;
        !is_too_late && !self.context.mail.is_full_of_requests() && self.accepts_requests()
    }

    /// Carries an order out for one connection. False when it was not about this one.
    fn carry_out_for(&mut self, id: ConnectionId, action: &mut MassAction, now: Now) -> bool {
        let is_concerned = match action {
            MassAction::Notice(notice) => return self.follow_notice(id, notice, now),
            MassAction::LeaveClosed(room) => self.with_user(id, now, |user, io| {
                user.leave_closed(*room, io);
                true
            }),
            MassAction::Move(order) => self.with_user(id, now, |user, io| user.order_move(order.clone(), io)),
            MassAction::Message(message) => self.with_user(id, now, |user, io| message.push_to(user, io)),
            MassAction::FollowAccount(kind) => self.with_user(id, now, |user, io| {
                user.follow_account(*kind, io);
                true
            }),
        };
        is_concerned.unwrap_or(false)
    }
}
