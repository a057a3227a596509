//! Uproar.
pub mod connection_id;
pub mod frame;
pub mod page;
pub mod protocol;
pub mod ring;
pub mod shard;
