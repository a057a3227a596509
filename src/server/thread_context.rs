//! The values that all threads of a server share, and their reports to the leading thread.

use tokio::sync::{mpsc, watch};

use super::error::ServerError;
use crate::clock::Clock;
use crate::config::Config;
use crate::metrics::Metrics;
use crate::moderation::Moderation;
use crate::rooms::Directory;
use crate::shard::SessionSettings;
use crate::shard::stage::Stage;
use crate::tokens::TokenChecker;

/// The parameters of all shards and acceptors.
#[derive(Clone)]
pub(super) struct ThreadContext {
    pub(super) config: Config,
    pub(super) directory: Directory,
    pub(super) metrics: Metrics,
    pub(super) clock: Clock,
    /// Checks tokens with the keys in use.
    pub(super) tokens: TokenChecker,
    /// The bans and mutes in force.
    pub(super) moderation: Moderation,
    /// How users come back; `None` where they cannot.
    pub(super) sessions: Option<SessionSettings>,
    /// The stage that the shards have to reach.
    pub(super) stage: watch::Receiver<Stage>,
    pub(super) reports: ThreadReports,
}

impl ThreadContext {
    /// Reports the end of the calling thread: as `panicked`, unless it reports another outcome.
    pub(super) fn report_end(&self, panicked: ServerError) -> ThreadEnd {
        ThreadEnd { reports: self.reports.clone(), outcome: Some(Err(panicked)) }
    }
}

/// A report of a thread to the leading thread.
pub(super) enum ThreadReport {
    /// A shard or an acceptor is ready to serve.
    Ready,
    /// An acceptor has stopped handing connections over.
    AcceptorDrained(usize),
    /// A shard has reached a stage.
    StageReached(usize, Stage),
    /// A thread has ended.
    Ended(Result<(), ServerError>),
}

/// Sends reports to the leading thread. The channel closes with the last thread that has one.
#[derive(Clone)]
pub(super) struct ThreadReports(mpsc::UnboundedSender<ThreadReport>);

impl ThreadReports {
    /// The sender, and the receiver for the leading thread.
    pub(super) fn new() -> (Self, mpsc::UnboundedReceiver<ThreadReport>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Self(sender), receiver)
    }

    pub(super) fn send(&self, report: ThreadReport) {
        // Fails when the leading thread has ended the server already.
        let _ = self.0.send(report);
    }
}

/// Reports the end of a thread when it is dropped.
pub(super) struct ThreadEnd {
    reports: ThreadReports,
    /// Present until it is reported.
    outcome: Option<Result<(), ServerError>>,
}

impl ThreadEnd {
    pub(super) fn report(mut self, outcome: Result<(), ServerError>) {
        self.outcome = Some(outcome);
    }
}

impl Drop for ThreadEnd {
    fn drop(&mut self) {
        if let Some(outcome) = self.outcome.take() {
            self.reports.send(ThreadReport::Ended(outcome));
        }
    }
}
