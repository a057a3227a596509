//! The WebSocket library, over real sockets: against itself, against tungstenite, and against peers that send
//! whatever bytes a test wants.

#![allow(clippy::unwrap_used)]

mod harness;

mod bad_clients;
mod bad_servers;
mod close;
mod heartbeat;
mod listen;
mod messages;
mod reconnect;
mod tls;
mod writers;
