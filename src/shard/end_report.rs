//! Reports of connections that have begun or ended: for those who watch the server, and in the log.
//!
//! The log has a line for each client that the server turns away, at most one a second for each reason; connections that
//! end normally are logged at the level `debug`. With `--log-access`, each connection has one line at its end, of the target
//! `access`.

use std::sync::Arc;

use tracing::info;
use uproar_ring::ConnectionId;

use super::Shard;
use super::ended_client::EndedClient;
use super::facts::{facts, facts_of_ended};
use super::link::LinkEnd;
use crate::access_log;
use crate::clock::Now;
use crate::events::{ConnectionFacts, ConnectionPhase, Event};
use crate::log_limit::LogLimit;
use crate::log_text::shown;
use crate::metrics::{EndReason, Label as _};

/// Limits the lines of each reason: when a whole room's readers are slow, there are thousands at once. All shards share
/// them.
static LIMITS: [LogLimit; EndReason::ALL.len()] = [const { LogLimit::new() }; EndReason::ALL.len()];

impl Shard {
    /// Tells those who watch the server of a new connection.
    pub(super) fn report_begin(&mut self, id: ConnectionId, now: Now) {
        if self.context.events.is_some() {
            let connection = Arc::new(facts(id, self.clients.at(id.index), &self.context, now));
            let phase = ConnectionPhase::Begin;
            self.context.tell(Event::Connection { at: now.unix_seconds, phase, connection });
        }
    }

    /// Notes the facts of a connection that has ended, before its client leaves its room, if somebody wants to know.
    pub(super) fn note_ended(&mut self, id: ConnectionId, end: &LinkEnd, now: Now) {
        let reason = end.reason;
        let left_out = match is_notable(reason) {
            true => LIMITS[reason.index()].allow(),
            false => None,
        };
        if left_out.is_some() || self.context.events.is_some() || access_log::is_enabled() {
            let facts = facts_of_ended(id, self.clients.at(id.index), end, &self.context, now);
            self.ended.push(EndedClient { facts, reason, left_out });
        }
    }

    /// Reports the end of a connection.
    pub(super) fn report_end(&mut self, ended: EndedClient, now: Now) {
        self.context.work.count_report();
        let EndedClient { facts, reason, left_out } = ended;
        if let Some(left_out) = left_out {
            log_end(&facts, reason, left_out);
        }
        access_log::note_connection(&facts);
        if self.context.events.is_some() {
            let (phase, connection) = (ConnectionPhase::End, Arc::new(facts));
            self.context.tell(Event::Connection { at: now.unix_seconds, phase, connection });
        }
    }
}

/// Whether an end is worth a line: the client did something wrong, was too slow, or was turned away.
fn is_notable(reason: EndReason) -> bool {
    match reason {
        EndReason::SlowConsumer
        | EndReason::SlowStorage
        | EndReason::Idle
        | EndReason::ProtocolError
        | EndReason::TooBig
        | EndReason::InvalidUtf8
        | EndReason::TlsError
        | EndReason::Unauthenticated
        | EndReason::PermissionDenied
        | EndReason::Kicked
        | EndReason::Banned
        | EndReason::AccountChanged
        | EndReason::OutOfReach => true,
        EndReason::Closed
        | EndReason::Lost
        | EndReason::TokenExpired
        | EndReason::SessionResumed
        | EndReason::Fenced
        | EndReason::PlaceLost
        | EndReason::Shutdown => false,
    }
}

fn log_end(facts: &ConnectionFacts, reason: EndReason, left_out: u64) {
    let what = match reason {
        EndReason::SlowConsumer | EndReason::SlowStorage => "evicted",
        _ => "closed",
    };
    info!(
        connection = %facts.name,
        dialect = %facts.dialect,
        address = %facts.address,
        account = facts.account.as_deref().map(shown),
        %reason,
        queued_bytes = facts.queued_bytes,
        queued_frames = facts.queued_frames,
        acknowledged_bytes = facts.tcp.map(|tcp| tcp.acknowledged_bytes),
        round_trip_ms = facts.round_trip_ms(),
        left_out,
        "{what}"
    );
}
