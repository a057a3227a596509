//! Uproar, a chat and broadcast server for Linux that lives on io_uring.
//!
//! The binary is a few lines around this library: [`cli`] makes a [`config::Config`] of flags, environment
//! and file, [`preflight`] looks whether the machine can serve it, and [`server::run`] serves until it is
//! told to stop. `ARCHITECTURE.md` has the map, the invariants by name, and what is deliberately absent.
//!
//! # The flow
//!
//! A server is a set of shards, one thread on one core each. They share nothing but counters.
//!
//! ```text
//!                                    a shard
//!             ┌────────────────────────────────────────────────────────┐
//!  TCP ──────►│ lobby    accept → head → route → page, or upgrade      │  a task for each guest
//!             │                                        │ admission     │
//!             │ floor    ring ──► completion ──────────▼               │  one loop for all
//!  frames ◄──►│   ▲                  │               Shard             │
//!             │   │                  ▼                                 │
//!             │   │       connection → dialect → command               │
//!             │   │                                 │ request          │
//!             │   │                  home of the room (hub)            │◄──► mesh ◄──► other
//!             │   │                                 │ delivery         │              shards
//!             │   └─ submission ◄─ out-queues ◄─ encode once           │
//!             └────────────────────────────────────────────────────────┘
//! ```
//!
//! - [`shard::lobby`] does what happens once for each connection, with [`protocol`] to tell it what a
//!   request means.
//! - [`shard::floor`] does what happens for each message. It waits, collects completions from its [`ring`],
//!   steps the state machine [`shard::Shard`], and submits what that asks for.
//! - [`dialect`] turns messages into commands and events into bytes; [`hub`] knows rooms, and no sockets.
//!   Each room has one home shard, to which everything that changes it is sent as a [`hub::Request`], and
//!   which answers every shard that has members with a [`hub::Delivery`], through the [`mesh`].
//! - [`ring`] is the only module with unsafe code.
//!
//! Imports point downwards in this list. [`shard::Shard`], [`hub::Homes`] and everything in [`protocol`] and
//! [`dialect`] are values: bytes, events and the time go in, bytes and events come out, and nothing waits.
//!
//! # Embedding
//!
//! A program can run the server itself:
//!
//! ```no_run
//! use uproar::config::Config;
//! use uproar::{preflight, server};
//!
//! let config = Config { listen: ([127, 0, 0, 1], 0).into(), ..Config::default() };
//! config.validate()?;
//! let report = preflight::run(&config);
//! let capacity = report.capacity().ok_or_else(|| report.to_string())?;
//! server::run(&config, capacity, |address| println!("at http://{address}"))?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! It takes over SIGINT and SIGTERM, with TLS also SIGHUP, keeps the calling thread on the cores of the configuration, and returns
//! when the shutdown that the signals ask for is complete.
//!
//! [`websocket`] is a library of its own: WebSockets for coroutines on tokio-uring, with [`protocol`] below it
//! and nothing of the chat. Other parts stand on their own too: [`ring::Ring`]
//! serves sockets of any protocol, and the load generator uses it for its clients.

mod accept_failures;
pub mod accounts;
pub mod certificate;
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
pub mod storage;
pub mod websocket;
