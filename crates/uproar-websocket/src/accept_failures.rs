//! Pauses after a failed accept, and logs at most one line a second.

use std::io;
use std::time::{Duration, Instant};

use tokio::time::sleep;

/// The pause after a failed accept. The usual cause, too many open files, lasts longer, and 20 attempts a second cost
/// nothing.
const PAUSE: Duration = Duration::from_millis(50);

/// The least time between two lines of the log.
const LOG_INTERVAL: Duration = Duration::from_secs(1);

/// The failed accepts of a listener. Keeps a lasting failure from filling the log.
///
/// [`listen`](crate::listen) and [`serve`](crate::serve) use it; so can a program that accepts by itself.
#[derive(Debug, Default)]
pub struct AcceptFailures {
    last_logged: Option<Instant>,
    /// Failures that were not logged since the last line.
    left_out: u64,
}

impl AcceptFailures {
    /// Logs a failure, or counts it for the next line, and waits until another attempt makes sense: 50 ms.
    pub async fn wait_out(&mut self, error: &io::Error) {
        if self.last_logged.is_none_or(|last| last.elapsed() >= LOG_INTERVAL) {
            tracing::warn!(
                %error,
                failures = self.left_out + 1,
                "cannot accept connections; if there are too many open files, raise their limit (ulimit -n)"
            );
            self.last_logged = Some(Instant::now());
            self.left_out = 0;
        } else {
            self.left_out += 1;
        }
        sleep(PAUSE).await;
    }
}
