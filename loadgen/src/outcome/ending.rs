//! How a run came to its end.

use serde::Serialize;

/// How a run came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// As planned.
    Complete,
    /// By SIGINT, SIGTERM or SIGHUP: what had been measured until then is what there is.
    Interrupted,
    /// All clients lost their connections: the server is gone.
    ServerGone,
}
