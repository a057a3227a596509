//! HTTP, WebSocket and TLS as values: bytes go in, events and bytes come out.
//!
//! Nothing here reads, writes, waits or looks at a clock, so the same code serves acceptors, shards, coroutines, a load
//! generator and tests. [`head`] finds the end of a request and parses it, [`authority`] parses its `Host`,
//! [`response`] encodes the response, and [`field`] checks its fields. [`upgrade`] is the opening handshake of both
//! sides; a client begins with a [`url`]. [`frames`] reads and encodes the frames of a WebSocket, and [`tls`] lies below
//! all of it where the bytes are encrypted. [`connection`] is one endpoint with all of that: its events, its queue, its end.

pub mod authority;
pub mod connection;
pub mod field;
pub mod frames;
pub mod head;
pub mod response;
pub mod tls;
pub mod upgrade;
pub mod url;
