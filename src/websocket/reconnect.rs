//! A client that comes back: one socket after another, for as long as its caller wants.

use std::time::Duration;

use tokio::time::sleep;

use super::connect::{ConnectOptions, connect};
use super::error::ConnectError;
use super::random;
use super::socket::Socket;

/// How long to wait before the next attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// The delay before the first attempt after a success, 1 s. It doubles with every failure.
    pub first: Duration,
    /// What the delay grows to, 30 s.
    pub max: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { first: Duration::from_secs(1), max: Duration::from_secs(30) }
    }
}

impl Backoff {
    /// The delay after so many failures since the last success, with a jitter of `fraction`, from 0 to 1: from
    /// half of the delay to all of it, so that clients that were lost together do not come back together.
    #[must_use]
    pub fn delay(&self, failures: u32, fraction: f64) -> Duration {
        let doubled = 2_u32.checked_pow(failures).and_then(|factor| self.first.checked_mul(factor));
        let delay = doubled.map_or(self.max, |delay| delay.min(self.max));
        delay.mul_f64(0.5 + fraction.clamp(0.0, 1.0) / 2.0)
    }
}

/// Says whether to give up.
type Stop = Box<dyn FnMut(u32, &ConnectError) -> bool>;

/// Connects again and again.
///
/// ```no_run
/// use uproar::websocket::{ConnectOptions, Reconnecting};
///
/// tokio_uring::start(async {
///     let mut client = Reconnecting::new("ws://127.0.0.1:8080/echo", ConnectOptions::default())
///         .stop_when(|failures, error| {
///             eprintln!("attempt {failures}: {error}");
///             failures >= 10
///         });
///     while let Some(mut socket) = client.next().await {
///         while let Ok(Some(message)) = socket.read().await {
///             println!("{message:?}");
///         }
///     }
/// });
/// ```
pub struct Reconnecting {
    url: String,
    options: ConnectOptions,
    backoff: Backoff,
    /// Asked after each failure whether to stop.
    stop: Stop,
    /// True once an attempt was made: only the very first has no delay.
    has_begun: bool,
}

impl std::fmt::Debug for Reconnecting {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Reconnecting")
            .field("url", &self.url)
            .field("backoff", &self.backoff)
            .finish_non_exhaustive()
    }
}

impl Reconnecting {
    /// A client that never gives up.
    #[must_use]
    pub fn new(url: impl Into<String>, options: ConnectOptions) -> Self {
        Self {
            url: url.into(),
            options,
            backoff: Backoff::default(),
            stop: Box::new(|_, _| false),
            has_begun: false,
        }
    }

    /// Waits otherwise than by default.
    #[must_use]
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }

    /// Gives up when `stop` says so. It is asked after each attempt that failed, with how many have failed since
    /// the last success, and why.
    #[must_use]
    pub fn stop_when(mut self, stop: impl FnMut(u32, &ConnectError) -> bool + 'static) -> Self {
        self.stop = Box::new(stop);
        self
    }

    /// The next socket; `None` when it has given up. The first attempt is made at once, and each other one after
    /// a delay, also when the connection before was a good one: a server that accepts and then fails is spared.
    pub async fn next(&mut self) -> Option<Socket> {
        let mut failures = 0;
        loop {
            if std::mem::replace(&mut self.has_begun, true) {
                sleep(self.backoff.delay(failures.max(1) - 1, random::fraction())).await;
            }
            match connect(&self.url, &self.options).await {
                Ok(socket) => return Some(socket),
                Err(error) => {
                    failures += 1;
                    if (self.stop)(failures, &error) {
                        return None;
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_longest_and_have_jitter() {
        let backoff = Backoff::default();
        let longest: Vec<u64> = (0..8).map(|failures| backoff.delay(failures, 1.0).as_secs()).collect();
        assert_eq!(longest, [1, 2, 4, 8, 16, 30, 30, 30]);
        assert_eq!(backoff.delay(0, 0.0), Duration::from_millis(500));
        assert_eq!(backoff.delay(3, 0.5), Duration::from_secs(6));
        assert_eq!(backoff.delay(u32::MAX, 1.0), Duration::from_secs(30));
    }
}
