//! A model of Redis: what nodes use of it, with its errors and limits, in memory and in a time of its own.
//!
//! Scripts are not imitated: [`script`] runs them in Lua, with the commands of the model behind `redis.call`. A test
//! beside those with a real Redis holds the two against each other.
#![allow(dead_code, reason = "each of the test binaries uses a part")]

mod commands;
mod data;
pub(crate) mod redis;
mod script;
mod stream;

pub(crate) use self::redis::{Connection, Redis};
