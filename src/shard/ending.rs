//! How connections end, and how all of them do.
//!
//! Whatever the reason, the order is the same: the membership ends at once; what must still be said is
//! queued; then the close handshake and the FINs have their time; then the ring is asked to close, and the
//! slot is free when it has.

use std::collections::VecDeque;
use std::io;

use crate::log_limit::LogLimit;
use tracing::{debug, info};
use uproar_protocol::{frames, tls};
use uproar_ring::ConnectionId;
use uproar_ring::Frame;
use uproar_ring::{CloseMode, SendBatch};

use super::Shard;
use super::connection::{Ending, Phase};
use super::out_queue::Overflow;
use crate::clock::Now;
use crate::dialect::UserDialect;
use crate::metrics::EndReason;

/// How long a peer may take to answer our close frame, or our FIN.
const ANSWER_MS: u64 = 2_000;

/// How long a connection that is being closed may go without reading anything of what is left for it.
const STALL_MS: u64 = 5_000;

/// How long closing may take in all, so that nobody stays by reading a byte every few seconds.
const CLOSE_MS: u64 = 30_000;

/// How often a shutdown closes a few more connections.
const DRAIN_STEP_MS: u64 = 10;

/// The least number of connections that are closed in a step.
const DRAIN_STEP_COUNT_MIN: usize = 50;

/// Evictions in the log: when a whole room's readers are slow, there are thousands at once.
static EVICTED: LogLimit = LogLimit::new();

/// A shutdown under way.
#[derive(Debug)]
pub(super) struct Drain {
    waiting: VecDeque<ConnectionId>,
    step_count: usize,
    next_ms: u64,
    /// When whoever is left is cut off; `None` once that has been done.
    deadline_ms: Option<u64>,
}

impl Drain {
    pub(super) fn next_due_ms(&self) -> Option<u64> {
        if self.waiting.is_empty() { self.deadline_ms } else { Some(self.next_ms) }
    }
}

impl Shard {
    /// Begins to close every connection with 1001, at a pace that leaves the other half of the drain
    /// timeout for their answers.
    pub fn begin_drain(&mut self, now: Now) {
        if self.drain.is_some() {
            return;
        }
        self.is_hushed = true;
        let waiting: VecDeque<_> = self.connections.ids().collect();
        let steps = (self.settings.deadlines.drain_timeout_ms / 2 / DRAIN_STEP_MS).max(1);
        let step_count = waiting.len().div_ceil(steps as usize).max(DRAIN_STEP_COUNT_MIN);
        let deadline_ms = Some(now.monotonic_ms + self.settings.deadlines.drain_timeout_ms);
        self.drain = Some(Drain { waiting, step_count, next_ms: now.monotonic_ms, deadline_ms });
        self.handle_drain_tick(now);
        self.settle(now);
    }

    pub(super) fn handle_drain_tick(&mut self, now: Now) {
        let Some(drain) = &mut self.drain else { return };
        if drain.deadline_ms.is_some_and(|deadline_ms| now.monotonic_ms >= deadline_ms) {
            // Time is up: whoever is still here is cut off.
            drain.deadline_ms = None;
            drain.waiting.clear();
            let rest: Vec<_> = self.connections.ids().collect();
            for id in rest {
                self.end(id, CloseMode::Abort, EndReason::Shutdown);
            }
        } else if now.monotonic_ms >= drain.next_ms {
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
        if !self.begin_ending(id, end, now, Phase::Closing) {
            return;
        }
        let connection = self.connections.at(id.index);
        connection.out.seal(Some(Frame::new(frames::close(code, reason))));
        self.mark_dirty(id);
    }

    /// As [`Shard::close`], but nothing more is read from the peer: it cannot be understood.
    pub(super) fn close_deaf(&mut self, id: ConnectionId, code: u16, reason: &str, end: EndReason, now: Now) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        if let Phase::Closing(ending) = connection.phase {
            // It was told to go already, and answered with something that is no close frame.
            connection.phase = Phase::Lingering(ending);
            self.finish(id, now);
            return;
        }
        if !self.begin_ending(id, end, now, Phase::Lingering) {
            return;
        }
        let connection = self.connections.at(id.index);
        connection.out.seal(Some(Frame::new(frames::close(code, reason))));
        self.mark_dirty(id);
    }

    /// Evicts a connection whose queue is full. What it has not read is given up, so that the close frame
    /// stands right behind the frame that is half sent.
    pub(super) fn evict(&mut self, id: ConnectionId, overflow: Overflow, now: Now) {
        let (end, reason) = match overflow {
            Overflow::SlowReceiver => (EndReason::SlowConsumer, "slow consumer"),
            Overflow::SlowStorage => (EndReason::SlowStorage, "slow storage"),
        };
        if !self.begin_ending(id, end, now, Phase::Closing) {
            return;
        }
        let connection = self.connections.at(id.index);
        if let Some(left_out) = EVICTED.allow_at(now.monotonic_ms) {
            let (bytes, frames) = (connection.out.queued_bytes(), connection.out.queued_frames());
            let (dialect, address) = (connection.session.dialect(), connection.peer);
            info!(connection = %id, %dialect, %address, reason, bytes, frames, left_out, "evicted");
        }
        connection.out.truncate(Frame::new(frames::close(1013, reason)));
        self.mark_dirty(id);
    }

