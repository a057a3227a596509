//! What every upgrade of loadgen asks for, and what a refused one says.

use uproar_protocol::upgrade::Refusal;

/// The longest message that is taken from a server.
pub const MESSAGE_BYTES_MAX: usize = 16 << 20;

/// What is offered to a server.
pub(crate) const NO_SUBPROTOCOLS: &[&str] = &[];

/// What a refused upgrade says, and what to do about it.
pub(crate) fn refused(refusal: &Refusal) -> String {
    let advice = if *refusal == Refusal::Tls { ": write wss:// in --url" } else { "" };
    format!("the server {refusal}{advice}")
}
