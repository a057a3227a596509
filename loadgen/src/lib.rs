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
//! for [`compare`], which judges whether two sets of runs differ. [`saved::baseline`] keeps runs under a name, and
//! [`ab`] makes them on fresh servers and compares them.
#![forbid(unsafe_code)]

pub mod ab;
pub mod cli;
pub mod clients;
pub mod clock;
pub mod compare;
pub mod dialect;
pub mod error;
pub mod measure;
pub mod merge;
pub mod network;
pub mod numbers;
pub mod options;
pub mod outcome;
pub mod page;
pub mod plan;
pub mod preflight;
pub mod results;
pub mod run;
pub mod saved;
pub mod server;
pub mod timings;
