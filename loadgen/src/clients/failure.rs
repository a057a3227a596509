//! Why a client failed, in words that say what to do about it.

use uproar_protocol::frames::Violation;
use uproar_protocol::upgrade::Refusal;

use crate::network::security::TlsFailure;

/// Why a client failed. What can only come from a server that breaks the rules says so.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The upgrade was refused.
    #[error("{}", refused(.0))]
    Refused(#[from] Refusal),
    /// TLS failed.
    #[error(transparent)]
    Tls(#[from] TlsFailure),
    /// A frame broke RFC 6455.
    #[error("protocol violation: {0}")]
    Violation(#[from] Violation),
    /// A message of the join was not what the chat dialect prescribes.
    #[error("join: {0}")]
    Join(String),
}

/// What a refused upgrade says, and what to do about it.
pub(crate) fn refused(refusal: &Refusal) -> String {
    let advice = if *refusal == Refusal::Tls { ": write wss:// in --url" } else { "" };
    format!("the server {refusal}{advice}")
}
