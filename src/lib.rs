//! Uproar.
pub mod cli;
pub mod clock;
pub mod config;
pub mod connection_id;
pub mod dialect;
pub mod frame;
pub mod hub;
pub mod logging;
pub mod mesh;
pub mod metrics;
pub mod page;
pub mod permit;
pub mod preflight;
pub mod protocol;
pub mod ring;
pub mod server;
pub mod shard;
