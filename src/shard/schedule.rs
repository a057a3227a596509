//! Which clients are to be looked at again, and when: to submit something, to read, or because a deadline is due.

use std::collections::VecDeque;
use std::mem;

use uproar_protocol::connection::KeepAlive;
use uproar_ring::ConnectionId;

use super::client::Client;
use super::clients::Clients;
use super::link::Link;
use super::timers::Timers;

/// The lists of clients with something to do.
///
/// Rule: after each change of a client, [`Schedule::update`] is called, or, after a push alone,
/// [`Schedule::mark_dirty`].
#[derive(Debug, Default)]
pub(super) struct Schedule {
    /// Clients whose connection may have an action. Each has its turn in the order in which something came up for it.
    dirty: VecDeque<ConnectionId>,
    /// Clients whose input, or its end, waits for its turn.
    readable: VecDeque<ConnectionId>,
    timers: Timers,
    /// True when a send was submitted, or is about to be, whose end is awaited.
    is_send_awaited: bool,
}

impl Schedule {
    /// Puts a client on each list that it now belongs to.
    pub(super) fn update(&mut self, id: ConnectionId, client: &mut Client, keep_alive: &KeepAlive) {
        if client.link.connection.has_action() {
            self.mark_dirty(id, &mut client.link);
        }
        if !client.link.is_readable && client.has_readable_input() {
            client.link.is_readable = true;
            self.readable.push_back(id);
        }
        let due_ms = client.due_ms(keep_alive);
        // An entry that comes earlier finds out by itself that it is too early.
        if due_ms != u64::MAX && (client.link.timer_ms == 0 || due_ms < client.link.timer_ms) {
            client.link.timer_ms = due_ms;
            self.timers.schedule(due_ms, id);
        }
    }

    /// Lists a client whose connection may have an action.
    #[inline]
    pub(super) fn mark_dirty(&mut self, id: ConnectionId, link: &mut Link) {
        if !link.is_dirty {
            link.is_dirty = true;
            self.dirty.push_back(id);
        }
    }

    /// The client that is the first to submit something.
    #[inline]
    pub(super) fn first_dirty(&self) -> Option<ConnectionId> {
        self.dirty.front().copied()
    }

    /// Takes that client off the list.
    #[inline]
    pub(super) fn pop_dirty(&mut self) {
        self.dirty.pop_front();
    }

    /// The next client whose input is to be read. It is no longer listed.
    pub(super) fn pop_readable(&mut self) -> Option<ConnectionId> {
        self.readable.pop_front()
    }

    /// True while input of some client waits for its turn.
    #[inline]
    pub(super) fn has_readable(&self) -> bool {
        !self.readable.is_empty()
    }

    /// True while some client may have something to submit.
    pub(super) fn has_dirty(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// The next client whose deadline is due, with the time that it was scheduled for.
    #[must_use]
    pub(super) fn poll_due(&mut self, now_ms: u64) -> Option<(u64, ConnectionId)> {
        self.timers.poll(now_ms)
    }

    /// The earliest deadline.
    #[must_use]
    pub(super) fn next_due_ms(&self) -> Option<u64> {
        self.timers.next_due_ms()
    }

    /// Removes stale deadlines once they have become the most.
    pub(super) fn shrink(&mut self, clients: &mut Clients) {
        self.timers.shrink(2 * clients.count(), |due_ms, id| {
            clients.get_mut(id).is_some_and(|client| client.link.timer_ms == due_ms)
        });
    }

    /// Notes that the end of a send is awaited: more is to be done then, or it is timed.
    pub(super) fn await_send(&mut self) {
        self.is_send_awaited = true;
    }

    /// True when, since the last call, a send was submitted whose end is awaited.
    #[must_use]
    pub(super) fn take_is_send_awaited(&mut self) -> bool {
        mem::take(&mut self.is_send_awaited)
    }
}
