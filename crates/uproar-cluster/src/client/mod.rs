//! The connections to Redis, and the task that drives a [`Bridge`](crate::Bridge) over them.
//!
//! The crate redis sends, receives and parses. It neither repeats a command nor ends one after a time of its own: what
//! is sent again, and how long to wait, is the bridge's to decide.

mod address;
mod checks;
mod connections;
mod driver;
mod inspect;
mod line;
mod observer;
mod permissions;
mod primary;
mod session_key;

pub use address::{AddressError, RedisAddress, without_password};
pub use checks::{Check, Finding};
pub use driver::{Given, Link, Order, Status, drive};
pub use inspect::inspect;
pub use line::ConnectError;
pub use observer::Observer;
pub use permissions::commands;
pub use session_key::session_key;
