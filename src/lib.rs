//! The server: chat and broadcast over io_uring, one thread for each core.
//!
//! [`server`] begins with how it works, and how a program runs it by itself. Three crates below it stand on their own:
//! `uproar_ring` (sockets over io_uring), `uproar_protocol` (HTTP, WebSocket and TLS as values) and `uproar_websocket`
//! (WebSockets for coroutines on tokio-uring). `ARCHITECTURE.md` has the map, the invariants by name, and what is
//! deliberately absent.

pub mod accounts;
pub mod address;
pub mod certificate;
pub mod cli;
pub mod clock;
pub mod config;
pub mod dialect;
pub mod handshake;

pub mod log_limit;
pub mod log_queue;
pub mod log_text;
pub mod logging;
pub mod mail;
pub mod memory;
pub mod mesh;
pub mod metrics;
pub mod page;
pub mod permit;
pub mod preflight;
pub mod rooms;
pub mod server;
pub mod shard;
pub mod storage;
