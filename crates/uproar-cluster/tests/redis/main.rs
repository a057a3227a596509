//! The log against a real Redis, Debian's `redis-server`, started by each test.
#![allow(clippy::unwrap_used, missing_docs)]

mod append;
mod both;
mod bridge;
mod checks;
mod client;
mod ending;
mod failures;
mod formats;
#[path = "../world/mod.rs"]
mod model;
mod node;
mod observer;
mod permissions;
mod proxy;
mod recovery;
mod replicas;
mod sentinel;
mod server;
mod tls;
mod world;
