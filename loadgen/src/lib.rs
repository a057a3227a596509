//! `loadgen` answers one question: when one member of a room speaks, how long until each of the others
//! has it?
//!
//! A run flows downwards through these modules, and imports point the same way:
//!
//! ```text
//! cli → preflight → plan (schedule) → run ──────► results/{text,json,hlog,hgrm}
//!                                      │ ▲                      ▲
//!                     one thread a core│ │report      merged → assembly (validity, quantiles) → outcome
//!                                      ▼ │
//!                             ring ◄─ worker ─► client (upgrade, frames, chat, payload) ─► measure (truth)
//! ```
//!
//! Beside it stand [`compare`], which judges stored runs, [`baseline`], which keeps them, and [`ab`], which
//! makes them on fresh servers and compares them.
//!
//! It is open loop: broadcast k is due at `start + k / rate` whatever the server does, and carries that
//! intended time in its payload, so every receiver can tell its latency without sharing anything with
//! the sender. A thread owns its clients, the ring that serves them and the histograms that they fill;
//! threads talk to the main thread through a channel, once a second and at the end.
#![forbid(unsafe_code)]

pub mod ab;
pub mod assembly;
pub mod baseline;
pub mod busy;
pub mod chat;
pub mod cli;
pub mod client;
pub mod clock;
pub mod compare;
pub mod error;
pub mod frames;
pub mod intervals;
pub mod measure;
pub mod merged;
pub mod outcome;
pub mod payload;
pub mod plan;
pub mod preflight;
pub mod process_group;
pub mod progress;
pub mod provenance;
pub mod quantiles;
pub mod report;
pub mod results;
pub mod run;
pub mod schedule;
pub mod server_command;
pub mod server_process;
pub mod socket;
pub mod target;
pub mod truth;
pub mod upgrade;
pub mod validity;
pub mod worker;
