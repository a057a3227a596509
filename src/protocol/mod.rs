//! The handshake as a value: bytes of a request go in, what is to be done comes out.
//!
//! Nothing here reads, writes, waits or looks at a clock, so the same code serves the lobby, the
//! WebSocket library and the tests. A request passes through in one direction: [`head`] says where it
//! ends and what it says, [`route`] decides on it, [`response`] puts the answer into bytes.

pub mod head;
pub mod response;
pub mod route;
