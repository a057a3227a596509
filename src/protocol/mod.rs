//! HTTP and WebSocket as values: bytes go in, what is to be done comes out.
//!
//! Nothing here reads, writes, waits or looks at a clock, so the same code serves the acceptors, the shards, the
//! library's coroutines, the load generator and the tests. A request passes through in one direction: [`head`]
//! says where it ends and what it says and [`authority`] whom it calls, the server's `route` decides on it and
//! `origin` on the page that it comes from, [`response`] puts the answer into bytes, and [`field`] says what may
//! stand in it. [`upgrade`] is the opening handshake of both sides, with a [`url`] to
//! begin with for a client. [`frames`] reads and encodes what is said once the connection is a WebSocket, and
//! [`tls`] stands below all of it where the bytes are encrypted.

pub mod authority;
pub mod field;
pub mod frames;
pub mod head;
#[cfg(feature = "server")]
pub mod origin;
pub mod response;
#[cfg(feature = "server")]
pub mod route;
pub mod tls;
pub mod upgrade;
pub mod url;
