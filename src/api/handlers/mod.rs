//! One file for each part of the interface.

pub(super) mod batch;
pub(super) mod broadcast;
pub(super) mod health;
pub(super) mod metrics;
pub(super) mod openapi;
pub(super) mod publish;
pub(super) mod rooms;
pub(super) mod stats;
