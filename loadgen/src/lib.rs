//! `loadgen` answers one question: when one member of a room speaks, how long until each of the others
//! has it?
//!
//! A run flows downwards through these modules, and imports point the same way:
//!
//! ```text
//! cli → options → preflight (security, probe) → plan (schedule, rooms) → find_max
//!                                       │
//!                                      run ───────► results/{text,json,csv,hlog,hgrm}
//!                                      │ ▲                      ▲
//!                     one thread a core│ │report      merged → assembly (validity, threshold) → outcome
//!                                      ▼ │
//!                       churn, crowd ◄─ worker
//!                               │
//!     ring, transport (TLS) ◄───┴──► client (upgrade, frames, join, chat, presence) ─► measure (truth)
//! ```
//!
//! It is open loop: broadcast k is due at `start + k / rate` whatever the server does, and carries that
//! intended time in its payload, so every receiver can tell its latency without sharing anything with
//! the sender. A thread owns its clients, the ring that serves them and the histograms that they fill;
//! threads talk to the main thread through a channel, once a second and at the end.
//!
//! What a run has saved is read back by [`saved`], for [`page`], which shows one run or many on one page, and
//! for [`compare`], which judges whether two sets of runs differ. [`baseline`] keeps runs under a name, and
//! [`ab`] makes them on fresh servers and compares them.
#![forbid(unsafe_code)]

pub mod ab;
pub mod assembly;
pub mod baseline;
pub mod busy;
pub mod chat;
pub mod churn;
pub mod cli;
pub mod client;
pub mod clock;
pub mod compare;
pub mod context;
pub mod core_time;
pub mod crowd;
pub mod error;
pub mod find_max;
pub mod interrupt;
pub mod intervals;
pub mod join;
pub mod measure;
pub mod merged;
pub mod options;
pub mod outcome;
pub mod page;
pub mod payload;
pub mod plan;
pub mod preflight;
pub mod presence;
pub mod probe;
pub mod process_group;
pub mod progress;
pub mod provenance;
pub mod quantiles;
pub mod report;
pub mod results;
pub mod rooms;
pub mod run;
pub mod saved;
pub mod schedule;
pub mod security;
pub mod server_command;
pub mod server_process;
pub mod socket;
pub mod stages;
pub mod target;
pub mod threshold;
pub mod transport;
pub mod truth;
pub mod validity;
pub mod wire;
pub mod worker;
