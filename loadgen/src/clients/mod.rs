//! The clients of a run: a thread, the crowd of clients that it owns, and what one of them does. The probe before the
//! first client is here, too.
//!
//! A thread tells the main thread what it has done through [`report`], and shares nothing else.

pub mod busy;
pub mod churn;
pub mod client;
pub mod context;
pub mod crowd;
pub mod failure;
pub mod probe;
pub mod report;
pub mod socket;
pub mod transport;
pub mod worker;

/// The longest message that is taken from a server.
pub const MESSAGE_BYTES_MAX: usize = 16 << 20;

/// What is offered to a server.
pub(crate) const NO_SUBPROTOCOLS: &[&str] = &[];
