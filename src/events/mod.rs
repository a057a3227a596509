//! What happens on this node, for those who watch it: the HTTP API's `/events`, and programs that embed the server.
//!
//! Shards put each [`Event`] into a bounded queue of their own ([`EventSender`]), and never wait: an event that does not fit
//! is counted, and a connection that has ended is kept in any case ([`EndedConnections`]). One [`EventCollector`] takes the
//! events of all shards, on a thread that serves no clients, and appends them to the [`EventLog`], which keeps the last
//! [`EVENTS_KEPT`]. A reader ([`EventReader`]) is a cursor into that log and has no queue, so a slow one costs nothing; it
//! finds a [`Event::Gap`] where it has fallen behind, or where a queue was full.
//!
//! The events of a room are in the room's order, and so are those of a connection. Others may be interleaved.
//!
//! Where nobody watches, a shard has no sender, and an event costs a look at an `Option`.

mod collector;
mod connection;
mod ended;
mod event;
mod log;
mod reader;

pub use collector::{EVENTS_WAITING_MAX, EventCollector, EventSender, open};
pub use connection::{ConnectionEnd, ConnectionFacts, ConnectionLimits, ConnectionPhase};
pub use ended::{ENDED_KEPT, EndedConnections};
pub use event::{Event, EventKind, ModerationEvent, ModerationTarget};
pub use log::{EVENTS_KEPT, EventId, EventLog, LoggedEvent, NoEventId};
pub use reader::{EventFilter, EventReader};
