//! Whether acceptors serve, drain or return.

use std::future::Future;

use tokio::sync::watch;

/// What acceptors are to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Intake {
    /// Serve.
    #[default]
    Open,
    /// Hand nothing over, and answer every request with 503 `draining`.
    Draining,
    /// Return.
    Closed,
}

/// The intake, as the tasks of an acceptor watch it.
#[derive(Clone)]
pub(super) struct IntakeWatch(watch::Receiver<Intake>);

impl IntakeWatch {
    pub(super) fn new(intake: watch::Receiver<Intake>) -> Self {
        Self(intake)
    }

    pub(super) fn is_draining(&self) -> bool {
        *self.0.borrow() >= Intake::Draining
    }

    /// True as well when the server is gone.
    pub(super) fn is_closed(&self) -> bool {
        *self.0.borrow() == Intake::Closed || self.0.has_changed().is_err()
    }

    /// Waits until nothing more is to be handed over. False when the server is gone.
    pub(super) async fn draining(&self) -> bool {
        self.0.clone().wait_for(|intake| *intake >= Intake::Draining).await.is_ok()
    }

    /// Waits for something, but not beyond [`Intake::Closed`].
    pub(super) async fn unless_closed(&self, event: impl Future<Output = ()>) {
        let mut intake = self.0.clone();
        tokio::select! {
            () = event => {}
            _ = intake.wait_for(|intake| *intake == Intake::Closed) => {}
        }
    }
}
