//! What all handlers share.

use std::sync::Arc;

use super::access::AccessPolicy;
use super::body::BodyBudget;
use super::finished::Finished;
use super::idempotency::Outcomes;
use super::link::MeshLink;
use crate::metrics::Metrics;
use crate::rooms::Directory;

/// The limits of messages, as for clients.
#[derive(Clone, Copy, Debug)]
pub struct ApiLimits {
    /// The longest content of a room's message, in bytes.
    pub message_bytes_max: usize,
    /// The longest message of a topic, in bytes.
    pub frame_bytes_max: usize,
}

/// What handlers share.
#[derive(Clone, Debug)]
pub(super) struct Api(pub(super) Arc<ApiState>);

#[derive(Debug)]
pub(super) struct ApiState {
    pub(super) access: AccessPolicy,
    pub(super) bodies: BodyBudget,
    pub(super) outcomes: Outcomes<Finished>,
    pub(super) link: MeshLink,
    pub(super) directory: Directory,
    pub(super) metrics: Metrics,
    pub(super) limits: ApiLimits,
}
