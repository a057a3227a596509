//! The clients of a run: a thread, the crowd of clients that it owns, and what one of them does. The probe before the
//! first client is here, too.
//!
//! A thread tells the main thread what it has done through [`report`], and shares nothing else.

mod batch;
pub mod busy;
pub mod churn;
pub mod client;
pub mod context;
pub mod crowd;
mod endpoint;
pub mod failure;
pub mod probe;
pub mod report;
pub mod socket;
pub mod worker;
