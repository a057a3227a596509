//! `loadgen` answers one question: when one member of a room speaks, how long until each of the others
//! has it?
//!
//! Imports point downwards through this map, and nothing but `main` knows the command line:
//!
//! ```text
//! cli                                            what was asked for
//! ab, page, compare, run                         the commands
//! preflight                                      whether a run can begin
//! merge, results, saved                          threads' records → an outcome → files → read back
//! clients, outcome, server                       clients that measure, the result, the measured server
//! measure                                        what a thread records
//! plan                                           who speaks, and when: decided before a run
//! network, options                               where the server is, and how a run is asked for
//! dialect, timings, clock, numbers, error        known to all
//! ```
//!
//! A run begins in [`run`]: it starts a thread a core, each with a [`clients::worker`] that turns a
//! [`clients::crowd`] of [`clients::client`]s over one ring. Their receipts go into a [`measure::recorder`]; what all
//! threads report is put together by [`merge`] and judged by [`outcome::validity`].
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
