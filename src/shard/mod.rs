//! One shard: the part of the server that runs on one core.

pub mod lobby;
pub mod permit;
