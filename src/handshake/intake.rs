//! The command to all acceptors: serve, drain or stop.

use std::future::Future;

use tokio::sync::watch;

/// What acceptors do with connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Intake {
    /// Serve them.
    #[default]
    Open,
    /// Hand none over, and answer every request with 503 `draining`.
    Draining,
    /// Accept none, and return.
    Closed,
}

/// The current intake, for an acceptor and its tasks.
#[derive(Clone)]
pub(super) struct IntakeWatch(watch::Receiver<Intake>);

impl IntakeWatch {
    pub(super) fn new(intake: watch::Receiver<Intake>) -> Self {
        Self(intake)
    }

    pub(super) fn is_draining(&self) -> bool {
        *self.0.borrow() >= Intake::Draining
    }

    /// True also when the server has ended.
    pub(super) fn is_closed(&self) -> bool {
        *self.0.borrow() == Intake::Closed || self.0.has_changed().is_err()
    }

    /// Waits until the acceptor must stop handing over. False when the server has ended.
    pub(super) async fn draining(&self) -> bool {
        self.0.clone().wait_for(|intake| *intake >= Intake::Draining).await.is_ok()
    }

    /// Waits for an event, or until [`Intake::Closed`].
    pub(super) async fn unless_closed(&self, event: impl Future<Output = ()>) {
        let mut intake = self.0.clone();
        tokio::select! {
            () = event => {}
            _ = intake.wait_for(|intake| *intake == Intake::Closed) => {}
        }
    }
}
