//! What the threads of a server share, and what they report to the main thread.

use tokio::sync::{mpsc, watch};

use super::error::ServerError;
use crate::clock::Clock;
use crate::config::Config;
use crate::metrics::Metrics;
use crate::rooms::Directory;
use crate::shard::stage::Stage;

/// What shards and acceptors are started with.
#[derive(Clone)]
pub(super) struct ThreadContext {
    pub(super) config: Config,
    pub(super) directory: Directory,
    pub(super) metrics: Metrics,
    pub(super) clock: Clock,
    /// The stage that the shards are to be in.
    pub(super) stage: watch::Receiver<Stage>,
    pub(super) reports: ThreadReports,
}

impl ThreadContext {
    /// Reports the end of the calling thread, whatever ends it: `panicked`, unless it says otherwise.
    pub(super) fn report_end(&self, panicked: ServerError) -> ThreadEnd {
        ThreadEnd { reports: self.reports.clone(), outcome: Some(Err(panicked)) }
    }
}

/// What another thread tells the main thread.
pub(super) enum ThreadReport {
    /// A shard or an acceptor is ready to serve.
    Ready,
    /// An acceptor hands nothing over any more.
    AcceptorDrained(usize),
    /// A shard has reached a stage.
    StageReached(usize, Stage),
    /// A thread has ended.
    Ended(Result<(), ServerError>),
}

/// The way to the main thread. It closes with the last thread that has one.
#[derive(Clone)]
pub(super) struct ThreadReports(mpsc::UnboundedSender<ThreadReport>);

impl ThreadReports {
    /// The way, and its end on the main thread.
    pub(super) fn new() -> (Self, mpsc::UnboundedReceiver<ThreadReport>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Self(sender), receiver)
    }

    pub(super) fn send(&self, report: ThreadReport) {
        // It fails when the main thread has ended the server already.
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
