//! The end of a client, and of all clients in a shutdown.
//!
//! In each case the membership ends at once, so that the leave has its place in the room's order. How the connection ends
//! after that is up to [`uproar_protocol::connection`]; the slot is free when the ring has closed the socket.

use tracing::debug;
use uproar_protocol::connection::Due;
use uproar_ring::ConnectionId;

use super::Shard;
use super::client::Session;
use super::client_io::ClientIo;
use super::drain::Drain;
use super::link::LinkEnd;
use crate::clock::Now;
use crate::dialect::UserDialect;
use crate::metrics::EndReason;
use crate::rooms::LogEnd;

impl Shard {
    /// Begins to close every connection with 1001, at a pace that leaves the other half of the drain
    /// timeout for their answers. Connections that are left when it is over end with the ring.
    pub fn begin_drain(&mut self, now: Now) {
        if self.drain.is_some() {
            return;
        }
        self.context.has_stopped_reading = true;
        let timeout_ms = self.context.settings.deadlines.drain_timeout_ms;
        self.drain = Some(Drain::begin(self.clients.ids().collect(), timeout_ms, now.monotonic_ms));
        self.close_some(now);
        self.settle(now);
    }

    /// Closes as many connections as the pace of a shutdown allows by now.
    pub(super) fn close_some(&mut self, now: Now) {
        let Some(drain) = &mut self.drain else { return };
        for id in drain.take_step(now.monotonic_ms) {
            self.close_for_shutdown(id, now);
        }
    }

    pub(super) fn close_for_shutdown(&mut self, id: ConnectionId, now: Now) {
        let (code, reason, end) = match self.homes.log_end() {
            None => (1001, "server shutting down", EndReason::Shutdown),
            Some(LogEnd::Fenced) => (1012, "node was fenced", EndReason::Fenced),
            Some(LogEnd::PlaceLost) => (1012, "node lost its place", EndReason::PlaceLost),
        };
        self.with_client(id, now, |_, io| io.close(code, reason, end));
    }

    /// The ring has closed the connection; its slot may be reused.
    pub(super) fn handle_closed(&mut self, id: ConnectionId) {
        let client = self.clients.remove(id);
        assert!(!client.session.is_member(), "Bug: {id} ended, and is still a member");
        debug_assert!(self.ended.get(id).is_none(), "Bug: {id} was closed ahead of the report of its end");
        let metrics = &self.context.metrics;
        metrics.tls_connections.sub(usize::from(client.link.connection.is_encrypted()));
        metrics.connections.with(client.link.dialect).sub(1);
    }

    /// Takes a client whose connection is no longer open out of its room or topic.
    pub(super) fn leave(&mut self, id: ConnectionId, end: &LinkEnd, now: Now) {
        self.note_ended(id, end, now);
        let client = self.clients.at(id.index);
        let (dialect, context) = (client.link.dialect, &mut self.context);
        context.metrics.connections_ended.with(end.reason).add(1);
        debug!(shard = context.settings.index.0, connection = %id, %dialect, reason = %end.reason, "ended");
        // A server that shuts down announces no leave: everybody goes. In a cluster others stay, and its users may come back
        // with them.
        let is_announced = self.drain.is_none() || self.cluster.is_some() && self.homes.log_end().is_none();
        let moved = client.session.depart(id, is_announced, context, now);
        self.clients.set_place(moved);
        self.closing.push_back(id);
    }
}

impl Session {
    /// Handles the expiry of a timer, unless it is stale: pings the client, or closes the connection.
    pub(super) fn handle_timer(&mut self, due_ms: u64, io: &mut ClientIo<'_>) {
        if io.link.timer_ms != due_ms {
            return;
        }
        io.link.timer_ms = 0;
        let keep_alive = io.context.settings.deadlines.keep_alive;
        let now_ms = io.now.monotonic_ms;
        if !io.link.is_open() {
            let _ = io.link.connection.handle_timeout(&keep_alive, now_ms);
            return;
        }
        let idle_due_ms = self.idle_due_ms(io.link, &keep_alive);
        let is_over = io.link.deadline.is_over(io.now.unix_seconds);
        let session_due_ms = if is_over { now_ms } else { io.link.session_due_ms() };
        let due_ms = io.link.connection.next_due_ms(&keep_alive).min(idle_due_ms).min(session_due_ms);
        if now_ms < due_ms {
            return;
        }
        if session_due_ms <= now_ms {
            self.handle_deadline(io);
        } else if io.link.is_kept_waiting() {
            // The server causes the silence: it has not read the input, or cannot ping before the 101.
            io.link.connection.note_alive(now_ms);
        } else if idle_due_ms <= now_ms {
            match self {
                Self::User(user) if user.dialect == UserDialect::Hub => user.close_silent_hub(io),
                _ => io.close(1001, "idle timeout", EndReason::Idle),
            }
        } else if io.link.connection.handle_timeout(&keep_alive, now_ms) == Due::Ping {
            io.ping();
        }
    }
}
