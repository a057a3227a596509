//! Uproar.
pub mod cli;
pub mod config;
pub mod connection_id;
pub mod frame;
pub mod logging;
pub mod metrics;
pub mod preflight;
pub mod ring;
