//! The server: chat and broadcast over io_uring, one thread for each core.
//!
//! [`server`] explains how it works, and how a program can embed it. It stands on two crates: `uproar_ring` (sockets over
//! io_uring) and `uproar_protocol` (HTTP, WebSocket and TLS as values). A third one, `uproar_websocket`, is a WebSocket
//! library for coroutines on tokio-uring. `ARCHITECTURE.md` has the map, the invariants by name, and what is absent on
//! purpose.

pub mod access_log;
pub mod accounts;
pub mod address;
pub mod api;
pub mod certificate;
pub mod cli;
pub mod clock;
pub mod cluster;
pub mod config;
pub mod dialect;
pub mod events;
pub mod handshake;
pub mod kept_requests;
pub mod log_limit;
pub mod log_queue;
pub mod log_text;
pub mod logging;
pub mod mail;
pub mod memory;
pub mod mesh;
pub mod metrics;
pub mod moderation;
pub mod name;
pub mod page;
pub mod pattern;
pub mod permit;
pub mod preflight;
pub mod return_slots;
pub mod rooms;
pub mod server;
pub mod sessions;
pub mod shard;
pub mod storage;
pub mod tokens;
pub mod topics;
