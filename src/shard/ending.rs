//! How clients leave, and how all of them do.
//!
//! Whatever the reason, the membership ends at once, so that the leave stands at its place in the room's order. How the
//! connection ends after that is its own matter ([`uproar_protocol::connection`]); the slot is free when the ring has
//! closed the socket.

use std::collections::VecDeque;
use std::io;

use tracing::{debug, info};
use uproar_protocol::connection::Due;
use uproar_protocol::tls;
use uproar_ring::{ConnectionId, SendBatch};

use super::Shard;
use super::client::Overflow;
use super::drain::Drain;
use crate::clock::Now;
use crate::dialect::UserDialect;
use crate::log_limit::LogLimit;
use crate::metrics::EndReason;

/// How often a shutdown closes a few more connections.
const DRAIN_STEP_MS: u64 = 10;

/// The least number of connections that are closed in a step.
const DRAIN_STEP_COUNT_MIN: usize = 50;

/// Evictions in the log: when a whole room's readers are slow, there are thousands at once.
static EVICTED: LogLimit = LogLimit::new();

impl Shard {
    /// Begins to close every connection with 1001, at a pace that leaves the other half of the drain
    /// timeout for their answers. Connections that are left when it is over end with the ring.
    pub fn begin_drain(&mut self, now: Now) {
        if self.drain.is_some() {
            return;
        }
        self.is_hushed = true;
        let waiting: VecDeque<_> = self.clients.ids().collect();
        let steps = (self.settings.deadlines.drain_timeout_ms / 2 / DRAIN_STEP_MS).max(1);
        let step_count = waiting.len().div_ceil(steps as usize).max(DRAIN_STEP_COUNT_MIN);
        self.drain = Some(Drain { waiting, step_count, next_ms: now.monotonic_ms });
        self.handle_drain_tick(now);
        self.settle(now);
    }

    pub(super) fn handle_drain_tick(&mut self, now: Now) {
        let Some(drain) = &mut self.drain else { return };
        if now.monotonic_ms >= drain.next_ms {
            drain.next_ms = now.monotonic_ms + DRAIN_STEP_MS;
            let count = drain.step_count.min(drain.waiting.len());
            let step: Vec<_> = drain.waiting.drain(..count).collect();
            for id in step {
                self.close_for_shutdown(id, now);
            }
        }
    }

    pub(super) fn close_for_shutdown(&mut self, id: ConnectionId, now: Now) {
        self.close(id, 1001, "server shutting down", EndReason::Shutdown, now);
    }

    /// Closes a connection with a code and a reason, behind what is queued for it and does not wait for the
    /// disk.
    pub(super) fn close(&mut self, id: ConnectionId, code: u16, reason: &str, end: EndReason, now: Now) {
        if let Some(client) = self.clients.get_mut(id)
            && client.connection.is_open()
        {
            client.greet();
            client.connection.close(code, reason, now.monotonic_ms);
            self.handle_leaving(id, end);
        }
    }

    /// Evicts a client whose queue is full.
    pub(super) fn evict(&mut self, id: ConnectionId, overflow: Overflow, now: Now) {
        let (end, reason) = match overflow {
            Overflow::SlowReceiver => (EndReason::SlowConsumer, "slow consumer"),
            Overflow::SlowStorage => (EndReason::SlowStorage, "slow storage"),
        };
        let Some(client) = self.clients.get_mut(id) else { return };
        if !client.connection.is_open() {
            return;
        }
        if let Some(left_out) = EVICTED.allow_at(now.monotonic_ms) {
            let (bytes, frames) = (client.queued_bytes(), client.queued_frames());
            let (dialect, address) = (client.session.dialect(), client.peer);
            info!(connection = %id, %dialect, %address, reason, bytes, frames, left_out, "evicted");
        }
        client.greet();
        client.connection.evict(1013, reason, now.monotonic_ms);
        self.handle_leaving(id, end);
    }

    /// Cuts a connection off.
    fn abort(&mut self, id: ConnectionId, end: EndReason) {
        let Some(client) = self.clients.get_mut(id) else { return };
        let was_open = client.connection.is_open();
        client.connection.abort();
        self.handle_progress(id, was_open, end);
    }

    /// The peer will send nothing more.
    pub(super) fn handle_end_of_stream(&mut self, id: ConnectionId, now: Now) {
        let Some(client) = self.clients.get_mut(id) else { return };
        let was_open = client.connection.is_open();
        let is_unread = client.is_awaiting();
        client.connection.handle_end_of_stream(is_unread, now.monotonic_ms);
        self.handle_progress(id, was_open, EndReason::Lost);
    }

    /// The connection is broken.
    pub(super) fn handle_lost(&mut self, id: ConnectionId, error: &io::Error) {
        debug!(shard = self.settings.index.0, connection = %id, %error, "broken");
        self.abort(id, EndReason::Lost);
    }

