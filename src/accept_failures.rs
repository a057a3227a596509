//! What follows when a connection cannot be accepted: a pause, and a line in the log, but not for each time.

use std::io;
use std::time::Duration;

use tokio::time::sleep;

use crate::log_limit::LogLimit;

/// How long accepting pauses after it has failed. What it fails for, mostly a lack of descriptors, does not
/// pass sooner, and 20 attempts a second cost nothing.
const PAUSE: Duration = Duration::from_millis(50);

/// The failed accepts of a listener. Keeps a lasting failure from filling the log.
#[derive(Debug, Default)]
pub(crate) struct AcceptFailures {
    lines: LogLimit,
}

impl AcceptFailures {
    /// Logs a failure, or counts it for the next line, and waits until another attempt makes sense.
    pub(crate) async fn wait_out(&mut self, error: &io::Error) {
        if let Some(left_out) = self.lines.allow() {
            tracing::warn!(
                %error,
                failures = left_out + 1,
                "connections cannot be accepted; where descriptors are lacking, raise their limit (ulimit -n)"
            );
        }
        sleep(PAUSE).await;
    }
}
