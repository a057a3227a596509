//! What the leading thread has of the other threads, to carry out the actions of its
//! [`Coordinator`](super::shutdown::Coordinator).

use tokio::sync::watch;
use tracing::{info, warn};
use uproar_ring::Waker;

use super::error::ServerError;
use super::listener::Listener;
use super::shutdown::{Action, Exit, Notice};
use crate::handshake::Intake;
use crate::metrics::Metrics;
use crate::shard::stage::Stage;

/// Carries the coordinator's actions to the other threads.
pub(super) struct Controls {
    pub(super) stage: ShardStage,
    pub(super) intake: watch::Sender<Intake>,
    pub(super) listener: Listener,
    pub(super) metrics: Metrics,
}

impl Controls {
    /// Carries an action out. Returns how the server ends if the action is [`Action::Exit`].
    pub(super) fn carry_out(&self, action: Action<ServerError>) -> Option<Exit<ServerError>> {
        match action {
            Action::DrainAcceptors => {
                self.metrics.set_draining();
                self.intake.send_replace(Intake::Draining);
            }
            Action::BeginStage(stage) => self.stage.begin(stage),
            Action::StopAcceptors => {
                self.intake.send_replace(Intake::Closed);
                self.listener.close();
            }
            Action::Log(Notice::ShuttingDown) => info!("shutting down"),
            Action::Log(Notice::SettleTimedOut) => warn!(
                "everyone is closed before all messages were stored and answered; if history.db is the reason, check the disk"
            ),
            Action::Log(Notice::DrainTimedOut) => {
                warn!("the drain timeout is over; closing remaining connections");
            }
            Action::Exit(exit) => return Some(exit),
        }
        None
    }
}

/// Tells all shards which stage to begin, and to stop when it is dropped.
pub(super) struct ShardStage {
    stage: watch::Sender<Stage>,
    wakers: Vec<Waker>,
}

impl ShardStage {
    pub(super) fn new(wakers: Vec<Waker>) -> (Self, watch::Receiver<Stage>) {
        let (stage, seen) = watch::channel(Stage::Serving);
        (Self { stage, wakers }, seen)
    }

    fn begin(&self, stage: Stage) {
        self.stage.send_replace(stage);
        self.wakers.iter().for_each(Waker::wake);
    }
}

impl Drop for ShardStage {
    fn drop(&mut self) {
        self.begin(Stage::Stopped);
    }
}
