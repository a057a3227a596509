//! What a thread measures: its record of broadcasts and deliveries, who is to receive them, and in which order.
//!
//! Nothing here is shared between threads, and a receipt allocates nothing.

pub mod presence;
pub mod recorder;
pub mod stages;
pub mod truth;
