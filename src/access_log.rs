//! The access log of `--log-access`: a line for each connection at its end, and one for each request of the HTTP API.
//!
//! Its lines have a target of their own, so that they can be told from others. Their rate is not limited; the queue of the
//! log drops what does not fit, and counts it.

use tracing::{Level, enabled, info};

use crate::events::ConnectionFacts;
use crate::log_text::shown;

/// The target of its lines.
pub const TARGET: &str = "access";

/// Whether anybody wants its lines.
#[must_use]
pub fn is_enabled() -> bool {
    enabled!(target: TARGET, Level::INFO)
}

/// Writes the line of a connection that has ended.
pub fn note_connection(facts: &ConnectionFacts) {
    let Some(end) = facts.end else { return };
    info!(
        target: TARGET,
        connection = %facts.name,
        address = %facts.address,
        account = facts.account.as_deref().map(shown),
        dialect = %facts.dialect,
        seconds = end.at.saturating_sub(facts.since),
        messages_in = facts.messages_in,
        messages_out = facts.messages_out,
        received_bytes = facts.received_bytes,
        sent_bytes = facts.sent_bytes,
        reason = %end.reason,
        "connection ended"
    );
}
