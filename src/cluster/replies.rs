//! The connections that wait for what they have told other nodes.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use slab::Slab;

use super::link::MailPlace;
use crate::mail::Delivery;
use crate::rooms::{ClientRef, Ticket};

/// Names a proposal of this server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// A home waits.
    Home(Ticket),
    /// A connection waits: see [`Replies`].
    Connection(usize),
}

/// What a connection is told about its mail to another node.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) to: ClientRef,
    pub(super) sent: Option<Delivery>,
    pub(super) failed: Option<Delivery>,
    /// It is on its way until then.
    pub(super) _place: MailPlace,
}

/// The replies to mail that is on its way to the log. Bounded by the room for mail of each shard.
#[derive(Clone, Debug, Default)]
pub(super) struct Replies(Arc<Mutex<Slab<Reply>>>);

impl Replies {
    /// Keeps a reply.
    pub(super) fn keep(&self, reply: Reply) -> Asked {
        Asked::Connection(self.inner().insert(reply))
    }

    /// Takes a reply.
    pub(super) fn take(&self, key: usize) -> Option<Reply> {
        self.inner().try_remove(key)
    }

    fn inner(&self) -> MutexGuard<'_, Slab<Reply>> {
        // A task that has panicked has ended the server.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
