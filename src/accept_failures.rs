//! What follows when a connection cannot be accepted: a pause, and a line in the log, but not for each time.

use std::io;
use std::time::Duration;

use tokio::time::{Instant, sleep};

/// How long accepting pauses after it has failed. What it fails for, mostly a lack of descriptors, does not
/// pass sooner, and 20 attempts a second cost nothing.
const PAUSE: Duration = Duration::from_millis(50);

/// The shortest time between two lines of the log.
const LOG_INTERVAL: Duration = Duration::from_secs(1);

/// The failed accepts of a listener. Keeps a lasting failure from filling the log.
#[derive(Debug, Default)]
pub(crate) struct AcceptFailures {
    unlogged: u64,
    logged_at: Option<Instant>,
}

impl AcceptFailures {
    /// Logs a failure, or counts it for the next line, and waits until another attempt makes sense.
    pub(crate) async fn wait_out(&mut self, error: &io::Error) {
        if let Some(failures) = self.count(Instant::now()) {
            tracing::warn!(
                %error,
                failures,
                "connections cannot be accepted; where descriptors are lacking, raise their limit (ulimit -n)"
            );
        }
        sleep(PAUSE).await;
    }

    /// Counts a failure. Yields how many there were since the last line, when the time for another has come.
    fn count(&mut self, now: Instant) -> Option<u64> {
        self.unlogged += 1;
        if self.logged_at.is_some_and(|at| now.duration_since(at) < LOG_INTERVAL) {
            return None;
        }
        self.logged_at = Some(now);
        Some(std::mem::take(&mut self.unlogged))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lasting_failure_is_logged_once_a_second_with_its_count() {
        let (mut failures, begin) = (AcceptFailures::default(), Instant::now());
        let lines: Vec<_> = (0..41).filter_map(|attempt| failures.count(begin + attempt * PAUSE)).collect();
        assert_eq!(lines, [1, 20, 20]);
    }
}
