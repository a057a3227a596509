//! Uproar lives on io_uring, and is two things.
//!
//! **A library**, [`websocket`]: WebSockets for coroutines on tokio-uring, with [`protocol`] below it and nothing of
//! the chat. [`ring`] stands on its own too: it serves sockets of any protocol, and the load generator uses it for
//! its clients. A program that wants no more turns off the feature `server`:
//!
//! ```toml
//! uproar = { path = "…", default-features = false }
//! ```
//!
//! **A server** for chat and broadcast, with the feature `server`, which is on by default: the module of that name
//! begins with how it works, and how a program runs it by itself. `ARCHITECTURE.md` has the map, the invariants by
//! name, and what is deliberately absent.

mod accept_failures;
pub mod connection_id;
pub mod frame;
pub mod log_limit;
pub mod protocol;
pub mod ring;
pub mod websocket;

#[cfg(feature = "server")]
pub mod accounts;
#[cfg(feature = "server")]
pub mod address;
#[cfg(feature = "server")]
pub mod certificate;
#[cfg(feature = "server")]
pub mod cli;
#[cfg(feature = "server")]
pub mod clock;
#[cfg(feature = "server")]
pub mod config;
#[cfg(feature = "server")]
pub mod dialect;
#[cfg(feature = "server")]
pub mod handshake;
#[cfg(feature = "server")]
pub mod hub;
#[cfg(feature = "server")]
pub mod log_queue;
#[cfg(feature = "server")]
pub mod log_text;
#[cfg(feature = "server")]
pub mod logging;
#[cfg(feature = "server")]
pub mod memory;
#[cfg(feature = "server")]
pub mod mesh;
#[cfg(feature = "server")]
pub mod metrics;
#[cfg(feature = "server")]
pub mod page;
#[cfg(feature = "server")]
pub mod permit;
#[cfg(feature = "server")]
pub mod preflight;
#[cfg(feature = "server")]
pub mod server;
#[cfg(feature = "server")]
pub mod shard;
#[cfg(feature = "server")]
pub mod storage;
