//! One file for each part of the interface.

pub(super) mod admin;
pub(super) mod bans;
pub(super) mod batch;
pub(super) mod broadcast;
pub(super) mod close_room;
pub(super) mod connection_orders;
pub(super) mod connections;
pub(super) mod events;
pub(super) mod health;
pub(super) mod metrics;
pub(super) mod openapi;
pub(super) mod publish;
pub(super) mod rooms;
pub(super) mod stats;
pub(super) mod users;
