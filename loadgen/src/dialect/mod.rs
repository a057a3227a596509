//! The languages that loadgen speaks with a server: which there are, what a broadcast carries, and how chat clients join
//! and are written to. Bytes and values alone; nothing here connects or measures.

pub mod chat;
pub mod join;
pub mod payload;
