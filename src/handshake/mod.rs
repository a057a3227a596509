//! Handshakes: everything that happens once for each connection, before it is a WebSocket.
//!
//! An [`Acceptor`] has a thread of its own, beside the shards. It accepts connections and serves each in a task: TLS
//! handshake, request head, and then either a response, or the hand-over to a shard as an [`Admission`]. Requests are
//! parsed by [`uproar_protocol`]; what the response depends on comes from [`HandshakeServices`]. An acceptor sends no
//! WebSocket messages, with one exception: when the server is full it tells the client so, because no shard can.
//!
//! In the order in which a connection passes through them:
//!
//! - `acceptor` accepts it; `pending` chooses which connection is closed when there are too many;
//! - `request` reads its request from `connection`, which includes TLS; `route` decides which `endpoint` it is for,
//!   `query` has what the client says about itself, `origin` checks the page;
//! - `proxies` says which proxies are trusted; they tell the client's address by `proxy_protocol` or in fields that
//!   `forwarded` reads, and `crowd` counts the connection for that address;
//! - `upgrade` reserves a slot in the queue of a shard, which `hand_over` chooses, and makes the `admission`;
//! - `answer` tells the client why it is rejected, `operator_log` the operator;
//! - `services` is the interface to the rest of the server, `intake` tells acceptors to drain and to stop.

mod acceptor;
mod admission;
mod answer;
mod connection;
mod crowd;
pub mod endpoint;
mod forwarded;
mod hand_over;
mod intake;
mod operator_log;
pub mod origin;
mod pending;
mod proxies;
mod proxy_protocol;
mod query;
mod request;
mod resource;
pub mod route;
mod services;
mod token;
mod upgrade;

pub use acceptor::Acceptor;
pub use admission::{Admission, UpgradeRequest};
pub use hand_over::{ADMISSIONS_MAX, Admissions, HandOver};
pub use intake::Intake;
pub use proxies::ProxyPolicy;
pub use query::UpgradeQuery;
pub use services::{AuthorizationRefusal, HandshakeEvent, HandshakeLimits, HandshakeServices};
