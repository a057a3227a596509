//! What there is at a path.

use super::endpoint::{Dialects, Endpoint};

/// The resource at a path.
pub(super) enum Resource {
    Endpoint(Endpoint),
    Health,
    Ready,
    Metrics,
}

impl Resource {
    /// `None` where there is nothing.
    pub(super) fn of(path: &str, dialects: Dialects, has_metrics: bool) -> Option<Self> {
        Some(match path {
            "/healthz" => Self::Health,
            "/readyz" => Self::Ready,
            "/metrics" if has_metrics => Self::Metrics,
            _ => Self::Endpoint(Endpoint::of(path).filter(|endpoint| dialects.contains(endpoint.dialect()))?),
        })
    }
}
