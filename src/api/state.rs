//! What all handlers share.

use std::sync::Arc;

use tokio::sync::Semaphore;

use super::access::AccessPolicy;
use super::body::BodyBudget;
use super::idempotency::Outcomes;
use super::limits::ApiLimits;
use super::link::MeshLink;
use super::publishing::Publisher;
use super::shard_loads::ShardLoads;
use crate::events::EventLog;
use crate::metrics::Metrics;
use crate::moderation::Moderation;
use crate::rooms::Directory;

/// What handlers share.
#[derive(Clone, Debug)]
pub(super) struct Api(pub(super) Arc<ApiState>);

#[derive(Debug)]
pub(super) struct ApiState {
    pub(super) access: AccessPolicy,
    pub(super) bodies: BodyBudget,
    pub(super) outcomes: Outcomes,
    pub(super) link: MeshLink,
    pub(super) publisher: Publisher,
    pub(super) directory: Directory,
    pub(super) events: EventLog,
    pub(super) metrics: Metrics,
    pub(super) loads: Arc<ShardLoads>,
    pub(super) limits: ApiLimits,
    pub(super) moderation: Moderation,
    /// A permit for each request that is being carried out: see [`WORKS_MAX`](super::outcome::WORKS_MAX).
    pub(super) works: Arc<Semaphore>,
    /// A permit for each order to all shards: see [`ORDERS_MAX`](super::orders::ORDERS_MAX).
    pub(super) order_room: Semaphore,
}
