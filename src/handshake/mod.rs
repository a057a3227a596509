//! Handshakes: everything that happens once for each connection, before it is a WebSocket.
//!
//! An [`Acceptor`] has a thread of its own, beside the shards. It accepts connections and keeps them until they leave,
//! each in a task of its own: it shakes hands where the server speaks TLS, reads the request head within its time, and
//! then either answers and ends the connection, or hands it to a shard as an [`Admission`]. What a request means is
//! decided in [`uproar_protocol`]; everything that the answer depends on comes from [`HandshakeServices`]. An acceptor
//! never speaks WebSocket, with one exception: clients that find the server full are told so here, because no shard has
//! a place for them.
//!
//! In the order in which a connection meets them:
//!
//! - `acceptor` accepts it, `pending` decides which one makes place when there are too many;
//! - `request` reads its request, from the `connection` and its TLS, and answers as `route` says;
//! - `upgrade` reserves a place with a shard, which `hand_over` chooses, and makes the `admission`;
//! - `answer` and `operator_log` say why a connection is refused, to the client and to the operator;
//! - `services` is what all of them need from the server, `intake` whether they are to go on.

mod acceptor;
mod admission;
mod answer;
mod connection;
mod hand_over;
mod intake;
mod operator_log;
pub mod origin;
mod pending;
mod request;
pub mod route;
mod services;
mod upgrade;

pub use acceptor::Acceptor;
pub use admission::Admission;
pub use hand_over::{ADMISSIONS_MAX, Admissions, HandOver};
pub use intake::Intake;
pub use services::{HandshakeEvent, HandshakeLimits, HandshakeServices};
