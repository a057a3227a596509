//! Behaviours of the program, as a user starts it: against servers of the tests' own, and against uproar.
//!
//! They are one program, so that a run which waits lets others run meanwhile.

mod support;

mod ab;
mod compare;
mod options;
mod proofs;
mod report;
mod run;
mod several_servers;
mod strange_servers;
mod tls;