    /// The peer broke TLS, or ended it with an alert.
    pub(super) fn handle_broken_tls(&mut self, id: ConnectionId, error: &tls::Error, now: Now) {
        debug!(shard = self.settings.index.0, connection = %id, %error, "TLS is broken");
        let Some(client) = self.clients.get_mut(id) else { return };
        let was_open = client.connection.is_open();
        client.connection.handle_broken_tls(now.monotonic_ms);
        self.handle_progress(id, was_open, EndReason::TlsError);
    }

    /// Nothing can be encrypted any more: the keys have been used for as much as they may be.
    pub(super) fn handle_exhausted_tls(&mut self, id: ConnectionId, error: &tls::Error) {
        debug!(shard = self.settings.index.0, connection = %id, %error, "TLS is at its end");
        self.abort(id, EndReason::TlsError);
    }

    pub(super) fn handle_sent(
        &mut self,
        id: ConnectionId,
        batch: SendBatch,
        result: io::Result<usize>,
        now: Now,
    ) {
        let Some(client) = self.clients.get_mut(id) else { return };
        let sent_bytes = match result {
            Ok(sent_bytes) => sent_bytes,
            Err(error) => {
                drop(batch);
                let was_open = client.connection.is_open();
                debug!(shard = self.settings.index.0, connection = %id, %error, "broken");
                client.connection.handle_send_failed();
                return self.handle_progress(id, was_open, EndReason::Lost);
            }
        };
        let was_over_limit = client.is_over_limit();
        client.handle_sent(batch, sent_bytes, now.monotonic_ms);
        self.metrics.sent_bytes.add(sent_bytes as u64);
        let is_within_limit_again = was_over_limit && !client.is_over_limit();
        let (is_open, is_flushed) = (client.connection.is_open(), client.connection.is_flushed());
        if is_within_limit_again {
            // A long join has left; what came meanwhile may be read.
            self.list_readable(id);
        }
        if !is_open {
            self.handle_progress(id, false, EndReason::Lost);
        } else if !is_flushed {
            self.mark_dirty(id);
        }
    }

    /// Nothing is left of the connection; its slot may be used again.
    pub(super) fn handle_closed(&mut self, id: ConnectionId) {
        let client = self.clients.remove(id);
        assert!(!client.session.is_member(), "Bug: {id} ended, and is still a member");
        self.metrics.tls_connections.sub(usize::from(client.connection.is_encrypted()));
        self.metrics.connections.with(client.session.dialect()).sub(1);
    }

    pub(super) fn handle_timer(&mut self, id: ConnectionId, due_ms: u64, now: Now) {
        let keep_alive = self.settings.deadlines.keep_alive;
        let Some(client) = self.clients.get_mut(id) else { return };
        if client.timer_ms != due_ms {
            return;
        }
        client.timer_ms = 0;
        if !client.connection.is_open() {
            let _ = client.connection.handle_timeout(&keep_alive, now.monotonic_ms);
            self.mark_dirty(id);
        } else if client.due_ms(&keep_alive) <= now.monotonic_ms {
            if client.is_kept_waiting() {
                // We keep it from being heard, or from being pinged ahead of the answer to its upgrade.
                client.connection.note_alive(now.monotonic_ms);
            } else if client.sign_in_due_ms() <= now.monotonic_ms {
                self.close(id, 1008, "Authentication required", EndReason::Unauthenticated, now);
            } else if client.idle_due_ms(&keep_alive) <= now.monotonic_ms {
                self.close_silent(id, now);
            } else if client.connection.handle_timeout(&keep_alive, now.monotonic_ms) == Due::Ping {
                let ping = self.ping.clone();
                self.push_frame(id, ping, now);
            }
        }
        self.schedule(id);
    }

    /// Closes a connection that has been silent for the idle timeout.
    fn close_silent(&mut self, id: ConnectionId, now: Now) {
        if self.clients.user(id).is_some_and(|user| user.dialect == UserDialect::Hub) {
            self.close_silent_hub(id, now);
        } else {
            self.close(id, 1001, "idle timeout", EndReason::Idle, now);
        }
    }

    /// Follows a connection that may have left [`is_open`](uproar_protocol::connection::Connection::is_open), or come
    /// further towards its end.
    pub(super) fn handle_progress(&mut self, id: ConnectionId, was_open: bool, end: EndReason) {
        let Some(client) = self.clients.get_mut(id) else { return };
        if was_open && !client.connection.is_open() {
            self.handle_leaving(id, end);
        } else {
            self.mark_dirty(id);
            self.schedule(id);
        }
    }

    /// Takes a client that is no longer open out of what it was part of.
    fn handle_leaving(&mut self, id: ConnectionId, end: EndReason) {
        let client = self.clients.at(id.index);
        client.drop_gates();
        let dialect = client.session.dialect();
        self.metrics.connections_ended.with(end).add(1);
        debug!(shard = self.settings.index.0, connection = %id, %dialect, reason = %end, "ended");
        self.depart(id);
        self.closing.push_back(id);
        self.mark_dirty(id);
        self.schedule(id);
    }
}
