//! nginx and HAProxy in front of servers, configured as the documentation and `contrib` say. It needs both programs,
//! which
//! `scripts/test` installs.

#![allow(clippy::unwrap_used)]

mod addresses;
mod cluster;
mod programs;
