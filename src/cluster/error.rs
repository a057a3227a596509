//! Why a server does not take part in its cluster.

use std::io;
use std::time::Duration;

use thiserror::Error;
use uproar_cluster::End;
use uproar_cluster::client::ConnectError;

use crate::rooms::LogEnd;

/// Why a server could not begin as a node.
#[derive(Debug, Error)]
pub enum ClusterError {
    /// The log could not be read in time.
    #[error(
        "this server could not begin in the cluster at {redis} within {} s: {trouble}; see uproar check",
        within.as_secs()
    )]
    Late {
        /// Where Redis is.
        redis: String,
        /// The time.
        within: Duration,
        /// What it was waiting for.
        trouble: String,
    },
    /// The log is at its end for this node.
    #[error(transparent)]
    Ended(#[from] ClusterEnd),
    /// Redis could not be asked.
    #[error("cannot ask the Redis of the cluster: {0}")]
    Redis(#[from] ConnectError),
    /// The thread could not be started.
    #[error("cannot start the thread of the cluster: {0}")]
    Thread(io::Error),
    /// The thread has ended.
    #[error("the thread of the cluster has failed")]
    Failed,
}

impl ClusterError {
    /// True when a server that has been a node may begin anew.
    #[must_use]
    pub fn may_begin_anew(&self) -> bool {
        match self {
            Self::Ended(end) => end.may_begin_anew(),
            // It was there before, and is waited for.
            Self::Late { .. } | Self::Redis(_) => true,
            Self::Thread(_) | Self::Failed => false,
        }
    }

    /// What this is to the shards.
    pub(super) fn log_end(&self) -> LogEnd {
        match self {
            Self::Ended(ClusterEnd::Fenced) => LogEnd::Fenced,
            _ => LogEnd::PlaceLost,
        }
    }
}

/// Why a node is at its end.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ClusterEnd {
    /// It was silent for too long.
    #[error(
        "the other servers of the cluster have declared this one gone, because it was silent for more than 10 s"
    )]
    Fenced,
    /// Another process has its name.
    #[error("another server has begun with the name {0} of this one; give each its own --node")]
    Replaced(String),
    /// It has missed something.
    #[error(
        "the log of the cluster has lost what this server has seen, or has not kept what it has not read; it begins anew"
    )]
    OtherLog,
    /// It cannot take part.
    #[error("this server cannot take part in the cluster: {0}")]
    Refused(String),
}

impl ClusterEnd {
    /// `None` where it has left in order.
    pub(super) fn of(end: End, node: &str) -> Option<Self> {
        Some(match end {
            End::Left => return None,
            End::Fenced => Self::Fenced,
            End::Replaced => Self::Replaced(node.to_owned()),
            End::OtherLog => Self::OtherLog,
            End::Refused(why) => Self::Refused(why),
        })
    }

    fn may_begin_anew(&self) -> bool {
        matches!(self, Self::Fenced | Self::OtherLog)
    }
}
