//! The connections that wait for what they have told other nodes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use slab::Slab;

use super::link::MailPlace;
use crate::mail::Delivery;
use crate::rooms::{ClientRef, Ticket, UserId};

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

/// The replies to mail that is on its way to the log, and the connections that wait for a user to leave another node. Bounded
/// by the number of connections, and by what a user may send in the time that its messages may wait.
#[derive(Clone, Debug, Default)]
pub(super) struct Replies(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    replies: Slab<Reply>,
    leaves: HashMap<UserId, Vec<ClientRef>>,
}

impl Replies {
    /// Keeps a reply.
    pub(super) fn keep(&self, reply: Reply) -> Asked {
        Asked::Connection(self.inner().replies.insert(reply))
    }

    /// Takes a reply.
    pub(super) fn take(&self, key: usize) -> Option<Reply> {
        self.inner().replies.try_remove(key)
    }

    /// A connection waits until this user has left another node.
    pub(super) fn await_leave(&self, user: UserId, connection: ClientRef) {
        self.inner().leaves.entry(user).or_default().push(connection);
    }

    /// The connections that have waited for this user to leave.
    pub(super) fn take_leave(&self, user: UserId) -> Vec<ClientRef> {
        self.inner().leaves.remove(&user).unwrap_or_default()
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        // A task that has panicked has ended the server.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
