//! The way to the server: its URL and address, whom TLS trusts, and a connection that waits for its answers.

pub mod security;
pub mod target;
pub mod wire;
