//! A client that reconnects, for as long as its caller wants.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::connect::{self, ConnectOptions, connect};
use super::error::ConnectError;
use super::options::{OptionError, check, check_time};
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
    /// The delay after so many failures since the last success, with a jitter of `fraction`, from 0 to below 1:
    /// from half of the delay to all of it, so that clients that were lost together do not come back together.
    fn delay(&self, failures: u32, fraction: f64) -> Duration {
        let doubled = 2_u32.checked_pow(failures.saturating_sub(1));
        let delay = doubled.and_then(|factor| self.first.checked_mul(factor)).unwrap_or(self.max);
        delay.min(self.max).mul_f64(0.5 + fraction / 2.0)
    }

    fn check(&self) -> Result<(), OptionError> {
        check_time("backoff.first", self.first)?;
        check_time("backoff.max", self.max)?;
        check("backoff.first", self.first, self.first <= self.max, "at most backoff.max")
    }
}

/// When to try: what has become of attempts goes in, and when the next one is due comes out.
#[derive(Debug)]
struct Attempts {
    backoff: Backoff,
    /// How many have failed since the last success.
    failures: u32,
    /// When the next one is due; `None` until somebody waits for it.
    due: Option<Instant>,
}

impl Attempts {
    /// The first is due at once.
    fn new(now: Instant) -> Self {
        Self { backoff: Backoff::default(), failures: 0, due: Some(now) }
    }

    /// When the next one is due. A second call continues the delay of the first.
    fn due(&mut self, now: Instant, fraction: f64) -> Instant {
        *self.due.get_or_insert_with(|| now + self.backoff.delay(self.failures, fraction))
    }

    /// The next one is due after this delay.
    fn delay_next(&mut self, now: Instant, delay: Duration) {
        self.due = now.checked_add(delay);
    }

    fn begin(&mut self) {
        self.due = None;
    }

    fn fail(&mut self) -> u32 {
        self.failures = self.failures.saturating_add(1);
        self.failures
    }

    fn succeed(&mut self) {
        self.failures = 0;
    }
}

/// Says whether to give up.
type Stop = Box<dyn FnMut(u32, &ConnectError) -> bool>;

/// Connects again and again.
///
/// ```no_run
/// use uproar_websocket::{ConnectOptions, Reconnecting};
///
/// tokio_uring::start(async {
///     let mut client = Reconnecting::new("ws://127.0.0.1:8080/echo", ConnectOptions::default())?
///         .stop_when(|failures, error| {
///             eprintln!("attempt {failures}: {error}");
///             failures >= 10
///         });
///     while let Some(mut socket) = client.next().await {
///         while let Ok(Some(message)) = socket.read().await {
///             println!("{message:?}");
///         }
///     }
///     Ok::<(), uproar_websocket::ConnectError>(())
/// })?;
/// # Ok::<(), uproar_websocket::ConnectError>(())
/// ```
pub struct Reconnecting {
    url: String,
    options: ConnectOptions,
    attempts: Attempts,
    /// Asked after each failure whether to stop.
    stop: Stop,
}

impl std::fmt::Debug for Reconnecting {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Reconnecting")
            .field("url", &self.url)
            .field("attempts", &self.attempts)
            .finish_non_exhaustive()
    }
}

impl Reconnecting {
    /// A client that never gives up.
    ///
    /// # Errors
    ///
    /// A [`ConnectError`] for a URL, an option or a field with which no attempt could succeed.
    pub fn new(url: impl Into<String>, options: ConnectOptions) -> Result<Self, ConnectError> {
        let url = url.into();
        connect::check(&url, &options)?;
        Ok(Self { url, options, attempts: Attempts::new(Instant::now()), stop: Box::new(|_, _| false) })
    }

    /// Waits otherwise than by default.
    ///
    /// # Errors
    ///
    /// [`ConnectError::Option`] for delays of zero or above a year, and for a first one above the longest.
    pub fn backoff(mut self, backoff: Backoff) -> Result<Self, ConnectError> {
        backoff.check()?;
        self.attempts.backoff = backoff;
        Ok(self)
    }

    /// Gives up when `stop` says so. It is asked after each attempt that failed, with how many have failed since
    /// the last success, and why.
    #[must_use]
    pub fn stop_when(mut self, stop: impl FnMut(u32, &ConnectError) -> bool + 'static) -> Self {
        self.stop = Box::new(stop);
        self
    }

