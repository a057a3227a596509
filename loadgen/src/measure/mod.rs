//! What a thread measures: its record of broadcasts and deliveries, who is to receive them, and in which order.
//!
//! Nothing here is shared between threads, and a receipt allocates nothing.

pub mod broadcast;
pub mod counts;
pub mod openings;
pub mod pairs;
pub mod presence;
pub mod recorder;
pub mod stages;
pub mod truth;

/// The length of an interval of the log.
pub const INTERVAL_NS: u64 = 1_000_000_000;
