//! The options of every socket, on both sides.

use std::fmt::Debug;
use std::time::Duration;

use uproar_protocol::field::is_token;

/// The longest time that an option may name. Nobody waits for longer, and no deadline overflows.
pub(super) const TIME_MAX: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// How one side of a connection behaves.
#[derive(Clone, Debug)]
pub struct Options {
    /// The longest message that is accepted, in bytes. A longer one is answered with a close 1009. 16 MiB, because a
    /// message is held in memory until it is complete; a lower limit is better where many unknown clients connect.
    pub message_bytes_max: usize,
    /// How many bytes may wait to be sent before a writer has to wait, and be it for a slow peer. 256 KiB, some
    /// round trips of a good line. One message may exceed it.
    pub queue_bytes_max: usize,
    /// How long the end of a connection may take, from the moment at which this side's close was queued: for
    /// what was queued before it to leave, and for the peer to close, too. Then the connection is cut off. 10 s.
    pub close_timeout: Duration,
    /// Whether pings are sent to find out if the peer is still there. Not unless asked for.
    pub heartbeat: Option<Heartbeat>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            message_bytes_max: 16 * 1024 * 1024,
            queue_bytes_max: 256 * 1024,
            close_timeout: Duration::from_secs(10),
            heartbeat: None,
        }
    }
}

impl Options {
    /// Looks whether the options can be followed, as [`listen`](super::listen), [`connect`](super::connect) and
    /// [`upgrade`](super::upgrade) do: limits are at least 1, times longer than zero and at most a year, and a
    /// heartbeat's interval is shorter than its timeout.
    ///
    /// # Errors
    ///
    /// The first [`OptionError`].
    pub fn check(&self) -> Result<(), OptionError> {
        check_count("message_bytes_max", self.message_bytes_max)?;
        check_count("queue_bytes_max", self.queue_bytes_max)?;
        check_time("close_timeout", self.close_timeout)?;
        let Some(Heartbeat { interval, timeout }) = self.heartbeat else { return Ok(()) };
        check_time("heartbeat.interval", interval)?;
        check_time("heartbeat.timeout", timeout)?;
        check("heartbeat.interval", interval, interval < timeout, "shorter than heartbeat.timeout")
    }
}

/// Pings a silent peer, and ends the connection if it stays silent.
///
/// Silence is noticed only while a task reads, and is not enough by itself: only a peer that leaves a ping without an
/// answer is cut off. A peer that still takes bytes sent before the ping, however slowly, is not silent. A task that
/// only writes gets an error when the peer has taken nothing for `timeout`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heartbeat {
    /// After how much silence a ping is sent. 30 s: proxies and routers forget connections after a minute or
    /// more.
    pub interval: Duration,
    /// After how much silence the connection is ended. 75 s: two pings have gone unanswered by then.
    pub timeout: Duration,
}

impl Default for Heartbeat {
    fn default() -> Self {
        Self { interval: Duration::from_secs(30), timeout: Duration::from_secs(75) }
    }
}

/// An option with a value that it cannot have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the option {option} is {value}: it must be {allowed}")]
pub struct OptionError {
    option: &'static str,
    value: String,
    allowed: &'static str,
}

/// Refuses a value unless it `is_allowed`.
pub(super) fn check(
    option: &'static str,
    value: impl Debug,
    is_allowed: bool,
    allowed: &'static str,
) -> Result<(), OptionError> {
    if is_allowed { Ok(()) } else { Err(OptionError { option, value: format!("{value:?}"), allowed }) }
}

pub(super) fn check_count(option: &'static str, count: usize) -> Result<(), OptionError> {
    check(option, count, count > 0, "at least 1")
}

pub(super) fn check_time(option: &'static str, time: Duration) -> Result<(), OptionError> {
    let is_allowed = !time.is_zero() && time <= TIME_MAX;
    check(option, time, is_allowed, "longer than zero, and at most a year")
}

/// "The elements that comprise this value MUST be non-empty strings with characters in the range U+0021 to
/// U+007E not including separator characters [...] and MUST all be unique strings" (RFC 6455, section 4.1).
pub(super) fn check_subprotocols<S: AsRef<str>>(subprotocols: &[S]) -> Result<(), OptionError> {
    subprotocols.iter().map(AsRef::as_ref).enumerate().try_for_each(|(index, name)| {
        check("subprotocols", name, is_token(name), "names without spaces and separators, such as \"json\"")?;
        let is_first = subprotocols[..index].iter().all(|other| other.as_ref() != name);
        check("subprotocols", name, is_first, "names of which none comes twice")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_that_cannot_be_followed_are_refused_by_name() {
        let second = Duration::from_secs(1);
        let beating = |interval, timeout| Options {
            heartbeat: Some(Heartbeat { interval, timeout }),
            ..Options::default()
        };
        for (options, error) in [
            (
                Options { message_bytes_max: 0, ..Options::default() },
                "the option message_bytes_max is 0: it must be at least 1",
            ),
            (
                Options { queue_bytes_max: 0, ..Options::default() },
                "the option queue_bytes_max is 0: it must be at least 1",
            ),
            (
                Options { close_timeout: Duration::ZERO, ..Options::default() },
                "the option close_timeout is 0ns: it must be longer than zero, and at most a year",
            ),
            (
                beating(Duration::ZERO, second),
                "the option heartbeat.interval is 0ns: it must be longer than zero, and at most a year",
            ),
            (
                beating(second, second),
                "the option heartbeat.interval is 1s: it must be shorter than heartbeat.timeout",
            ),
            (
                beating(second, TIME_MAX + second),
                "the option heartbeat.timeout is 31536001s: it must be longer than zero, and at most a year",
            ),
        ] {
            assert_eq!(options.check().expect_err("refused").to_string(), error);
        }
        assert_eq!(beating(second, 2 * second).check(), Ok(()));
        assert_eq!(Options::default().check(), Ok(()));
    }

    #[test]
    fn subprotocols_are_tokens_and_all_different() {
        assert_eq!(check_subprotocols(&["json", "JSON", "a.b+c"]), Ok(()));
        for (subprotocols, end) in [
            (&["json", ""][..], "is \"\": it must be names without spaces and separators, such as \"json\""),
            (&["a b"], "is \"a b\": it must be names without spaces and separators, such as \"json\""),
            (&["a,b"], "is \"a,b\": it must be names without spaces and separators, such as \"json\""),
            (&["a", "b", "a"], "is \"a\": it must be names of which none comes twice"),
        ] {
            let error = check_subprotocols(subprotocols).expect_err("refused").to_string();
            assert_eq!(error, format!("the option subprotocols {end}"));
        }
    }
}