    /// The peer's close frame: the first one, whose answer is queued, or the answer to ours.
    pub(super) fn handle_peer_close(&mut self, id: ConnectionId, now: Now) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        if let Phase::Closing(ending) = connection.phase {
            connection.phase = Phase::Lingering(ending);
        } else if !self.begin_ending(id, EndReason::Closed, now, Phase::Lingering) {
            return;
        }
        self.connections.at(id.index).out.seal(None);
        self.finish(id, now);
    }

    /// The peer will send nothing more.
    pub(super) fn handle_end_of_stream(&mut self, id: ConnectionId, now: Now) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        connection.is_at_end_of_stream = true;
        if connection.phase == Phase::Open && connection.is_holding() {
            // What it said before is still to be read; the end comes behind it.
            return;
        }
        match connection.phase {
            Phase::Open => {
                // It may still be reading what was sent before.
                if self.begin_ending(id, EndReason::Lost, now, Phase::Lingering) {
                    self.connections.at(id.index).out.seal(None);
                    self.finish(id, now);
                }
            }
            Phase::Closing(ending) => {
                connection.phase = Phase::Lingering(ending);
                self.finish(id, now);
            }
            Phase::Lingering(_) => self.finish(id, now),
            Phase::Ended(_) => {}
        }
    }

    /// The connection is broken.
    pub(super) fn handle_lost(&mut self, id: ConnectionId, error: &io::Error, now: Now) {
        debug!(shard = self.settings.index.0, connection = %id, %error, "broken");
        if self.connections.get_mut(id).is_some_and(|connection| connection.phase == Phase::Open) {
            self.begin_ending(id, EndReason::Lost, now, Phase::Lingering);
        }
        self.end(id, CloseMode::Abort, EndReason::Lost);
    }

    /// The peer broke TLS, or ended it with an alert: nothing more can be understood, and nothing be said but
    /// the alert that tells it why.
    pub(super) fn handle_broken_tls(&mut self, id: ConnectionId, error: &tls::Error, now: Now) {
        debug!(shard = self.settings.index.0, connection = %id, %error, "TLS is broken");
        let Some(connection) = self.connections.get_mut(id) else { return };
        connection.give_up();
        match connection.phase {
            Phase::Open => {
                self.begin_ending(id, EndReason::TlsError, now, Phase::Lingering);
            }
            Phase::Closing(ending) => connection.phase = Phase::Lingering(ending),
            Phase::Lingering(_) | Phase::Ended(_) => {}
        }
        self.finish(id, now);
    }

    /// Nothing can be encrypted any more: the keys have been used for as much as they may be.
    pub(super) fn handle_exhausted_tls(&mut self, id: ConnectionId, error: &tls::Error) {
        debug!(shard = self.settings.index.0, connection = %id, %error, "TLS is at its end");
        self.end(id, CloseMode::Abort, EndReason::TlsError);
    }

    pub(super) fn handle_sent(
        &mut self,
        id: ConnectionId,
        batch: SendBatch,
        result: io::Result<usize>,
        now: Now,
    ) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        let sent = match result {
            Ok(sent) => sent,
            Err(error) => {
                drop(batch);
                connection.give_up();
                self.handle_lost(id, &error, now);
                return;
            }
        };
        let was_over_limit = connection.out.is_over_limit();
        connection.handle_sent(batch, sent);
        self.metrics.sent_bytes.add(sent as u64);
        let is_flushed = connection.is_flushed();
        if was_over_limit && !connection.out.is_over_limit() {
            // A long join has left; what came meanwhile may be read.
            self.list_readable(id);
        }
        let Some(connection) = self.connections.get_mut(id) else { return };
        match &mut connection.phase {
            Phase::Open => {}
            Phase::Closing(ending) | Phase::Lingering(ending) => {
                ending.patience_ms = now.monotonic_ms + if is_flushed { ANSWER_MS } else { STALL_MS };
                self.finish(id, now);
                // The deadline may have come closer.
                self.schedule(id);
            }
            Phase::Ended(_) => return,
        }
        if !is_flushed {
            self.mark_dirty(id);
        }
    }

    /// Nothing is left of the connection; its slot may be used again.
    pub(super) fn handle_closed(&mut self, id: ConnectionId) {
        let connection = self.connections.remove(id);
        assert!(!connection.session.is_member(), "Bug: {id} ended, and is still a member");
        self.metrics.tls_connections.sub(usize::from(connection.encryption.is_some()));
        self.metrics.connections.with(connection.session.dialect()).sub(1);
    }

    pub(super) fn handle_timer(&mut self, id: ConnectionId, due_ms: u64, now: Now) {
        let deadlines = self.settings.deadlines;
        let Some(connection) = self.connections.get_mut(id) else { return };
        if connection.timer_ms != due_ms {
            return;
        }
        connection.timer_ms = 0;
        if connection.due_ms(&deadlines) <= now.monotonic_ms {
            match connection.phase {
                // We keep it from being heard, or from being pinged ahead of the answer to its upgrade.
                Phase::Open if connection.is_kept_waiting() => connection.note_alive(now.monotonic_ms),
                Phase::Open if connection.sign_in_due_ms() <= now.monotonic_ms => {
                    self.close(id, 1008, "Authentication required", EndReason::Unauthenticated, now);
                }
                Phase::Open if connection.idle_due_ms(&deadlines) <= now.monotonic_ms => {
                    self.close_silent(id, now);
                }
                Phase::Open => {
                    connection.pinged_ms = Some(now.monotonic_ms);
                    let ping = self.ping.clone();
                    self.push_frame(id, ping, now);
                }
                // Our close had no answer. TLS still has an end of its own.
                Phase::Closing(_) if connection.is_flushed() && connection.encryption.is_some() => {
                    let last_ms = now.monotonic_ms + ANSWER_MS;
                    connection.phase =
                        Phase::Lingering(Ending { patience_ms: last_ms, last_ms, fin_sent: false });
                    self.finish(id, now);
                }
                // Only who has not read is cut off: a reset takes away what is still on its way.
                Phase::Closing(_) | Phase::Lingering(_) if connection.is_flushed() => {
                    self.end(id, CloseMode::Graceful, EndReason::Lost);
                }
                Phase::Closing(_) | Phase::Lingering(_) => self.end(id, CloseMode::Abort, EndReason::Lost),
                Phase::Ended(_) => {}
            }
        }
        self.schedule(id);
    }

    /// Closes a connection that has been silent for the idle timeout.
    fn close_silent(&mut self, id: ConnectionId, now: Now) {
        if self.connections.user(id).is_some_and(|user| user.dialect == UserDialect::Hub) {
            self.close_silent_hub(id, now);
        } else {
            self.close(id, 1001, "idle timeout", EndReason::Idle, now);
        }
    }

    /// Takes a connection out of what it was part of. False when it was ending already.
    fn begin_ending(
        &mut self,
        id: ConnectionId,
        reason: EndReason,
        now: Now,
        phase: fn(Ending) -> Phase,
    ) -> bool {
        let Some(connection) = self.connections.get_mut(id) else { return false };
        if connection.phase != Phase::Open {
            return false;
        }
        let ending = Ending {
            patience_ms: now.monotonic_ms + STALL_MS,
            last_ms: now.monotonic_ms + CLOSE_MS,
            fin_sent: false,
        };
        connection.phase = phase(ending);
        // Somebody who was not even answered yet is told at least that.
        connection.greet();
        self.note_ended(id, reason);
        self.depart(id);
        self.schedule(id);
        self.closing.push_back(id);
        true
    }

    /// Goes on with a connection that has nothing more to hear: flush, FIN, await the peer's FIN.
    fn finish(&mut self, id: ConnectionId, now: Now) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        if matches!(connection.phase, Phase::Lingering(_)) && connection.is_flushed() {
            connection.end_encryption();
        }
        if !connection.is_flushed() {
            self.mark_dirty(id);
            return;
        }
        let Phase::Lingering(ending) = &mut connection.phase else { return };
        if connection.is_at_end_of_stream {
            self.end(id, CloseMode::Graceful, EndReason::Lost);
        } else if !ending.fin_sent {
            ending.fin_sent = true;
            ending.patience_ms = now.monotonic_ms + ANSWER_MS;
            connection.end_stream();
            self.mark_dirty(id);
            self.schedule(id);
        }
    }

    fn note_ended(&mut self, id: ConnectionId, reason: EndReason) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        self.metrics.connections_ended.with(reason).add(1);
        let dialect = connection.session.dialect();
        debug!(shard = self.settings.index.0, connection = %id, %dialect, %reason, "ended");
    }

    /// Asks the ring to close the connection.
    fn end(&mut self, id: ConnectionId, mode: CloseMode, reason: EndReason) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        if matches!(connection.phase, Phase::Ended(_)) {
            return;
        }
        let was_open = connection.phase == Phase::Open;
        connection.phase = Phase::Ended(Some(mode));
        if was_open {
            self.note_ended(id, reason);
            self.depart(id);
        }
        self.mark_dirty(id);
    }
}