    /// Waits for so long before the next attempt, instead of the usual delay: a server that closes many clients may have
    /// told each of them when to come back, as `reconnect` of Uproar's chat does.
    pub fn delay_next(&mut self, delay: Duration) {
        self.attempts.delay_next(Instant::now(), delay);
    }

    /// The next socket; `None` when it has given up. The first attempt is made at once, and each other one after
    /// a delay, also when the connection before was a good one: a server that accepts and then fails is spared.
    ///
    /// It can be dropped at any time, as in `select!`, which ends an attempt that is under way. The next call
    /// waits for what is left of the delay.
    pub async fn next(&mut self) -> Option<Socket> {
        loop {
            sleep_until(self.attempts.due(Instant::now(), random::fraction())).await;
            self.attempts.begin();
            match connect(&self.url, &self.options).await {
                Ok(socket) => {
                    self.attempts.succeed();
                    return Some(socket);
                }
                Err(error) => {
                    let failures = self.attempts.fail();
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

    /// The delay before the next attempt, in seconds, when all of the jitter is added.
    fn delay(attempts: &mut Attempts) -> f64 {
        let now = Instant::now();
        let due = attempts.due(now, 1.0);
        attempts.begin();
        (due - now).as_secs_f64()
    }

    #[test]
    fn the_first_attempt_is_due_at_once() {
        let now = Instant::now();
        assert_eq!(Attempts::new(now).due(now, 0.5), now);
    }

    #[test]
    fn a_delay_that_the_server_has_asked_for_counts_once() {
        let mut attempts = Attempts::new(Instant::now());
        attempts.begin();
        let now = Instant::now();
        attempts.delay_next(now, Duration::from_millis(17));
        assert_eq!(attempts.due(now, 1.0), now + Duration::from_millis(17));
        attempts.begin();
        assert_eq!((attempts.fail(), delay(&mut attempts)), (1, 1.0));
    }

    #[test]
    fn delays_double_from_1_s_to_30_s_and_begin_anew_after_a_success() {
        let mut attempts = Attempts::new(Instant::now());
        attempts.begin();
        let mut failing = |count: u32| -> Vec<f64> {
            (1..=count)
                .map(|failure| {
                    assert_eq!(attempts.fail(), failure);
                    delay(&mut attempts)
                })
                .collect()
        };
        assert_eq!(failing(8), [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0]);
        attempts.succeed();
        // A connection that was lost is waited for as one that failed once.
        assert_eq!(delay(&mut attempts), 1.0);
        assert_eq!((attempts.fail(), delay(&mut attempts)), (1, 1.0));
        assert_eq!((attempts.fail(), delay(&mut attempts)), (2, 2.0));
        attempts.failures = u32::MAX;
        assert_eq!((attempts.fail(), delay(&mut attempts)), (u32::MAX, 30.0));
    }

    #[test]
    fn jitter_takes_up_to_half_of_a_delay() {
        let (backoff, second) = (Backoff::default(), Duration::from_secs(1));
        assert_eq!(
            [0.0, 0.5, 1.0].map(|fraction| backoff.delay(3, fraction)),
            [2 * second, 3 * second, 4 * second]
        );
    }

    #[test]
    fn a_second_call_continues_the_delay_of_the_first() {
        let begin = Instant::now();
        let mut attempts = Attempts::new(begin);
        attempts.begin();
        attempts.fail();
        let due = attempts.due(begin, 0.0);
        assert_eq!(due, begin + Duration::from_millis(500));
        assert_eq!(attempts.due(begin + Duration::from_millis(400), 0.9), due);
    }

    #[test]
    fn delays_that_cannot_be_are_refused() {
        let (second, year) = (Duration::from_secs(1), Duration::from_secs(365 * 24 * 60 * 60));
        let refusal = |first, max| Backoff { first, max }.check().map_err(|error| error.to_string());
        assert_eq!(refusal(second, second), Ok(()));
        assert_eq!(refusal(year, year), Ok(()));
        for (first, max, error) in [
            (Duration::ZERO, second, "first is 0ns: it must be longer than zero, and at most a year"),
            (
                second,
                Duration::MAX,
                "max is 18446744073709551615.999999999s: it must be longer than zero, and at most a year",
            ),
            (2 * second, second, "first is 2s: it must be at most backoff.max"),
        ] {
            assert_eq!(refusal(first, max), Err(format!("the option backoff.{error}")));
        }
    }
}
