//! One file for each part of the interface.

pub(super) mod health;
pub(super) mod metrics;
pub(super) mod openapi;
pub(super) mod stats;
