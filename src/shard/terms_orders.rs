//! Orders that change bans or mutes, on their way into force. On a server that is alone they are at once. In a cluster they go
//! into the shared log; every server follows them when it reads them there, and the shard that has decided on an order then
//! goes on with it: see [`Delivery::TermsDecided`].

use super::Shard;
use super::client::Session;
use super::client_io::{ClientIo, Context};
use super::user::User;
use crate::clock::Now;
use crate::mail::{
    Delivery, LogMail, NodeMail, NodeNotice, OrderEffect, OrderOrigin, OrderOutcome, TermsOrder,
};
use crate::metrics::EndReason;
use crate::moderation::{OrderRefusal, TermsChange};
use crate::rooms::ClientRef;
use crate::storage::StateChange;

/// The reason of the close when an account or an address is banned.
pub(super) const BANNED: &str = "banned";

/// What becomes of an order at once.
#[derive(Debug)]
pub(super) enum Ordered {
    /// It is carried out.
    Done(OrderOutcome),
    /// The shared log decides, and its author is answered then.
    InLog,
}

impl Context {
    /// Puts an order that is about no single connection in force, or gives it to the shared log.
    pub(super) fn put_in_force(&mut self, order: TermsOrder, now: Now) -> Ordered {
        match self.begin_to_enforce(order, now) {
            Some(order) => self.end_to_enforce(order, now),
            None => Ordered::InLog,
        }
    }

    /// Lets the register follow an order, or gives it to the shared log.
    fn begin_to_enforce(&mut self, order: TermsOrder, now: Now) -> Option<TermsOrder> {
        if self.directory.is_in_cluster() {
            self.mail.post(LogMail::Terms(Box::new(order)));
            return None;
        }
        self.settings.moderation.apply(&order.change, now.unix_seconds);
        self.store_terms(&order.change);
        Some(order)
    }

    fn end_to_enforce(&self, order: TermsOrder, now: Now) -> Ordered {
        self.note_order(&order.report, now);
        Ordered::Done(outcome_of(order))
    }

    /// Tells the author of an order what has become of it. What it means for connections is told by an author of this server;
    /// where there is none, it is told here.
    pub(super) fn answer_order(&mut self, origin: OrderOrigin, outcome: Result<OrderOutcome, OrderRefusal>) {
        let node = match origin {
            OrderOrigin::Client(to) => {
                return self.mail.deliver(to.shard, Delivery::OrderDone { to, outcome });
            }
            OrderOrigin::Node(node, number) => Some((node, number)),
            OrderOrigin::Nobody => None,
        };
        let refusal = outcome.as_ref().err().copied();
        for notice in outcome.into_iter().flat_map(|outcome| outcome.notices) {
            self.notify_shards(ClientRef::ELSEWHERE, notice);
        }
        if let Some((to, number)) = node {
            self.mail.post(NodeMail {
                to,
                // It has no place among the messages of a room.
                room: "".into(),
                notice: NodeNotice::OrderEnd { number, refusal },
                origin: ClientRef::ELSEWHERE,
                sent: None,
                failed: None,
                awaits: None,
            });
        }
    }

    /// Tells the storage what has changed.
    fn store_terms(&self, change: &TermsChange) {
        if let Some(state) = &self.state {
            change.bans.iter().for_each(|(subject, _)| state.note(StateChange::Ban(subject.clone())));
            change.mutes.iter().for_each(|(subject, _)| state.note(StateChange::Mute(subject.clone())));
        }
    }
}

impl ClientIo<'_> {
    /// Puts an order about this connection in force, which `follow` then tells it; or gives it to the shared log.
    pub(super) fn put_in_force(
        &mut self,
        order: TermsOrder,
        follow: impl FnOnce(&OrderEffect, &mut Self),
    ) -> Ordered {
        let Some(order) = self.context.begin_to_enforce(order, self.now) else { return Ordered::InLog };
        if let Some((_, effect)) = &order.effect {
            follow(effect, self);
        }
        self.context.end_to_enforce(order, self.now)
    }
}

impl Shard {
    /// The shared log has decided about an order of this shard.
    pub(super) fn handle_terms_decided(&mut self, order: TermsOrder, is_in_force: bool, now: Now) {
        let origin = order.origin.clone();
        let outcome = if is_in_force {
            if let Some((id, effect)) = &order.effect {
                self.with_client(*id, now, |session, io| session.take_effect(effect, io));
            }
            self.context.note_order(&order.report, now);
            Ok(outcome_of(order))
        } else {
            Err(OrderRefusal::NotStored)
        };
        self.context.answer_order(origin, outcome);
    }
}

impl Session {
    /// Follows an order about this connection.
    pub(super) fn take_effect(&mut self, effect: &OrderEffect, io: &mut ClientIo<'_>) {
        match (self, effect) {
            (session, OrderEffect::Ban { reason }) => {
                session.be_closed(reason.as_deref(), BANNED, EndReason::Banned, io);
            }
            (Self::User(user), effect) => user.take_effect(effect, io),
            // There is nobody who could be muted.
            (Self::Raw { .. } | Self::Echo, OrderEffect::Mute { .. } | OrderEffect::Unmute) => {}
        }
    }
}

impl User {
    /// Follows an order about this user.
    pub(super) fn take_effect(&mut self, effect: &OrderEffect, io: &mut ClientIo<'_>) {
        match effect {
            OrderEffect::Ban { reason } => self.be_closed(reason.as_deref(), BANNED, EndReason::Banned, io),
            OrderEffect::Mute { seconds, until } => self.be_muted(*until, *seconds, io),
            OrderEffect::Unmute => self.be_unmuted(io),
        }
    }
}

fn outcome_of(order: TermsOrder) -> OrderOutcome {
    OrderOutcome { connections: usize::from(order.effect.is_some()), notices: order.notices }
}
