//! The connections that wait for what they have told other nodes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::link::MailPlace;
use crate::mail::{Delivery, OrderOrigin, OrderOutcome, TermsOrder};
use crate::moderation::OrderRefusal;
use crate::rooms::{ClientRef, ShardIndex, Ticket};

/// Names a proposal of this server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// A home waits.
    Home(Ticket),
    /// A connection waits: see [`Replies`].
    Connection(u64),
}

/// What becomes of mail, once the log has it or it is refused.
#[derive(Debug)]
pub(super) enum Reply {
    /// A connection is told.
    Mail {
        to: ClientRef,
        outcomes: Box<MailOutcomes>,
        /// It is on its way until then.
        _place: MailPlace,
    },
    /// A shard goes on with an order.
    Terms { shard: ShardIndex, order: Box<TermsOrder>, _place: MailPlace },
    /// An admin waits for another server to carry its order out.
    Order { origin: ClientRef, _place: MailPlace },
}

/// What a connection is told about its mail to another node.
#[derive(Debug)]
pub(super) struct MailOutcomes {
    pub(super) sent: Option<Delivery>,
    pub(super) failed: Option<Delivery>,
}

impl Reply {
    /// What is told where the log has it.
    pub(super) fn sent(self) -> Option<(ShardIndex, Delivery)> {
        match self {
            Self::Mail { to, outcomes, .. } => Some((to.shard, outcomes.sent?)),
            Self::Terms { shard, order, .. } => {
                Some((shard, Delivery::TermsDecided { order, is_in_force: true }))
            }
            // The other server answers.
            Self::Order { .. } => None,
        }
    }

    /// What is told where it is refused.
    pub(super) fn failed(self) -> Option<(ShardIndex, Delivery)> {
        match self {
            Self::Mail { to, outcomes, .. } => Some((to.shard, outcomes.failed?)),
            Self::Terms { shard, order, .. } => {
                Some((shard, Delivery::TermsDecided { order, is_in_force: false }))
            }
            Self::Order { origin, .. } => Some(order_done(origin, Err(OrderRefusal::NotStored))),
        }
    }
}

/// The replies to mail that is on its way to the log. Bounded by the room for mail of each shard.
#[derive(Clone, Debug, Default)]
pub(super) struct Replies(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    replies: HashMap<u64, Reply>,
    /// No reply has had this key.
    next_key: u64,
}

impl Replies {
    /// Keeps a reply.
    pub(super) fn keep(&self, reply: Reply) -> Asked {
        let mut inner = self.inner();
        let key = inner.next_key;
        inner.next_key += 1;
        inner.replies.insert(key, reply);
        Asked::Connection(key)
    }

    /// Takes a reply.
    pub(super) fn take(&self, key: u64) -> Option<Reply> {
        self.inner().replies.remove(&key)
    }

    /// Takes the reply to mail that the log has, unless another server answers it.
    pub(super) fn take_sent(&self, key: u64) -> Option<Reply> {
        let mut inner = self.inner();
        if let Some(Reply::Order { .. }) = inner.replies.get(&key) {
            return None;
        }
        inner.replies.remove(&key)
    }

    /// What an admin is told whose order another server has carried out or refused.
    pub(super) fn end_order(
        &self,
        key: u64,
        refusal: Option<OrderRefusal>,
    ) -> Option<(ShardIndex, Delivery)> {
        let mut inner = self.inner();
        let Some(Reply::Order { origin, .. }) = inner.replies.get(&key) else { return None };
        let outcome = refusal.map_or_else(|| Ok(OrderOutcome::default()), Err);
        let done = order_done(*origin, outcome);
        inner.replies.remove(&key);
        Some(done)
    }

    /// What the author of an order is told of which nothing was heard in time. It is told nothing more.
    pub(super) fn give_up(&self, key: u64) -> Option<(ShardIndex, Delivery)> {
        let mut inner = self.inner();
        match inner.replies.get_mut(&key)? {
            Reply::Mail { .. } => None,
            Reply::Terms { shard, order, .. } => {
                let origin = std::mem::replace(&mut order.origin, OrderOrigin::Nobody);
                Some((*shard, Delivery::TermsUndecided { origin }))
            }
            Reply::Order { origin, .. } => {
                let done = order_done(*origin, Err(OrderRefusal::OutcomeUnknown));
                inner.replies.remove(&key);
                Some(done)
            }
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        // A task that has panicked has ended the server.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn order_done(to: ClientRef, outcome: Result<OrderOutcome, OrderRefusal>) -> (ShardIndex, Delivery) {
    (to.shard, Delivery::OrderDone { to, outcome })
}
